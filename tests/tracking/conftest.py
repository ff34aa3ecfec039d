"""A real MLflow: a database in a folder of the test's own, and one server that all tests share."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from mlflow_server import MlflowServer

from edlab.config import TrackingConfig
from edlab.record import Reason, RunRecord, Verdict, VerdictState
from edlab.tracking import DatasetInfo, Files


@pytest.fixture(scope="session")
def server_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an `mlflow server` on the loopback interface."""
    server = MlflowServer(tmp_path_factory.mktemp("server"))
    try:
        server.start()
        yield server.uri
    finally:
        server.end()


@pytest.fixture
def local(tmp_path: Path, empty_database: Path) -> TrackingConfig:
    """The default kind of store: a database and a folder of artifacts."""
    folder = tmp_path / "mlruns"
    folder.mkdir()
    (folder / "mlflow.db").write_bytes(empty_database.read_bytes())
    return TrackingConfig(name="mlflow", uri=f"sqlite:///{folder}/mlflow.db", experiment="edlab")


@pytest.fixture(params=["sqlite", "server"])
def config(request: pytest.FixtureRequest) -> TrackingConfig:
    """Both kinds of store."""
    if request.param == "sqlite":
        return request.getfixturevalue("local")
    return TrackingConfig(name="mlflow", uri=request.getfixturevalue("server_uri"), experiment=request.node.name[:80])


@pytest.fixture
def record() -> Callable[..., RunRecord]:
    """Makes the record of a run that ended well, each a second after the one before; keywords change it."""
    started = datetime(2025, 1, 1, 12, tzinfo=UTC)
    numbers = itertools.count()

    def make(**changes: object) -> RunRecord:
        values: dict[str, object] = {
            "name": "digits_cnn-int8-onnxruntime-cpu",
            "sweep_id": "20250101-120000-abcd",
            "started_at": (started + timedelta(seconds=next(numbers))).isoformat(),
            "params": {
                "model.name": "digits_cnn",
                "quantization.calibration.images": 64,
                "device.runtimes": {"a": "b"},
            },
            "metrics": {"accuracy_top1": 0.97, "latency_ms": 1.25},
            "missing": {"power_w": "no power sensor was found"},
            "tags": {"weights": "pretrained", "artifact_sha256": "ab" * 32},
            "verdict": Verdict(state=VerdictState.degraded, reasons=[Reason(code="tier_smoke", message="short")]),
            "environment": {"host": {"python": "3.11"}},
        }
        return RunRecord.model_validate({**values, **changes})

    return make


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """What a run leaves: two converted files, a log, latencies and plots."""
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "model.xml").write_text("<net/>")
    (folder / "model.bin").write_bytes(bytes(range(256)) * 64)
    (folder / "steps.txt").write_text("exported\nquantized\n")
    np.save(folder / "raw.npy", np.arange(100, dtype=np.int64))
    (folder / "plot").write_bytes(b"\x89PNG")
    return Files(
        converted=(folder / "model.xml", folder / "model.bin"),
        named={
            "conversion.log": folder / "steps.txt",
            "latencies.npy": folder / "raw.npy",
            "latency.png": folder / "plot",
            "throughput.png": folder / "plot",
        },
        dataset=DatasetInfo("digits", "cd" * 32, "sklearn.datasets.load_digits", {"images": 360}),
    )
