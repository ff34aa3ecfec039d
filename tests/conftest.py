"""Shared fixtures. Nothing here names a machine: real images and weights are pointed at by EDLAB_TEST_DATA."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edlab.cache import Cache


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder with `imagenet_samples/` and `weights/`; skips where EDLAB_TEST_DATA does not point at one."""
    folder = os.environ.get("EDLAB_TEST_DATA")
    if not folder or not Path(folder, "imagenet_samples").is_dir():
        pytest.skip("EDLAB_TEST_DATA does not name a folder with imagenet_samples/ and weights/")
    return Path(folder)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """An empty cache of this test's own."""
    return Cache(tmp_path / "cache")
