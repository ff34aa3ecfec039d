"""A recorded run answers like the device that it was recorded from, in another folder and without its runtime."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from workplace import Workplace

from edlab import devices
from edlab.agent import messages
from edlab.artifact import Artifact
from edlab.cache import Cache, sha256_files
from edlab.config import DeviceConfig
from edlab.devices import AgentSession, Pool
from edlab.errors import AgentError, ConfigError
from edlab.openssh import CONFIG_VARIABLE
from edlab.record import RunRecord
from edlab.source import Preprocessing
from edlab.testing import sshd
from edlab.testing.device import mean_network

PLAIN = Preprocessing(height=2, width=2, mean=(0, 0, 0), std=(1, 1, 1))


def warmup(session: AgentSession, pool: Pool) -> messages.WarmupReport:
    request = messages.Warmup(pool, queries=2, seconds=0.0, tolerance=0.02, max_seconds=1.0)
    return session.measure(messages.WARMUP, request)


def latency(session: AgentSession, pool: Pool, out: Path, queries: int = 5) -> None:
    request = messages.Latency(pool, queries, seconds=0, max_seconds=5, windows=10, max_interval=1.0, out=str(out))
    session.measure(messages.LATENCY, request)


def device(kind: str, recording: Path) -> DeviceConfig:
    return DeviceConfig(
        name="cpu", kind=kind, runtimes={"onnx": "onnxruntime"}, env={"EDLAB_RECORDING": str(recording)}
    )


def artifact_of(path: Path) -> Artifact:
    return Artifact(format="onnx", precision="fp32", layout="NCHW", files=(path,), sha256=sha256_files([path]))


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    np.save(tmp_path / "images.npy", np.random.default_rng(0).integers(0, 256, (5, 2, 2, 3)).astype(np.uint8))
    return Pool(str(tmp_path / "images.npy"), [4, 0, 2])


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    return artifact_of(mean_network(tmp_path / "mean.onnx"))


@pytest.fixture
def recording(tmp_path: Path, pool: Pool, artifact: Artifact) -> Path:
    """Of two agents, each asked for the same."""
    folder = tmp_path / "cpu.rec"
    for name in ("first.npy", "second.npy"):
        with devices.connect(device("record", folder), Cache(tmp_path / "cache")) as session:
            session.lock()
            session.open(artifact, PLAIN, device("record", folder))
            warmup(session, pool)
            latency(session, pool, tmp_path / name)
    return folder


def test_it_answers_as_the_device_did_and_imports_no_runtime(
    tmp_path: Path, recording: Path, pool: Pool, artifact: Artifact
) -> None:
    for name in ("first.npy", "second.npy"):
        with devices.connect(device("replay", recording), Cache(tmp_path / "cache")) as session:
            session.lock()
            assert session.hello().stand_in == "a recording, cpu.rec"
            assert session.open(artifact, PLAIN, device("replay", recording)).version
            assert warmup(session, pool).queries >= 2
            out = tmp_path / "again" / name
            out.parent.mkdir(exist_ok=True)
            shutil.copyfile(tmp_path / name, tmp_path / f"kept-{name}")
            latency(session, pool, out.with_name(name))
            libraries = Path(f"/proc/{session.process.pid}/maps").read_text()
        np.testing.assert_array_equal(np.load(out), np.load(tmp_path / f"kept-{name}"))
        assert "onnxruntime" not in libraries
        assert "python" in libraries


def test_what_was_not_recorded_is_named(tmp_path: Path, recording: Path, pool: Pool, artifact: Artifact) -> None:
    with devices.connect(device("replay", recording), Cache(tmp_path / "cache")) as session:
        with pytest.raises(AgentError, match="has no 'predict'"):
            session.predict(pool, tmp_path / "predictions.npy")
        session.open(artifact, PLAIN, device("replay", recording))
        with pytest.raises(AgentError, match="has no 'latency' with queries=7") as caught:
            latency(session, pool, tmp_path / "out.npy", queries=7)
        assert "it has queries=5" in caught.value.hint


def test_a_file_of_other_bytes_is_taken_where_only_one_of_its_name_was_recorded(
    tmp_path: Path, recording: Path, artifact: Artifact
) -> None:
    other = tmp_path / "elsewhere" / "mean.onnx"
    other.parent.mkdir()
    network = onnx.load(artifact.files[0])
    network.producer_name = "another version"
    onnx.save(network, other)
    with devices.connect(device("replay", recording), Cache(tmp_path / "cache")) as session:
        assert session.open(artifact_of(other), PLAIN, device("replay", recording)).version
    with devices.connect(device("record", recording), Cache(tmp_path / "cache")) as session:
        session.open(artifact_of(other), PLAIN, device("record", recording))
    third = other.with_name("third") / "mean.onnx"
    third.parent.mkdir()
    third.write_bytes(b"neither")
    connection = devices.connect(device("replay", recording), Cache(tmp_path / "cache"))
    with connection as session, pytest.raises(AgentError, match=r"has no 'open' with files=.*mean\.onnx"):
        session.open(artifact_of(third), PLAIN, device("replay", recording))


@pytest.mark.skipif(bool(sshd.missing()), reason=f"not installed: {sshd.missing()}")
def test_a_board_that_has_files_of_its_own_is_recorded_with_what_it_wrote(
    tmp_path: Path, pool: Pool, artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sshd.LoopbackBoard(tmp_path / "board") as board:
        monkeypatch.setenv(CONFIG_VARIABLE, str(board.config))
        real = replace(device("record", tmp_path / "rec"), address=board.host, python=sys.executable)
        with devices.connect(real, Cache(tmp_path / "cache")) as session:
            session.open(artifact, PLAIN, real)
            session.predict(pool, tmp_path / "predictions.npy")
    (tmp_path / "again").mkdir()
    with devices.connect(replace(real, kind="replay"), Cache(tmp_path / "cache")) as session:
        session.open(artifact, PLAIN, real)
        session.predict(pool, tmp_path / "again" / "predictions.npy")
    real = np.load(tmp_path / "predictions.npy")
    assert len(real) == 3
    np.testing.assert_array_equal(np.load(tmp_path / "again" / "predictions.npy"), real)


def test_an_error_of_the_device_is_recorded_too(tmp_path: Path) -> None:
    said = []
    for kind in ("record", "replay"):
        with devices.connect(device(kind, tmp_path / "rec"), Cache(tmp_path / "cache")) as session:
            with pytest.raises(AgentError) as caught:
                session.identity("no_such_toolchain", {})
            said.append((caught.value.message, caught.value.hint))
    assert said[0] == said[1]
    assert "no_such_toolchain" in said[0][0]


def test_a_folder_that_holds_no_recording_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no recording of a device") as caught:
        devices.connect(device("replay", tmp_path), Cache(tmp_path / "cache"))
    assert "device.kind=record" in caught.value.hint
    with pytest.raises(ConfigError, match="needs the folder"):
        devices.connect(DeviceConfig(name="cpu", kind="replay"), Cache(tmp_path / "cache"))


HEADLINES = {"idle_power_w", "latency_ms", "throughput_ips", "accuracy_top1", "agreement_top1", "load_ms"}


@pytest.fixture
def sysfs(tmp_path: Path) -> Iterator[Path]:
    """A rail whose watts rise, in place of /sys: load, which comes later, is above idle."""
    folder, stop = tmp_path / "sys/class/hwmon/hwmon0", threading.Event()
    folder.mkdir(parents=True)
    (folder / "name").write_text("ina226\n")
    (folder / "power1_input").write_text("2500000\n")

    def rise() -> None:
        start = time.perf_counter()
        while not stop.wait(0.01):
            scratch = folder / "new"
            scratch.write_text(f"{2_000_000 + int(50_000 * (time.perf_counter() - start))}\n")
            scratch.replace(folder / "power1_input")

    thread = threading.Thread(target=rise)
    thread.start()
    yield tmp_path / "sys"
    stop.set()
    thread.join()


def by_quantization(workplace: Workplace) -> dict[str, RunRecord]:
    return {record.params["quantization.name"]: record for record in workplace.records()}


@pytest.mark.slow
def test_a_whole_sweep_is_replayed_as_emulated_figures(
    tmp_path: Path, sysfs: Path, workplace: Workplace, shared_cache: Path, empty_database: Path
) -> None:
    recording = tmp_path / "cpu.rec"
    words = ["-m", "device=cpu", "device.sensors=[hwmon]", f"device.env.EDLAB_RECORDING={recording}"]
    words += ["power.idle_seconds=2", "power.active_seconds=6", "power.active_samples=20"]
    result = workplace.run(*words, "device.kind=record", f"device.env.EDLAB_SYSFS={sysfs}", "quantization=fp32,int8")
    assert result.returncode == 0, result.stdout + result.stderr
    measured = by_quantization(workplace)

    folder = tmp_path / "elsewhere"
    (folder / "mlruns").mkdir(parents=True)
    shutil.copyfile(empty_database, folder / "mlruns" / "mlflow.db")
    elsewhere = Workplace(folder, shared_cache)
    result = elsewhere.run(*words, "device.kind=replay", "quantization=int8,fp32")
    assert result.returncode == 0, result.stdout + result.stderr
    replayed = by_quantization(elsewhere)

    assert measured.keys() == replayed.keys() == {"fp32", "int8"}
    for name, real in measured.items():
        again = replayed[name]
        assert real.status == again.status == "ok"
        assert again.tags["stand_in"] == "a recording, cpu.rec"
        emulated = {name[9:]: value for name, value in again.metrics.items() if name.startswith("emulated_")}
        assert emulated.keys() >= HEADLINES
        assert emulated == {metric: real.metrics[metric] for metric in emulated}
        assert not emulated.keys() & again.metrics.keys()
    assert measured["fp32"].metrics["latency_ms"] != measured["int8"].metrics["latency_ms"]

    result = elsewhere.run(*words[1:], "device.kind=replay", "quantization=fp32", "protocol.queries=21")
    assert result.returncode == 1
    (failed,) = elsewhere.records()
    assert (failed.status, failed.stage) == ("failed", "measure")
    assert "has no 'latency' with queries=21" in failed.reason
