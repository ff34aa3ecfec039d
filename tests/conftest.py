"""Shared fixtures. Nothing here names a machine: real images and weights are pointed at by EDLAB_TEST_DATA."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from workplace import Workplace

from edlab.cache import Cache


def pytest_configure() -> None:
    """Let the programs that tests start be interrupted: a shell's background job ignores SIGINT, and hands that on."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


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


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all workplaces of this session, so that each model is exported once."""
    return tmp_path_factory.mktemp("shared") / "cache"


@pytest.fixture
def workplace(tmp_path: Path, shared_cache: Path) -> Workplace:
    """An empty folder to use edlab in."""
    return Workplace(tmp_path, shared_cache)
