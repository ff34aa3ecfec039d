"""The whole job on Arm code over SSH: an aarch64 Debian in QEMU, made by scripts/virtual_board."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from workplace import Workplace

from edlab.record import RunRecord, Status

SCRIPT = Path(__file__).parents[2] / "scripts" / "virtual_board"
CANNOT = 77  # the script's exit code where this machine cannot run one

# As few queries as a run can have: everything takes long under QEMU.
FEW = (
    "protocol.queries=1",
    "protocol.pool=1",
    "protocol.warmup.queries=1",
    "protocol.warmup.seconds=0",
    "protocol.warmup.max_seconds=1",
    "protocol.throughput.max_batch=1",
    "protocol.throughput.max_in_flight=1",
)
BOTH = ("-m", "device=cpu,virtual_board")


def script(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(SCRIPT), command], env={**os.environ, **environment}, capture_output=True, text=True, timeout=600
    )


@pytest.fixture
def ssh_config() -> Iterator[str]:
    """The ssh configuration that reaches the running board. Its files stay for the next time."""
    ran_before = script("status").returncode == 0
    started = script("start")
    if started.returncode == CANNOT:
        pytest.skip(started.stderr.strip())
    assert started.returncode == 0, started.stderr
    yield re.findall(r"EDLAB_SSH_CONFIG=(\S+)", started.stdout)[0]
    if not ran_before:
        script("stop")


# One test, for there is one board: two processes of pytest would stop it under each other.
@pytest.mark.timeout(2400)
@pytest.mark.slow
def test_aarch64_gives_the_accuracy_of_this_machine(workplace: Workplace, ssh_config: str) -> None:
    workplace.environment["EDLAB_SSH_CONFIG"] = ssh_config
    result = workplace.run(*BOTH, *FEW, "converter=litert,onnxruntime", "quantization=int8", timeout_s=1200)
    rows: dict[str, dict[tuple[str, str], RunRecord]] = {"cpu": {}, "virtual_board": {}}
    for record in workplace.records():
        assert record.status is Status.ok, result.stdout + result.stderr
        rows[record.params["device.name"]][record.params["converter.name"], record.params["quantization.name"]] = record
    assert rows["virtual_board"].keys() == rows["cpu"].keys()
    for run, on_board in rows["virtual_board"].items():
        on_cpu = rows["cpu"][run]
        assert on_board.environment["target"]["machine"] == "aarch64"
        assert "QEMU" in on_board.environment["target"]["stand_in"]
        assert on_board.tags["artifact_sha256"] == on_cpu.tags["artifact_sha256"]
        for figure in ("accuracy_top1", "accuracy_top5", "accuracy_images"):
            assert on_board.metrics[f"emulated_{figure}"] == on_cpu.metrics[figure], (run, figure)
        assert on_board.metrics["emulated_latency_max_ms"] > 0
        measured = {"accuracy_top1", "latency_max_ms", "throughput_ips", "flops_per_s", "load_ms", "peak_memory_mb"}
        assert measured <= on_cpu.metrics.keys()
        assert not measured & on_board.metrics.keys()
        assert "emulated" in {reason.code for reason in on_board.verdict.reasons}
    detects_as_well_on_both(workplace)


def detects_as_well_on_both(workplace: Workplace) -> None:
    """The embedded detector: its heads decode on aarch64 as here."""
    detector = ("model=digits_detector", "dataset.images=16", "converter=onnxruntime", "quantization=fp32,int8")
    result = workplace.run(*BOTH, *FEW, *detector, timeout_s=900)
    records = workplace.records()
    assert [record.status for record in records] == [Status.ok] * 4, result.stdout + result.stderr
    figures: dict[tuple[str, str], float] = {}
    for record in records:
        board = record.params["device.name"] == "virtual_board"
        figure = record.metrics["emulated_accuracy_map" if board else "accuracy_map"]
        figures[record.params["quantization.name"], record.params["device.name"]] = figure
    for quantization in ("fp32", "int8"):
        here = figures[quantization, "cpu"]
        assert here > 0.9
        assert figures[quantization, "virtual_board"] == pytest.approx(here, abs=0.005)


def test_a_machine_that_lacks_the_tools_is_told_so(tmp_path: Path) -> None:
    for name in ("bash", "cut", "dirname", "flock", "getent", "id", "mkdir", "realpath", "uname"):
        (tmp_path / name).symlink_to(shutil.which(name) or pytest.skip(f"not installed: {name}"))
    refused = script("start", PATH=str(tmp_path), EDLAB_CACHE=str(tmp_path / "cache"))
    assert refused.returncode == CANNOT
    assert ("missing commands: debootstrap" if os.getuid() == 0 else "needs root") in refused.stderr


@pytest.mark.skipif(os.getuid() != 0, reason="it takes root")
def test_the_cache_that_sudo_makes_is_the_users(tmp_path: Path) -> None:
    fresh = tmp_path / "fresh"
    user = {"SUDO_USER": "nobody", "SUDO_UID": "12345", "SUDO_GID": "23456"}
    script("stop", EDLAB_CACHE=str(fresh / "cache" / "edlab"), **user)
    made = [fresh, fresh / "cache", fresh / "cache" / "edlab"]
    assert [(path.stat().st_uid, path.stat().st_gid) for path in made] == [(12345, 23456)] * 3
    assert tmp_path.stat().st_uid == 0
    assert (fresh / "cache" / "edlab" / "virtual_board").stat().st_uid == 0


def test_a_board_that_was_never_made_does_not_run(tmp_path: Path) -> None:
    status = script("status", EDLAB_CACHE=str(tmp_path))
    assert (status.returncode, status.stdout) == (3, "not running\n")
