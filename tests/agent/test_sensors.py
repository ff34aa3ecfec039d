"""Sensors on faked sysfs trees and a faked driver library: this shows the arithmetic, not what a chip does."""

from __future__ import annotations

import ctypes
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edlab.agent import sensors
from edlab.agent.errors import AgentError
from edlab.agent.sensors import hwmon, nvml, rapl
from edlab.agent.sensors.base import BOUNDARIES, PowerSensor, Sampler


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
    (sensor,) = rapl.find(fake_rapl(tmp_path))
    clock = iter((10_000_000_000, 12_000_000_000))
    monkeypatch.setattr(time, "perf_counter_ns", lambda: next(clock))
    assert sensor.read() is None
    write(tmp_path / "intel-rapl:0", energy_uj=21_000_000)  # 20 J more
    write(tmp_path / "intel-rapl:1", energy_uj=10_000_000)  # 10 J to the end of the range and 10 J beyond
    sample = sensor.read()
    assert sample is not None
    assert sample.watts == pytest.approx(20)  # 40 J in 2 s
    assert sample.t_ns == 11_000_000_000
    assert (sensor.kind, sensor.boundary) == ("rapl", "package")


def test_a_rapl_that_may_not_be_read_is_not_found(tmp_path: Path) -> None:
    write(tmp_path / "intel-rapl:0", name="package-0")
    (tmp_path / "intel-rapl:0" / "energy_uj").mkdir()  # reading fails whoever runs the test, root too
    assert rapl.find(tmp_path) == []


def test_hwmon_reads_microwatts_and_rails_widest_first(tmp_path: Path) -> None:
    write(tmp_path / "hwmon0", name="ina3221", in1_label="VDD_CPU", in1_input=5000, curr1_input=800)
    write(tmp_path / "hwmon0", in2_label="VDD_IN", in2_input=19000, curr2_input=1000, curr3_input=7)
    write(tmp_path / "hwmon1", name="amdgpu", power1_average=35_500_000, power1_input=36_000_000, power1_label="PPT")
    write(tmp_path / "hwmon2", name="coretemp", temp1_input=40_000)
    found = hwmon.find(tmp_path)
    assert [(sensor.name, sensor.boundary) for sensor in found] == [
        ("hwmon:ina3221 VDD_IN", "module"),
        ("hwmon:amdgpu PPT", "module"),
        ("hwmon:ina3221 VDD_CPU", "rail"),
    ]
    readings = [sensor.read() for sensor in found]
    assert [sample.watts for sample in readings if sample] == pytest.approx([19.0, 36.0, 4.0])


class FakeNvml:
    """Two cards; the second does not tell its power (NVML_ERROR_NOT_SUPPORTED), as old ones do."""

    milliwatts = 71_250

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

    def nvmlDeviceGetName(self, handle: ctypes.c_void_p, buffer: Any, length: ctypes.c_uint) -> int:
        buffer.value = b"Some Card"
        return 0


def test_nvml_gives_the_watts_of_cards_that_tell_them(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = FakeNvml()
    monkeypatch.setattr(nvml, "_load", lambda library: driver)
    (sensor,) = nvml.find()
    assert (sensor.name, sensor.kind, sensor.boundary) == ("nvml:0 Some Card", "nvml", "module")
    sample = sensor.read()
    assert sample is not None
    assert sample.watts == 71.25
    driver.milliwatts = -1
    with pytest.raises(OSError, match="Some Card gave error 3"):
        sensor.read()


def test_no_driver_no_sensor() -> None:
    assert nvml.find("libthere-is-none.so") == []


class Ramp(PowerSensor):
    """One more watt each reading."""

    def __init__(self) -> None:
        super().__init__("ramp", "ramp", "rail")
        self.readings = 0

    def watts(self) -> float:
        self.readings += 1
        return self.readings


def test_the_sampler_covers_the_window_and_one_sample_beyond_each_end() -> None:
    with Sampler(Ramp(), 0.01) as sampler:
        time.sleep(0.1)
        start = time.perf_counter_ns()
        time.sleep(0.2)
        end = time.perf_counter_ns()
        time.sleep(0.1)
    samples = sampler.between(start, end)
    inside = (samples[:, 0] >= start) & (samples[:, 0] <= end)
    assert not inside[0]
    assert not inside[-1]
    assert inside[1:-1].all()
    assert inside.sum() >= 3
    assert (np.diff(samples[:, 1]) == 1).all()


def test_what_reading_raised_comes_out() -> None:
    class Unplugged(Ramp):
        def watts(self) -> float:
            raise OSError("no such device")

    with Sampler(Unplugged(), 0.01) as sampler:
        time.sleep(0.05)
    with pytest.raises(OSError, match="no such device"):
        sampler.between(0, 1)


def test_a_sensor_that_is_not_there_is_said_with_those_that_are() -> None:
    with pytest.raises(AgentError, match="no power sensor 'crystal ball'"):
        sensors.get("crystal ball")
    assert {sensor.boundary for sensor in sensors.find()} <= set(BOUNDARIES)
