"""Shared fixtures. Nothing here names a machine: real images and weights are pointed at by EDLAB_TEST_DATA."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest
from filelock import FileLock
from workplace import Workplace

from edlab.cache import Cache
from edlab.config import TrackingConfig

_LONG = (
    "test_samples", "test_detection_run", "test_run", "test_interruptions", "test_virtual_board", "test_faults",
    "test_shipped_devices", "test_inputs", "test_plugins", "test_profile", "test_meter_run", "test_broken_parts",
    "test_model_origin_conformance", "test_converter_conformance", "test_edgetpu_converter", "test_toolenv",
)  # fmt: skip


def pytest_configure() -> None:
    """Let the programs that tests start be interrupted, and measure beside those of other workers.

    A shell's background job ignores SIGINT, and hands that on. OpenMP's threads spin while they wait, which takes the
    cores from other workers.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["EDLAB_LOCK_DIR"] = tempfile.mkdtemp(prefix="edlab-locks-")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup has it ignored


def pytest_unconfigure() -> None:
    shutil.rmtree(os.environ["EDLAB_LOCK_DIR"], ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take minutes first, so that workers end together."""
    items.sort(key=lambda item: item.path.stem not in _LONG)


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
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the workers of this session share."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def shared_cache(shared_folder: Path) -> Path:
    """One cache for all workplaces, so that each model is exported once."""
    return shared_folder / "cache"


@pytest.fixture(scope="session")
def empty_database(shared_folder: Path) -> Path:
    """An MLflow database without runs: making one takes seconds, copying it none."""
    from edlab.tracking import Tracker

    folder = shared_folder / "database"
    with FileLock(shared_folder / "database.lock"):
        if not folder.exists():
            Tracker(TrackingConfig(name="mlflow", uri=f"sqlite:///{folder}/mlflow.db", experiment="template"))
    return folder / "mlflow.db"


@pytest.fixture
def workplace(tmp_path: Path, shared_cache: Path, empty_database: Path) -> Workplace:
    """A folder to use edlab in, without runs."""
    (tmp_path / "mlruns").mkdir()
    shutil.copyfile(empty_database, tmp_path / "mlruns" / "mlflow.db")
    return Workplace(tmp_path, shared_cache)
