"""A meter that is read for some seconds, to see whether it works and how fine its readings are."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from edlab.agent.sensors.base import Recorder, Sensor

NO_READING = "it sends no reading"
_LONGEST_WAIT_S = 10.0  # for a first reading: a Bluetooth connection takes seconds; more if readings arrive late
_POLL_S = 0.02
_EQUAL = "all readings are equal: if they are in a run too, its power is withheld (power_stuck)"


@dataclass(frozen=True)
class MeterTrial:
    """What a meter reported in `seconds`: its mean in watts, the readings, those of them that changed, and errors.

    `step_w` is the smallest difference between two readings; None if they are all equal.
    """

    boundary: str
    seconds: float
    readings: int = 0
    renewed: int = 0
    failed: int = 0
    watts: float = 0.0
    step_w: float | None = None
    error: str = ""

    @property
    def fix(self) -> str:
        """What to check, if there was no reading and no error, whose message says it."""
        return "" if self.failed else "check the meter, its connection and meter.options"

    def __str__(self) -> str:
        step = _EQUAL if self.step_w is None else f"smallest step {self.step_w:.3g} W"
        failed = f", {self.failed} failed: {self.error}" if self.failed else ""
        rate = self.renewed / self.seconds
        return f"{self.watts:.4g} W ({self.boundary}), {rate:.2g} new readings/s, {step}{failed}"


def find_problem(meter: Sensor, interval_s: float) -> str:
    """Why `meter` cannot be read, after some seconds; empty after its first reading. It stays open. Never raises."""
    recorder = Recorder(meter, interval_s)
    begin_ns = time.perf_counter_ns()
    recorder.start()
    try:
        was_read = _wait(recorder, meter, begin_ns)
    finally:
        recorder.stop()
    return "" if was_read else recorder.failures(begin_ns, time.perf_counter_ns()).error or NO_READING


def _wait(recorder: Recorder, meter: Sensor, begin_ns: int) -> bool:
    """Wait for a first reading; whether there is one in time."""
    deadline = time.monotonic() + _LONGEST_WAIT_S + meter.late_s
    while time.monotonic() < deadline:
        if len(recorder.series(begin_ns, time.perf_counter_ns())):
            return True
        time.sleep(_POLL_S)
    return False


def try_out(meter: Sensor, interval_s: float, seconds: float) -> MeterTrial:
    """Read `meter` about every `interval_s` for `seconds` from its first reading on, then close it. Never raises."""
    recorder = Recorder(meter, interval_s)
    begin_ns = time.perf_counter_ns()
    recorder.start()
    try:
        was_read = _wait(recorder, meter, begin_ns)
        start_ns = time.perf_counter_ns()
        if was_read:
            time.sleep(seconds)
        end_ns = time.perf_counter_ns()
    finally:
        recorder.stop()
        meter.close()
    failures, watts = recorder.failures(begin_ns, end_ns), recorder.series(start_ns, end_ns)[:, 1]
    if not len(watts):
        return MeterTrial(meter.boundary, seconds, failed=failures.failed, error=failures.error or NO_READING)
    steps = np.diff(np.unique(watts))
    return MeterTrial(
        meter.boundary,
        seconds,
        len(watts),
        1 + int(np.count_nonzero(np.diff(watts))),
        failures.failed,
        float(watts.mean()),
        float(steps.min()) if len(steps) else None,
        failures.error,
    )
