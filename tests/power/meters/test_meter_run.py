"""A run whose power is read by a meter, from end to end, with a PEER that speaks the meter's protocol."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from um25c_peer import UM25C, Peer, frame
from workplace import Workplace

from edlab.record import Status

UM25C_ACCURACY = 0.0015
SHORT = ("power.idle_seconds=2", "power.active_seconds=6", "power.active_samples=20")  # a busy machine leaves gaps


@pytest.fixture
def port(tmp_path: Path) -> Iterator[Path]:
    """A UM25C at 5 V, whose current rises by 10 mA each second: load, which comes later, is above idle."""
    start = time.perf_counter()
    peer = Peer(tmp_path / "rfcomm0", lambda: [frame(UM25C, 5000, 2000 + int(100 * (time.perf_counter() - start)))])
    yield tmp_path / "rfcomm0"
    peer.close()


def test_a_usb_meter_fills_all_six_metrics(port: Path, workplace: Workplace) -> None:
    result = workplace.run("meter=um25c", f"meter.options.port={port}", *SHORT)
    (record,) = workplace.records()
    assert record.status is Status.ok, result.stdout + result.stderr
    names = ("accuracy_top1", "accuracy_drop", "latency_ms", "throughput_ips", "flops_per_s", "power_w")
    assert {*names, "efficiency_ips_per_w"} <= {*record.metrics}
    assert 1.0 < record.metrics["idle_power_w"] < record.metrics["power_w"] < 6.0
    assert record.metrics["sampling_latency_cost_ci95_low"] < record.metrics["sampling_latency_cost_ci95_high"]
    assert abs(record.metrics["sampling_throughput_cost"]) < 1
    half_w = (record.metrics["power_ci95_high_w"] - record.metrics["power_ci95_low_w"]) / 2
    assert half_w > 0.9 * UM25C_ACCURACY * record.metrics["power_w"]  # which the meter knows after a reading
    assert record.tags["power_boundary"] == "usb"
    assert record.tags["power_source"] == f"um25c {port}"
    assert "W: measured at the USB port (usb)" in result.stdout


def test_an_option_without_a_meter_is_an_error(workplace: Workplace) -> None:
    result = workplace.run("meter.options.port=/dev/rfcomm0")
    assert result.returncode == 2
    assert "no meter is chosen" in result.stderr
    assert "um25c" in result.stderr


def test_a_sensor_of_the_target_is_recorded_next_to_the_meter(port: Path, workplace: Workplace, tmp_path: Path) -> None:
    """From a tree of files instead of /sys: the sensor shows the path of its figures, and nothing of a chip."""
    chip = tmp_path / "sys/class/hwmon/hwmon0"
    chip.mkdir(parents=True)
    (chip / "name").write_text("power_meter\n")
    (chip / "power1_average").write_text("7500000\n")
    sysfs = f"+device.env.EDLAB_SYSFS={tmp_path / 'sys'}"
    result = workplace.run("meter=um25c", f"meter.options.port={port}", sysfs, *SHORT)
    (record,) = workplace.records()
    assert record.status is Status.ok, result.stdout + result.stderr
    assert record.tags["power_source"] == f"um25c {port}"
    (other,) = record.details["power_sources"]
    assert other["boundary"] == "board_dc"
    assert other["metrics"]["idle_power_w"] == 7.5
    assert "power_stuck" in other["missing"]["power_w"]  # a file that no driver renews
    shown = workplace.edlab("show", record.run_id[:12]).stdout
    assert "power by hwmon:power_meter power1" in shown
    folder = next((workplace.folder / "mlruns/sweeps").glob("*/0"))
    assert (folder / "power_samples_2.csv").read_text().startswith("time_ns,power_w\n")
