"""What is lacking is said: by `edlab doctor`, and before a sweep begins."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from workplace import Workplace

from edlab import devices, doctor, readiness
from edlab.cache import Cache
from edlab.composition import compose_config, options
from edlab.converters.edgetpu import EdgetpuConverter
from edlab.packages import install
from edlab.record import Status


@pytest.fixture
def card(tmp_path: Path) -> str:
    """A word that gives the device an NVIDIA card by a stand-in for its driver's library."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("the stand-in for libnvidia-ml is C, and there is no cc")
    source, out = Path(__file__).parent / "agent/standins/nvml.c", tmp_path / "libnvidia-ml.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-Wall", "-Werror", str(source), "-o", str(out)], check=True)
    return f"device.env.LD_LIBRARY_PATH={tmp_path}"


def line(report: str, part: str) -> str:
    """The line of the report that is of this part."""
    return next(line for line in report.splitlines() if part in line)


def test_doctor_says_what_a_run_has(workplace: Workplace) -> None:
    result = workplace.edlab("doctor", "device=cpu", "converter=onnxruntime")
    assert result.returncode == 0, result.stdout + result.stderr
    for part in ("converter=onnxruntime", "device=cpu", "python", "numpy", "disk", "power"):
        assert part in result.stdout


def test_doctor_asks_for_the_runtime_that_the_run_needs_and_no_other(workplace: Workplace) -> None:
    """As on a GPU whose onnxruntime is built without CUDA, which is no matter to torch."""
    words = ("device=cpu", "device.runtimes={onnx:absent,pt2:torch}")
    result = workplace.edlab("doctor", *words, "converter=torch")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "runs pt2" in line(result.stdout, "cpu: torch")
    assert "absent" not in result.stdout.replace(words[1], "")
    result = workplace.edlab("doctor", *words, "converter=onnxruntime")
    assert result.returncode == 1
    assert "no runtime 'absent'" in line(result.stdout, "cpu: absent")
    assert "cpu: torch" not in result.stdout


def test_doctor_says_that_a_device_has_no_runtime_for_what_the_converter_makes(workplace: Workplace) -> None:
    result = workplace.edlab("doctor", "device=cuda", "converter=litert")
    assert result.returncode == 1
    assert "no runtime for it" in line(result.stdout, "cuda: tflite")
    assert "it supports onnx, pt2" in result.stdout


def test_the_card_is_a_fact_of_the_target_and_its_power_no_cpus(workplace: Workplace, card: str) -> None:
    result = workplace.edlab("doctor", "device=cpu", "converter=onnxruntime", card)
    assert "GPU: Stand-in Card, driver 580.1" in line(result.stdout, "✓  device=cpu")
    assert line(result.stdout, "cpu: power").endswith("not in device.sensors: nvml:0 Stand-in Card (module)")
    result = workplace.edlab("doctor", "device=cuda", "converter=onnxruntime", card)
    assert "nvml:0 Stand-in Card (module)" in line(result.stdout, "cuda: power")
    assert "not in" not in line(result.stdout, "cuda: power")


def test_the_card_is_in_the_record_of_what_a_run_ran_on(workplace: Workplace, card: str) -> None:
    device = compose_config(["device=cpu", card]).device
    with devices.connect(device, Cache(Path(workplace.environment["EDLAB_CACHE"]))) as session:
        hello = session.hello()
    assert (hello.gpu, hello.gpu_driver) == ("Stand-in Card", "580.1")


def test_doctor_names_the_mend_of_a_board_that_is_not_configured(workplace: Workplace) -> None:
    result = workplace.edlab("doctor", "device=cpu", "device.kind=ssh")
    assert result.returncode == 1
    assert "device.address is not set" in result.stdout
    assert "device.address=NAME" in result.stdout


def test_the_overview_fits_a_screen(workplace: Workplace) -> None:
    """A line for each part, and no fix for a board that nobody has."""
    workplace.environment["COLUMNS"] = "100"
    result = workplace.edlab("doctor")
    assert result.returncode == 0, result.stdout + result.stderr
    lines = result.stdout.splitlines()
    assert len(lines) < 40, result.stdout
    assert max(map(len, lines)) <= 100
    for device in options("device"):
        assert sum(f"device={device} " in each for each in lines) == 1, result.stdout
    assert "ssh NAME" not in result.stdout
    assert "edlab doctor converter=NAME device=NAME" in lines[-1]


def test_the_overview_says_what_a_device_cannot_run(workplace: Workplace) -> None:
    device = dataclasses.replace(compose_config(["device=cpu"]).device, runtimes={"onnx": "onnxruntime", "x": "absent"})
    findings = list(readiness.device(device, Cache(workplace.folder / "cache")))
    assert doctor.summary(device, findings).details.endswith("; not usable: absent")
    without = dataclasses.replace(device, runtimes={"x": "absent"})
    findings = list(readiness.device(without, Cache(workplace.folder / "cache")))
    summary = doctor.summary(without, findings)
    assert (summary.ok, summary.optional) == (False, True)
    assert "absent" in summary.details


def test_doctor_names_the_files_of_a_run_that_are_missing(workplace: Workplace) -> None:
    result = workplace.edlab("doctor", "model=file", "model.path=lost.onnx", "dataset=image_folder", "dataset.path=/no")
    assert result.returncode == 1
    assert "lost.onnx does not exist" in result.stdout
    assert "dataset.path=/no does not exist" in result.stdout


def test_doctor_refuses_a_wrong_word(workplace: Workplace) -> None:
    result = workplace.edlab("doctor", "device=cpuu")
    assert result.returncode == 2
    assert "did you mean 'cpu'?" in result.stderr


def test_a_busy_device_is_not_disturbed(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in use says by whom, and nothing is imported beside another's measurement."""
    monkeypatch.setenv("EDLAB_LOCK_DIR", workplace.environment["EDLAB_LOCK_DIR"])
    words = ["device=cpu", "device.name=busy"]
    device = compose_config(words).device
    with devices.connect(device, Cache(Path(workplace.environment["EDLAB_CACHE"]))) as session:
        session.lock()
        result = workplace.edlab("doctor", *words)
    assert result.returncode == 0, result.stdout + result.stderr
    found = line(result.stdout, "device=busy")
    assert found.startswith("–")
    assert "not checked: the machine is in use by" in found
    assert f"pid {os.getpid()}" in found
    assert "run doctor again afterwards" in found
    assert "waited" not in found
    assert "onnxruntime runs" not in result.stdout


def test_another_processor_than_the_devices_is_refused(workplace: Workplace) -> None:
    result = workplace.run("device=arm_linux", "device.kind=local", "device.machines=[sparc64]")
    (record,) = workplace.records()
    assert result.returncode == 1
    assert (record.status, record.stage) == (Status.failed, "deploy")
    assert "sparc64" in record.reason
    assert not {"latency_ms", "accuracy_top1"} & set(record.metrics)


def test_a_sweep_says_first_what_it_will_lack_and_makes_what_it_can(workplace: Workplace) -> None:
    result = workplace.run("-m", "device=cpu", "device.kind=local,ssh")
    assert result.returncode == 1
    assert "Traceback" not in result.stdout + result.stderr
    assert result.stdout.index("device.address is not set") < result.stdout.index("load model")
    local, board = workplace.records()
    assert local.status is Status.ok
    assert (board.status, board.stage) == (Status.failed, "deploy")
    assert "device.address" in board.hint
    assert board.details["conversion_check"]["agreement_top1"] == 1.0
    assert not {"latency_ms", "accuracy_top1", "throughput_ips"} & set(board.metrics)
    pulled = workplace.edlab("pull", board.run_id, "--to", "converted")
    assert pulled.returncode == 0
    assert (workplace.folder / "converted" / "model.onnx").exists()


def test_an_emulated_run_says_first_what_its_converter_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The packages of the steps before the vendor's compiler, which the run does without."""
    config = compose_config(["device=coral", "device.execution=emulated"])
    monkeypatch.setenv("PATH", str(tmp_path))  # without a compiler
    assert not readiness.preflight([config], Cache(tmp_path))
    monkeypatch.setattr(EdgetpuConverter, "missing", classmethod(lambda cls: ["litert_torch"]))
    (finding,) = readiness.preflight([config], Cache(tmp_path))
    assert finding.part == "converter=edgetpu"
    assert "litert_torch" in finding.details
    assert finding.fix == install(["edlab[litert]"])


def test_doctor_reads_a_meter_and_states_its_boundary_rate_and_resolution(workplace: Workplace) -> None:
    program = "meter.options.command=\"sh -c 'while sleep 0.1; do echo 4.5; echo 4.75; done'\""
    result = workplace.edlab("doctor", "meter=command", program, "meter.options.boundary=usb")
    assert result.returncode == 0, result.stdout + result.stderr
    found = " ".join(result.stdout.split())
    assert "W (usb)" in found
    assert "smallest step 0.25 W" in found


def test_doctor_says_what_a_meters_readings_are_not_enough_for(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    writes = "import itertools, sys, time\nwith open(sys.argv[1], 'w', buffering=1) as log:\n"
    writes += "    for n in itertools.count(): print(f'{n},5', file=log); time.sleep(0.05)"
    program = subprocess.Popen([sys.executable, "-c", writes, str(log)])
    columns = ["meter.options.time_column=1", "meter.options.watts_column=2", "meter.options.align=pattern"]
    try:
        config = compose_config(["meter=csv", f"meter.options.path={log}", "meter.options.boundary=usb", *columns])
        (finding,) = readiness.meter(config)
    finally:
        program.kill()
        program.wait()
    assert finding.ok
    assert "power is withheld (power_stuck)" in finding.details
    assert "by a load pattern, which was not tried" in finding.details


def test_doctor_says_why_a_meter_cannot_be_read(workplace: Workplace) -> None:
    result = workplace.edlab("doctor", "meter=um25c", f"meter.options.port={workplace.folder}/rfcomm0")
    assert result.returncode == 1
    assert "rfcomm0 does not exist: pair the meter, then: sudo rfcomm bind 0 ADDRESS" in " ".join(result.stdout.split())
