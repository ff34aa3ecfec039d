"""Power from end to end, from a fake tree in place of /sys: this shows the path of a figure, not what a chip does."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conformance import install
from workplace import Workplace

from edlab import devices
from edlab.agent import messages
from edlab.cache import Cache
from edlab.config import DeviceConfig
from edlab.power import BoardSensor, Series
from edlab.record import Status, VerdictState

SHORT = ("power.idle_seconds=2", "power.active_seconds=6", "power.active_samples=20")  # a busy machine leaves gaps


class Package:
    """A RAPL package whose power rises by 0.3 W each second, so that load, which comes later, is above idle."""

    def __init__(self, zone: Path) -> None:
        zone.mkdir(parents=True)
        (zone / "name").write_text("package-0\n")
        (zone / "max_energy_range_uj").write_text("262143328850\n")
        self._counter = zone / "energy_uj"
        self._start = time.perf_counter()
        self._stop = threading.Event()
        self._count()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def end(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.001):
            self._count()

    def _count(self) -> None:
        seconds = time.perf_counter() - self._start
        scratch = self._counter.with_suffix(".new")
        scratch.write_text(f"{int((5 * seconds + 0.15 * seconds**2) * 1e6)}\n")
        scratch.replace(self._counter)


@pytest.fixture
def sysfs(tmp_path: Path) -> Iterator[Path]:
    root = tmp_path / "sys"
    package = Package(root / "class/powercap/intel-rapl:0")
    yield root
    package.end()


def test_power_goes_from_a_tree_of_files_to_the_record_which_says_so(
    sysfs: Path, tmp_path: Path, shared_cache: Path
) -> None:
    place = Workplace(tmp_path, shared_cache)
    result = place.run(f"+device.env.EDLAB_SYSFS={sysfs}", *SHORT)
    (record,) = place.records()
    assert record.status is Status.ok, result.stdout
    assert record.tags["power_boundary"] == "package"
    assert record.tags["power_source"] == f"rapl, from the files under {sysfs}"
    assert record.missing.get("power_w") is None
    assert record.metrics["power_w"] > record.metrics["idle_power_w"] > 5
    assert record.metrics["efficiency_ips_per_w"] == pytest.approx(
        record.metrics["throughput_ips"] / record.metrics["power_w"]
    )
    assert record.metrics["power_readings_dropped"] == record.metrics["power_readings_failed"] == 0
    assert record.metrics["power_ci95_low_w"] < record.metrics["power_w"] < record.metrics["power_ci95_high_w"]
    assert record.metrics["dynamic_power_w"] == record.metrics["power_w"] - record.metrics["idle_power_w"]
    assert record.missing.get("latency_power_w") is None
    assert record.metrics["idle_power_w"] < record.metrics["latency_power_w"] < record.metrics["power_w"]
    per_query_mj = record.metrics["latency_energy_per_inference_mj"]
    assert per_query_mj > 0.9 * record.metrics["latency_power_w"] * record.metrics["latency_min_ms"]
    assert record.metrics["edp_mj_ms"] == per_query_mj * record.metrics["latency_ms"]
    loss = 1 - record.metrics["accuracy_top1"]
    assert record.metrics["ledp_mj_ms"] == pytest.approx(loss * record.metrics["edp_mj_ms"])
    readings = record.details["phases"]["throughput"]["readings"]
    assert 0 < readings.pop("refresh_s") < 0.5
    assert readings == {"failed": 0, "error": "", "clock_error_ns": 0, "clock_drift": 0.0}
    assert record.verdict
    assert record.verdict.state is VerdictState.invalid
    assert "power_from_files" in [reason.code for reason in record.verdict.reasons]
    assert "the processor package (package)" in result.stdout


def test_repeats_join_all_sources_and_keep_the_readings_of_each_process(
    sysfs: Path, tmp_path: Path, shared_cache: Path
) -> None:
    chip = tmp_path / "sys/class/hwmon/hwmon0"
    chip.mkdir(parents=True)
    (chip / "name").write_text("power_meter\n")
    (chip / "power1_average").write_text("30000000\n")
    place = Workplace(tmp_path, shared_cache)
    result = place.run(f"+device.env.EDLAB_SYSFS={sysfs}", *SHORT, "power=all", "protocol.repeats=3")
    (record,) = place.records()
    assert record.status is Status.ok, result.stdout
    runs = record.details["runs"]
    assert record.metrics["power_w"] == pytest.approx(sum(run["power_w"] for run in runs) / 3)
    (other,) = record.details["power_sources"]
    assert other["source"].startswith("hwmon:power_meter")
    assert other["metrics"]["idle_power_w"] == 30
    assert "power_stuck" in other["missing"]["power_w"]
    files = {path.name for path in (place.folder / "mlruns").rglob(f"{record.run_id}/artifacts/*")}
    assert {
        "power_samples.csv",
        "power_samples_2.csv",
        "repeat_2_power_samples.csv",
        "repeat_3_power_samples_2.csv",
    } <= files
    assert "repeat_2_latencies.npy" not in files


def test_a_sensor_that_is_stuck_withholds_power_and_nothing_else(tmp_path: Path, shared_cache: Path) -> None:
    chip = tmp_path / "sys/class/hwmon/hwmon0"
    chip.mkdir(parents=True)
    (chip / "name").write_text("power_meter\n")
    (chip / "power1_average").write_text("30000000\n")
    place = Workplace(tmp_path, shared_cache)
    result = place.run(f"+device.env.EDLAB_SYSFS={tmp_path / 'sys'}", *SHORT)
    (record,) = place.records()
    assert record.status is Status.ok, result.stdout
    assert "power_w" not in record.metrics
    assert record.missing["power_w"].startswith("power_stuck: ")
    assert record.metrics["throughput_ips"] > 0
    assert record.metrics["accuracy_top1"] > 0.9
    assert record.verdict
    assert "power_stuck" in [reason.code for reason in record.verdict.reasons]


def test_a_sensor_that_dies_ends_no_phase_and_may_recover(tmp_path: Path, shared_cache: Path) -> None:
    def die() -> None:
        package.end()
        counter.unlink()

    zone = tmp_path / "class/powercap/intel-rapl:0"
    package = Package(zone)
    counter = zone / "energy_uj"
    device = DeviceConfig(name="cpu", env={"EDLAB_SYSFS": str(tmp_path)})
    with devices.connect(device, Cache(shared_cache)) as session:
        (sensor,) = session.sensors().sensors
        source = BoardSensor(session, sensor, 0.02)

        def idle(seconds: float) -> Series:
            with source:
                span = session.call(messages.IDLE, messages.Idle(seconds))
            return source.series(span.start_ns, span.end_ns)

        threading.Timer(0.3, die).start()
        dying = idle(1.0)
        assert dying.failed > 0
        assert "energy_uj" in dying.error
        assert len(dying.watts) > 0
        dead = idle(0.3)  # not one reading, and no error that would end a run
        assert dead.failed > 0
        assert len(dead.watts) == 0
        counter.write_text("9000000000\n")
        assert idle(0.3).failed <= 1  # the counter's jump is one


def test_the_doctor_names_a_sensor_that_cannot_be_used(sysfs: Path, tmp_path: Path, shared_cache: Path) -> None:
    (sysfs / "class/powercap/intel-rapl:0/max_energy_range_uj").unlink()
    place = Workplace(tmp_path, shared_cache)
    result = place.edlab("doctor", f"+device.env.EDLAB_SYSFS={sysfs}")
    told = " ".join(result.stdout.split())
    assert "rapl: 1 of 1 packages cannot be read" in told
    assert "max_energy_range_uj" in told


METER = """
import itertools

from edlab.agent.sensors.base import PowerSensor


class Meter(PowerSensor):
    def __init__(self, port):
        super().__init__("acme at %s" % port, "acme", "wall_ac")
        self._watts = itertools.count(10, 0.001)  # it rises: load, which comes later, is above idle

    def watts(self):
        return next(self._watts)
"""


def test_the_meter_of_a_package_measures_a_run(workplace: Workplace) -> None:
    package = install(workplace.folder / "acme", "acme_meter", METER, "edlab.meters: acme = acme_meter:Meter")
    path = os.environ.get("PYTHONPATH", "")
    workplace.environment["PYTHONPATH"] = f"{package}:{path}".rstrip(":")
    words = ("meter=acme", *SHORT, "power.interval_s=0.02")
    result = workplace.run(*words, "meter.options.port=usb1")
    (record,) = workplace.records()
    assert record.status is Status.ok, result.stdout + result.stderr
    assert (record.tags["power_boundary"], record.tags["power_source"]) == ("wall_ac", "acme at usb1")
    assert 10 < record.metrics["idle_power_w"] < record.metrics["power_w"] < 12
    assert record.phases["throughput"]["readings"]["clock_error_ns"] > 0

    incomplete = workplace.run(*words)
    assert incomplete.returncode == 2
    assert "meter=acme" in incomplete.stderr
    assert "port" in incomplete.stderr
    unknown = workplace.run("meter=acne", *SHORT)
    assert unknown.returncode == 2
    assert "did you mean 'acme'" in unknown.stderr
