"""A run whose power is read by a meter, from end to end, with a PEER that speaks the meter's protocol."""

from __future__ import annotations

import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from um25c_peer import UM25C, Peer, frame
from workplace import Workplace

from edlab.record import Status

UM25C_ACCURACY = 0.0015
SHORT = ("power.idle_seconds=2", "power.active_seconds=6", "power.active_samples=20")  # a busy machine leaves gaps
BOARD = "meter.options.boundary=board_dc"


@pytest.fixture
def port(tmp_path: Path) -> Iterator[Path]:
    """A UM25C at 5 V, whose current rises by 10 mA each second: load, which comes later, is above idle."""
    start = time.perf_counter()
    peer = Peer(tmp_path / "rfcomm0", lambda: [frame(UM25C, 5000, 2000 + int(100 * (time.perf_counter() - start)))])
    yield tmp_path / "rfcomm0"
    peer.close()


def test_a_usb_meter_fills_all_six_metrics(port: Path, workplace: Workplace) -> None:
    start = time.perf_counter()
    result = workplace.run("meter=um25c", f"meter.options.port={port}", *SHORT)
    (record,) = workplace.records()
    assert record.status is Status.ok, result.stdout + result.stderr
    names = ("accuracy_top1", "accuracy_drop", "latency_ms", "throughput_ips", "flops_per_s", "power_w")
    assert {*names, "efficiency_ips_per_w"} <= {*record.metrics}
    assert 1.0 < record.metrics["idle_power_w"] < record.metrics["power_w"] < 1.1 + 0.05 * (time.perf_counter() - start)
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


LOGGER = """
import os, sys, time

def ticks():
    found = 0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if MARK in open(f"/proc/{pid}/environ", "rb").read():
                found += sum(map(int, open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[11:13]))
        except OSError:
            pass
    return found

MARK = sys.argv[2].encode()
with open(sys.argv[1], "w", buffering=1) as log:
    print("time,watts", file=log)
    start, before = time.monotonic(), ticks()
    while True:
        time.sleep(0.1)
        now = ticks()
        used = max(now - before, 0)  # on a busy machine the load gets less of the processor, and is still a load
        print(f"{1000 + time.monotonic() - start:.3f},{2 + 0.5 * (used > 1) + 0.005 * used:.6f}", file=log)
        before = now
"""


@pytest.fixture
def logger(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """NOT a meter: a program that logs how much processor time the agent uses, by a clock that edlab does not know."""
    path, mark = tmp_path / "log.csv", f"MARK_OF_THIS_TEST={secrets.token_hex(8)}"
    program = subprocess.Popen([sys.executable, "-c", LOGGER, str(path), mark])
    yield path, mark
    program.kill()
    program.wait()


@pytest.mark.slow
def test_a_log_by_an_unknown_clock_is_aligned_by_a_load_pattern(logger: tuple[Path, str], workplace: Workplace) -> None:
    path, mark = logger
    options = (f"meter.options.path={path}", "meter.options.align=pattern", "meter.options.flush_s=1", BOARD)
    result = workplace.run("meter=csv", *options, f"+device.env.{mark}", *SHORT)
    (record,) = workplace.records()
    assert record.status is Status.ok, result.stdout + result.stderr
    assert {"alignment", "final_alignment"} <= record.phases.keys()
    assert record.metrics["power_w"] > record.metrics["idle_power_w"] > 1.9
    assert record.metrics["latency_power_w"] > record.metrics["idle_power_w"]
    assert 0.04e9 < record.phases["throughput"]["readings"]["clock_error_ns"] < 0.5e9


def test_a_log_without_the_load_pattern_is_refused(tmp_path: Path, workplace: Workplace) -> None:
    path = tmp_path / "log.csv"
    writes = "import sys, time\nwith open(sys.argv[1], 'w', buffering=1) as log:\n  while True:\n"
    writes += "    print(f'{time.monotonic()},{2 + time.monotonic() % 1}', file=log); time.sleep(0.05)"
    program = subprocess.Popen([sys.executable, "-c", writes, str(path)])
    try:
        columns = ("meter.options.time_column=1", "meter.options.watts_column=2", "meter.options.flush_s=1", BOARD)
        workplace.run("meter=csv", f"meter.options.path={path}", "meter.options.align=pattern", *columns, *SHORT)
    finally:
        program.kill()
        program.wait()
    (record,) = workplace.records()
    assert record.status is Status.ok
    assert record.missing["power_w"].startswith("power_unaligned: ")
    assert "load pattern" in record.missing["power_w"]
    assert record.metrics["accuracy_top1"] > 0.9
    assert record.verdict
    assert "power_unaligned" in [reason.code for reason in record.verdict.reasons]
