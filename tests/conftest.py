"""Shared fixtures. Nothing here names a machine: real images and weights are pointed at by EDLAB_TEST_DATA."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edlab.cache import Cache
from edlab.record import RunRecord
from edlab.sweep import read_records


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


# The shortest protocol that still runs every phase; its figures mean nothing.
FAST = (
    "protocol=smoke",
    "protocol.queries=20",
    "protocol.seconds=0.3",
    "protocol.warmup.seconds=0.2",
    "protocol.warmup.max_seconds=2",
    "protocol.throughput.probe_seconds=0.1",
    "protocol.throughput.max_in_flight=2",
)


class Workplace:
    """A folder in which `edlab` is used from the shell, as a person would; conversions are shared by the session."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder = folder
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "EDLAB_"))},
            "EDLAB_CACHE": str(cache),
            "COLUMNS": "200",
        }

    def edlab(self, *arguments: str, timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
        """Run `edlab ARGUMENTS` here and give its exit code and output."""
        return subprocess.run(
            [sys.executable, "-m", "edlab.cli", *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )

    def run(self, *words: str, timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
        """`edlab run` with the shortest protocol."""
        return self.edlab("run", *FAST, *words, timeout_s=timeout_s)

    def records(self) -> list[RunRecord]:
        """The records of the latest sweep, in the order of its runs."""
        return read_records(sorted((self.folder / "mlruns" / "sweeps").iterdir())[-1])


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all workplaces of this session, so that each model is exported once."""
    return tmp_path_factory.mktemp("shared") / "cache"


@pytest.fixture
def workplace(tmp_path: Path, shared_cache: Path) -> Workplace:
    """An empty folder to use edlab in."""
    return Workplace(tmp_path, shared_cache)
