"""Sensors on faked sysfs trees and a faked driver library: this shows the arithmetic, not what a chip does."""

from __future__ import annotations

import ctypes
import random
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.integrate
from echo import PATIENCE_S
from simulated_clock import set_clock

from edlab import metrics
from edlab.agent import sensors
from edlab.agent.errors import AgentError
from edlab.agent.messages import Readings
from edlab.agent.sensors import hwmon, ina3221, nvml, rapl
from edlab.agent.sensors.base import (
    BOUNDARIES,
    EnergyCounter,
    PowerSensor,
    Recorder,
    Sample,
    Sensor,
    pause,
    spanning,
)


def write(root: Path, **files: object) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (root / name).write_text(f"{content}\n")
    return root


def fake_rapl(root: Path) -> Path:
    for index, start in enumerate((1_000_000, 990_000_000)):
        name = f"package-{index}"
        write(root / f"intel-rapl:{index}", name=name, energy_uj=start, max_energy_range_uj=1_000_000_000)
        write(root / f"intel-rapl:{index}:0", name="core", energy_uj=5, max_energy_range_uj=1_000_000_000)
    write(root / "intel-rapl:2", name="psys", energy_uj=7, max_energy_range_uj=1_000_000_000)
    return root


def test_rapl_sums_packages_and_survives_the_counter_starting_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sensor = rapl.survey(fake_rapl(tmp_path)).sensors[0]
    clock = iter((10_000_000_000, 12_000_000_000, 13_000_000_000))
    set_clock(monkeypatch, lambda: next(clock))
    assert sensor.read() is None
    write(tmp_path / "intel-rapl:0", energy_uj=21_000_000)  # 20 J more
    write(tmp_path / "intel-rapl:1", energy_uj=10_000_000)  # 10 J to the end of the range and 10 J beyond
    assert sensor.read() is None
    write(tmp_path / "intel-rapl:0", energy_uj=26_000_000)  # 5 J more
    write(tmp_path / "intel-rapl:1", energy_uj=25_000_000)  # 15 J more
    sample = sensor.read()
    assert sample is not None
    assert sample.watts == pytest.approx(20)  # 60 J in 3 s
    assert sample.t_ns == 12_000_000_000
    assert (sensor.name, sensor.kind, sensor.boundary) == ("rapl", "rapl", "package")


def test_rapl_domains_are_sensors_after_the_packages(tmp_path: Path) -> None:
    """No zone is part of two sensors' sums except the cores, which are in the package; several packages are summed."""
    fake_rapl(tmp_path)
    write(tmp_path / "intel-rapl:0:1", name="uncore", energy_uj=5, max_energy_range_uj=1_000_000_000)
    for index in (0, 1):
        write(tmp_path / f"intel-rapl:{index}:2", name="dram", energy_uj=3, max_energy_range_uj=1_000_000_000)
    found = rapl.survey(tmp_path)
    assert {sensor.kind for sensor in found.sensors} == {"rapl"}
    assert [(sensor.name, sensor.boundary, len(sensor.joules())) for sensor in found.sensors] == [  # type: ignore[attr-defined]
        ("rapl", "package", 2),
        ("rapl core", "rail", 2),
        ("rapl dram", "rail", 2),
        ("rapl psys", "board_dc", 1),
    ]
    assert found.unusable == []


def test_a_domain_that_cannot_be_read_hides_no_other(tmp_path: Path) -> None:
    (fake_rapl(tmp_path) / "intel-rapl:1:0/energy_uj").unlink()
    found = rapl.survey(tmp_path)
    assert [sensor.name for sensor in found.sensors] == ["rapl", "rapl psys"]
    assert [each.name for each in found.unusable] == ["rapl core"]
    assert "1 of 2 core domains" in found.unusable[0].reason


def test_one_command_makes_every_domain_readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path, *_: Any) -> str:
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied", str(path))
        return read_text(path)

    read_text = Path.read_text
    monkeypatch.setattr(Path, "read_text", refused)
    found = rapl.survey(fake_rapl(tmp_path))
    assert found.sensors == []
    assert [(each.name, each.hint) for each in found.unusable] == [
        ("rapl", f"sudo chmod a+r {tmp_path}/intel-rapl:*/energy_uj")
    ]
    assert {path.parent.name for path in tmp_path.glob("intel-rapl:*/energy_uj")} >= {"intel-rapl:0", "intel-rapl:1:0"}


def test_a_counter_that_was_reset_is_a_failed_reading_and_the_next_is_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sensor = rapl.survey(fake_rapl(tmp_path)).sensors[0]
    write(tmp_path / "intel-rapl:1", energy_uj=500_000_000)
    clock = iter(range(10_000_000_000, 11_000_000_000, 50_000_000))
    set_clock(monkeypatch, lambda: next(clock))
    assert sensor.read() is None
    write(tmp_path / "intel-rapl:0", energy_uj=1_500_000)
    write(tmp_path / "intel-rapl:1", energy_uj=0)  # as a wrap: 500 J in 50 ms, 10 kW
    with pytest.raises(ValueError, match="from 500 J to 0 J"):
        sensor.read()
    for count in (500_000, 1_000_000):
        write(tmp_path / "intel-rapl:0", energy_uj=1_500_000 + count)
        write(tmp_path / "intel-rapl:1", energy_uj=count)
        sample = sensor.read()
    assert sample is not None
    assert sample.watts == pytest.approx(20)  # 2 J in 100 ms


class SlowCounter(EnergyCounter):
    """Two counters that are renewed every 100 ms, one 30 ms after the other, at `power`; read on a clock of its own."""

    renewed_s = 0.1
    delays_ns = (0, 30_000_000)

    def __init__(self, power: Callable[[int], float]) -> None:
        super().__init__("slow", "slow", "module")
        self.now_ns = 5_000_000_000
        self.energy = np.cumsum([0.0] + [power(millisecond) * 1e-3 for millisecond in range(60_000)])  # J at each ms

    def joules(self) -> list[float]:
        renewed = [(self.now_ns - delay) // 100_000_000 * 100 for delay in self.delays_ns]
        return [self.energy[millisecond] / len(self.delays_ns) for millisecond in renewed]

    def spans(self) -> list[float]:
        return [1e9] * len(self.delays_ns)

    def samples(self, seconds: float, monkeypatch: pytest.MonkeyPatch) -> tuple[np.ndarray, np.ndarray]:
        """Times and watts of readings every 25 to 75 ms."""
        generator, found = random.Random(1), []
        set_clock(monkeypatch, lambda: self.now_ns)
        while self.now_ns < 5_000_000_000 + seconds * 1e9:
            sample = self.read()
            if sample:
                found.append(sample)
            self.now_ns += round(pause(0.05, generator) * 1e9)
        monkeypatch.undo()
        return np.array([each.t_ns for each in found]), np.array([each.watts for each in found])


@pytest.mark.parametrize("swing", [0.0, 0.8])
def test_a_slow_counter_has_no_zeros_and_the_right_mean(swing: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """A steady load, and one that alternates every 0.7 s: the metric is the trapezoid over the readings."""
    power = lambda millisecond: 40.0 * (1 + swing * (1 if millisecond // 700 % 2 else -1))  # noqa: E731
    counter = SlowCounter(power)
    t_ns, watts = counter.samples(40.0, monkeypatch)
    assert watts.min() > 0
    assert 400 <= len(watts) <= 800  # one for each renewal of either counter, but those read together
    start_ns, end_ns = 10_000_000_000, 38_000_000_000  # 20 periods of the load
    instrument = metrics.Instrument(counter_renewed_s=counter.renewed_s)
    values = metrics.power(t_ns, watts, metrics.Window(start_ns, end_ns), 1.0, instrument=instrument).values
    assert values["power_w"] == pytest.approx(40.0, rel=0.005)
    assert values["power_ci95_low_w"] < 40.0 < values["power_ci95_high_w"]
    assert values["power_ci95_high_w"] - values["power_ci95_low_w"] < 0.01 * 40.0


def test_a_counter_that_stands_still_gives_nothing_and_its_energy_is_in_the_next_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sensor = rapl.Rapl([write(tmp_path / "zone", energy_uj=0, max_energy_range_uj=10**12)])
    clock = iter(range(10_000_000_000, 20_000_000_000, 1_000_000_000))
    set_clock(monkeypatch, lambda: next(clock))
    samples = []
    for joules in (0, 0, 10, 10, 10, 30, 40):
        write(tmp_path / "zone", energy_uj=joules * 1_000_000)
        samples.append(sensor.read())
    monkeypatch.undo()
    assert samples[:5] == [None] * 5
    assert samples[5:] == [Sample(12_000_000_000, 30 / 5), Sample(15_000_000_000, 30 / 4)]


def test_a_counter_that_never_moves_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One memory domain that is not wired up, next to a package that counts 10 W."""
    zones = [write(tmp_path / f"zone{n}", energy_uj=5, max_energy_range_uj=10**12) for n in range(2)]
    sensor = rapl.Rapl(zones)
    clock = iter(range(10_000_000_000, 20_000_000_000, 1_000_000_000))
    set_clock(monkeypatch, lambda: next(clock))
    samples = []
    for joules in range(10, 60, 10):
        write(zones[0], energy_uj=joules * 1_000_000)
        samples.append(sensor.read())
    monkeypatch.undo()
    assert [sample.watts for sample in samples if sample] == [10.0] * 3


def test_a_virtual_machine_whose_counters_stay_zero_has_no_rapl(tmp_path: Path) -> None:
    for index in range(2):
        write(tmp_path / f"intel-rapl:{index}", name=f"package-{index}", energy_uj=0, max_energy_range_uj=10**12)
    found = rapl.survey(tmp_path)
    assert found.sensors == []
    assert "2 of 2 packages cannot be read: energy_uj stays 0" in found.unusable[0].reason


def test_a_reading_that_hangs_does_not_hang_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hung(PowerSensor):
        def watts(self) -> float:
            returns.wait()
            return 1.0

    returns = threading.Event()
    monkeypatch.setattr("edlab.agent.sensors.base._PATIENCE_S", 0.2)
    recorder = Recorder(Hung("hung", "hung", "module"), 0.01)
    start_ns = time.perf_counter_ns()
    recorder.start()
    recorder.stop()
    failed = recorder.failures(start_ns, time.perf_counter_ns())
    returns.set()
    assert failed == Readings(1, "a reading has not returned for 0.2 s")
    assert len(recorder.series(start_ns, time.perf_counter_ns())) == 0


@pytest.mark.parametrize("file", ["energy_uj", "max_energy_range_uj", "name"])
def test_a_sum_that_misses_a_package_is_refused_with_the_reason(tmp_path: Path, file: str) -> None:
    (fake_rapl(tmp_path) / "intel-rapl:1" / file).unlink()
    found = rapl.survey(tmp_path)
    assert found.sensors == []
    assert [each.name for each in found.unusable] == ["rapl"]
    assert "1 of 2 packages" in found.unusable[0].reason
    assert file in found.unusable[0].reason
    assert found.unusable[0].hint


def test_a_counter_that_does_not_say_where_it_starts_again_is_refused(tmp_path: Path) -> None:
    write(fake_rapl(tmp_path) / "intel-rapl:1", max_energy_range_uj=0)
    found = rapl.survey(tmp_path)
    assert found.sensors == []
    assert "max_energy_range_uj is 0" in found.unusable[0].reason
    assert "above 0" in found.unusable[0].hint


def test_a_rapl_that_may_not_be_read_says_so(tmp_path: Path) -> None:
    write(tmp_path / "intel-rapl:0", name="package-0", max_energy_range_uj=1_000_000_000)
    (tmp_path / "intel-rapl:0" / "energy_uj").mkdir()  # reading fails whoever runs the test, root too
    assert rapl.survey(tmp_path).sensors == []
    assert "1 of 1 packages cannot be read" in rapl.survey(tmp_path).unusable[0].reason


def test_a_broken_sensor_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (fake_rapl(tmp_path / "class" / "powercap") / "intel-rapl:0" / "max_energy_range_uj").unlink()
    write(tmp_path / "class" / "hwmon" / "hwmon0", name="ina226", power1_input=2_000_000)
    write(tmp_path / "class" / "hwmon" / "hwmon1", name="ina260", power1_input="no number")
    monkeypatch.setenv("EDLAB_SYSFS", str(tmp_path))
    monkeypatch.setattr(nvml, "survey", lambda: 1 / 0)
    described = sensors.describe(sensors.survey())
    assert [(sensor.name, sensor.stand_in) for sensor in described.sensors] == [("hwmon:ina226 power1", str(tmp_path))]
    assert [each.name for each in described.unusable] == ["rapl", "nvml", "hwmon:ina260 power1"]
    with pytest.raises(AgentError) as caught:
        sensors.get("rapl")
    assert "max_energy_range_uj" in caught.value.hint


def test_two_chips_of_one_name_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for index, address in enumerate(("1-0041", "1-0040")):
        device = tmp_path / "devices" / address
        device.mkdir(parents=True)
        chip = write(tmp_path / "class/hwmon" / f"hwmon{index}", name="ina226", power1_input=(index + 2) * 1_000_000)
        (chip / "device").symlink_to(device)
    write(tmp_path / "class/hwmon/hwmon2", name="ina3221", in1_label="5V", in1_input=5000, curr1_input=100)
    write(tmp_path / "class/hwmon/hwmon2", in2_label="5V", in2_input=5000, curr2_input=200)
    monkeypatch.setenv("EDLAB_SYSFS", str(tmp_path))
    found = [*hwmon.survey(tmp_path / "class/hwmon").sensors, *ina3221.survey(tmp_path).sensors]
    watts = {sensor.name: sensor.watts() for sensor in found}  # type: ignore[attr-defined]
    assert watts == {
        "hwmon:ina226 power1 @1-0041": 2.0,
        "hwmon:ina226 power1 @1-0040": 3.0,
        "ina3221 5V @hwmon2 @channel 1": 0.5,
        "ina3221 5V @hwmon2 @channel 2": 1.0,
    }
    sample = sensors.get("hwmon:ina226 power1 @1-0040").read()
    assert sample is not None
    assert sample.watts == 3.0


def test_how_far_back_a_reading_reaches_is_read_from_sysfs(tmp_path: Path) -> None:
    write(tmp_path / "hwmon0", name="power_meter", power1_average=5_000_000, power1_average_interval=1000)
    write(tmp_path / "hwmon1", name="ina226", power1_input=5_000_000, update_interval=35)
    write(tmp_path / "hwmon2", name="plain", power1_input=5_000_000)
    assert [sensor.lag_s for sensor in hwmon.survey(tmp_path).sensors] == [2.0, 0.07, 0.0]


def test_hwmon_reads_microwatts_widest_first(tmp_path: Path) -> None:
    write(tmp_path / "hwmon0", name="ina226", power1_input=4_000_000)
    write(tmp_path / "hwmon1", name="amdgpu", power1_average=35_500_000, power1_label="PPT")  # before RDNA 3
    write(
        tmp_path / "hwmon2", name="amdgpu", power1_average=35_500_000, power1_input=36_000_000, power1_label="new PPT"
    )
    write(tmp_path / "hwmon3", name="coretemp", temp1_input=40_000)
    write(tmp_path / "hwmon4", name="power_meter", power1_average=90_000_000, power1_average_interval=1000)
    found = hwmon.survey(tmp_path).sensors
    assert [(sensor.name, sensor.boundary) for sensor in found] == [
        ("hwmon:power_meter power1", "board_dc"),
        ("hwmon:amdgpu PPT", "module"),
        ("hwmon:amdgpu new PPT", "module"),
        ("hwmon:ina226 power1", "rail"),
    ]
    readings = [sensor.read() for sensor in found]
    assert [sample.watts for sample in readings if sample] == pytest.approx([90.0, 35.5, 36.0, 4.0])


class FakeNvml:
    """A fake that follows the NVML API reference for the functions that nvml.py calls: it shows no card's behaviour.

    Two cards. The second does not report its power (NVML_ERROR_NOT_SUPPORTED), as old ones and Jetsons do. The first
    has an energy counter, which moves every `energy_steps` calls if that is not 0, and the power fields in `fields`.
    """

    def __init__(self, energy_steps: int = 0, fields: dict[int, int] | None = None) -> None:
        self.milliwatts = 71_250
        self.energy_steps = energy_steps
        self.fields = fields or {}
        self.calls = 0

    def nvmlDeviceGetCount_v2(self, count: Any) -> int:
        count._obj.value = 2
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: ctypes.c_uint, handle: Any) -> int:
        handle._obj.value = index.value + 1
        return 0

    def nvmlDeviceGetPowerUsage(self, handle: ctypes.c_void_p, milliwatts: Any) -> int:
        if handle.value != 1 or self.milliwatts < 0:
            return 3
        milliwatts._obj.value = self.milliwatts
        return 0

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: ctypes.c_void_p, millijoules: Any) -> int:
        if handle.value != 1 or self.energy_steps == 0:
            return 3
        self.calls += 1
        millijoules._obj.value = 10**9 + self.calls // self.energy_steps * 7125  # 71.25 W for 100 ms
        return 0

    def nvmlDeviceGetFieldValues(self, handle: ctypes.c_void_p, count: ctypes.c_int, values: Any) -> int:
        assert count.value == 1
        value = values._obj
        value.nvmlReturn = 0 if handle.value == 1 and value.fieldId in self.fields else 3
        value.value.uiVal = self.fields.get(value.fieldId, 0)
        return 0

    def nvmlDeviceGetName(self, handle: ctypes.c_void_p, buffer: Any, length: ctypes.c_uint) -> int:
        buffer.value = b"Some Card"
        return 0


def nvml_sensors(driver: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> list[Sensor]:
    monkeypatch.setattr(nvml, "_load", lambda library: driver)
    found = nvml.survey()
    assert [each.name for each in found.unusable] == ["nvml:1 Some Card"]
    return found.sensors


def test_nvml_gives_the_watts_of_cards_that_report_them(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = FakeNvml()
    (sensor,) = nvml_sensors(driver, monkeypatch)
    assert (sensor.name, sensor.kind, sensor.boundary) == ("nvml:0 Some Card", "nvml", "module")
    sample = sensor.read()
    assert sample is not None
    assert sample.watts == 71.25
    assert sensor.lag_s == 1.1
    driver.milliwatts = -1
    with pytest.raises(OSError, match="Some Card failed with error 3"):
        sensor.read()


def test_nvmls_energy_counter_comes_first_if_it_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = FakeNvml(energy_steps=3, fields={185: 70_000, 186: 90_500})
    sensors = nvml_sensors(driver, monkeypatch)
    assert [(sensor.name, sensor.boundary, sensor.lag_s) for sensor in sensors] == [
        ("nvml:0 Some Card", "module", 0.2),
        ("nvml:0 Some Card average", "module", 1.1),
        ("nvml:0 Some Card instant", "module", 0.1),
    ]
    assert isinstance(sensors[0], EnergyCounter)
    clock = iter(range(10_000_000_000, 20_000_000_000, 100_000_000))  # 33 ms a call: a step in every third
    set_clock(monkeypatch, lambda: next(clock))
    samples = [sample for sample in (sensors[0].read() for _ in range(16)) if sample][1:]  # the first began in a step
    monkeypatch.undo()
    assert [sample.watts for sample in samples] == pytest.approx([71.25 / 3] * len(samples))
    assert len(samples) == 3
    readings = [sensor.read() for sensor in sensors[1:]]
    assert [sample.watts for sample in readings if sample] == [70.0, 90.5]


def test_an_energy_counter_of_nvml_that_stands_still_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvml, "_PATIENCE_S", 0.05)
    (sensor,) = nvml_sensors(FakeNvml(energy_steps=10**6), monkeypatch)
    assert not isinstance(sensor, EnergyCounter)


def test_a_jetson_whose_nvml_has_no_power_is_referred_to_its_own_sensors(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on an Orin: NVML works, and returns NotSupported for power (HazyResearch/intelligence-per-watt, issue 40)."""
    driver = FakeNvml()
    driver.milliwatts = -1
    monkeypatch.setattr(nvml, "_load", lambda library: driver)
    found = nvml.survey()
    assert found.sensors == []
    assert [each.name for each in found.unusable] == ["nvml:0 Some Card", "nvml:1 Some Card"]
    assert "does not report the power of this GPU" in found.unusable[0].reason
    assert "ina3221" in found.unusable[0].reason


def test_a_driver_without_the_newer_functions_has_the_older_sensor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(FakeNvml, "nvmlDeviceGetTotalEnergyConsumption")
    monkeypatch.delattr(FakeNvml, "nvmlDeviceGetFieldValues")
    assert [sensor.name for sensor in nvml_sensors(FakeNvml(), monkeypatch)] == ["nvml:0 Some Card"]


def test_nvmls_structures_are_those_of_a_c_library(tmp_path: Path) -> None:
    """A stand-in for the driver, compiled with the structures of nvml.h, as its API reference documents them."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("the stand-in for libnvidia-ml is C, and there is no cc")
    source, out = Path(__file__).parent / "standins/nvml.c", tmp_path / "libnvidia-ml.so.1"
    flags = ["-shared", "-fPIC", "-Wall", "-Werror", "-DNEWER"]
    subprocess.run([compiler, *flags, str(source), "-o", str(out)], check=True)
    counter, *fields = nvml.survey(str(out)).sensors
    assert [sensor.name for sensor in fields] == ["nvml:0 Stand-in Card average", "nvml:0 Stand-in Card instant"]
    readings = [sensor.read() for sensor in fields]
    assert [sample.watts for sample in readings if sample] == [70.0, 90.5]
    start_ns, recorder = time.perf_counter_ns(), Recorder(counter, 0.05)
    recorder.start()
    time.sleep(2.0)
    recorder.stop()
    t_ns, watts = recorder.series(start_ns, time.perf_counter_ns()).T
    assert scipy.integrate.trapezoid(watts, t_ns) / (t_ns[-1] - t_ns[0]) == pytest.approx(71.25, rel=0.1)
    assert len(watts) <= 20


def test_no_driver_no_sensor_and_no_card() -> None:
    assert nvml.survey("libthere-is-none.so").sensors == []
    assert nvml.describe("libthere-is-none.so") == {}


@pytest.mark.parametrize(
    ("span", "expected"),
    [
        ((25, 45), [20, 30, 40, 50]),
        ((30, 40), [20, 30, 40, 50]),
        ((0, 15), [10, 20]),
        ((45, 99), [40, 50]),
        ((99, 99), [50]),
        ((0, 99), [10, 20, 30, 40, 50]),
    ],
)
def test_a_span_has_its_samples_and_one_beyond_each_end(span: tuple[int, int], expected: list[int]) -> None:
    samples = [Sample(t_ns, t_ns / 10) for t_ns in (10, 20, 30, 40, 50)]
    assert spanning(samples, *span).tolist() == [[t_ns, t_ns / 10] for t_ns in expected]


class Ramp(PowerSensor):
    """One more watt each reading; `many` is set after six."""

    def __init__(self) -> None:
        super().__init__("ramp", "ramp", "rail")
        self.readings = 0
        self.many = threading.Event()

    def watts(self) -> float:
        if self.readings == 6:
            self.many.set()
        self.readings += 1
        return self.readings


def recorded(sensor: Ramp) -> Recorder:
    """What a recorder has after six readings and its end."""
    recorder = Recorder(sensor, 0.001)
    recorder.start()
    assert sensor.many.wait(PATIENCE_S)
    recorder.stop()
    return recorder


def test_a_failed_reading_is_a_gap() -> None:
    class Flaky(Ramp):
        def watts(self) -> float:
            if super().watts() == 5:
                raise OSError(5, "Input/output error")
            return self.readings

    start = time.perf_counter_ns()
    recorder = recorded(Flaky())
    end = time.perf_counter_ns()
    failed, error = recorder.failures(start, end)
    assert failed == 1
    assert "Input/output error" in error
    samples = recorder.series(start, end)
    assert samples[:5, 1].tolist() == [1, 2, 3, 4, 6]
    before = int(samples[2, 0])  # a span without the failure has none
    assert recorder.failures(start, before) == Readings(0, "")
    assert recorder.series(start, before)[:, 1].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError("no such device"), "no such device"),
        (ZeroDivisionError("integer modulo by zero"), "ZeroDivisionError: integer modulo by zero"),
    ],
)
def test_a_sensor_that_gives_nothing_ends_no_phase_and_is_read_on(error: Exception, expected: str) -> None:
    class Unplugged(Ramp):
        def watts(self) -> float:
            super().watts()
            raise error

    recorder = recorded(Unplugged())
    now = time.perf_counter_ns()
    assert recorder.series(0, now).shape == (0, 2)
    failed, message = recorder.failures(0, now)
    assert failed >= 6
    assert message == expected


def test_nothing_is_read_after_the_end_and_what_was_read_stays() -> None:
    ramp = Ramp()
    recorder = recorded(ramp)
    readings = ramp.readings
    time.sleep(0.05)
    assert ramp.readings == readings
    assert len(recorder.series(0, time.perf_counter_ns())) == readings


def test_readings_keep_step_with_no_load_that_repeats() -> None:
    generator = random.Random(0)
    pauses = np.array([pause(0.05, generator) for _ in range(20_000)])
    assert pauses.min() >= 0.025
    assert pauses.mean() == pytest.approx(0.05, rel=0.01)
    for period in (0.025, 0.05, 0.0501):  # phases of consecutive readings are independent: no common direction
        assert abs(np.exp(2j * np.pi * pauses / period).mean()) < 0.03


def test_a_sensor_that_is_not_there_is_said_with_those_that_are() -> None:
    with pytest.raises(AgentError, match="no power sensor 'crystal ball'"):
        sensors.get("crystal ball")
    assert {sensor.boundary for sensor in sensors.survey().sensors} <= set(BOUNDARIES)
