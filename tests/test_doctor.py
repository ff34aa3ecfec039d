"""What is lacking is said: by `edlab doctor`, and before a sweep begins."""

from __future__ import annotations

import os
from pathlib import Path

from workplace import Workplace

from edlab import devices
from edlab.cache import Cache
from edlab.composition import compose_config
from edlab.record import Status


def test_doctor_says_what_a_run_has(workplace: Workplace) -> None:
    result = workplace.edlab("doctor", "device=cpu", "converter=onnxruntime")
    assert result.returncode == 0, result.stdout + result.stderr
    for part in ("converter=onnxruntime", "device=cpu", "python", "numpy", "disk", "power"):
        assert part in result.stdout


def test_doctor_names_the_mend_of_a_board_that_is_not_configured(workplace: Workplace) -> None:
    result = workplace.edlab("doctor", "device=cpu", "device.kind=ssh")
    assert result.returncode == 1
    assert "device.host is not set" in result.stdout
    assert "device.host=NAME" in result.stdout


def test_doctor_refuses_a_wrong_word(workplace: Workplace) -> None:
    result = workplace.edlab("doctor", "device=cpuu")
    assert result.returncode == 2
    assert "did you mean 'cpu'?" in result.stderr


def test_a_busy_device_is_not_disturbed(workplace: Workplace) -> None:
    """What is in use says by whom, and nothing is imported beside another's measurement."""
    words = ["device=cpu", "device.exclusive=true", "device.name=busy"]
    device = compose_config(words).device
    with devices.connect(device, Cache(Path(workplace.environment["EDLAB_CACHE"]))) as session:
        session.lock()
        result = workplace.edlab("doctor", *words)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "in use" in result.stdout
    assert f"pid {os.getpid()}" in result.stdout
    assert "onnxruntime runs" not in result.stdout


def test_another_processor_than_the_devices_is_refused(workplace: Workplace) -> None:
    result = workplace.run("device=arm_linux", "device.kind=local", "device.machines=[sparc64]")
    (record,) = workplace.records()
    assert result.returncode == 1
    assert (record.status, record.step) == (Status.failed, "deploy")
    assert "sparc64" in record.reason
    assert not {"latency_ms", "accuracy_top1"} & set(record.metrics)


def test_a_sweep_says_first_what_it_will_lack_and_makes_what_it_can(workplace: Workplace) -> None:
    result = workplace.run("-m", "device=cpu", "device.kind=local,ssh")
    assert result.returncode == 1
    assert "Traceback" not in result.stdout + result.stderr
    assert result.stdout.index("device.host is not set") < result.stdout.index("load model")
    local, board = workplace.records()
    assert local.status is Status.ok
    assert (board.status, board.step) == (Status.failed, "deploy")
    assert "device.host" in board.hint
    assert board.details["conversion_check"]["agreement_top1"] == 1.0
    assert not {"latency_ms", "accuracy_top1", "throughput_ips"} & set(board.metrics)
    pulled = workplace.edlab("pull", board.run_id, "--to", "converted")
    assert pulled.returncode == 0
    assert (workplace.folder / "converted" / "model.onnx").exists()
