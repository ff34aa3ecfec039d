"""A meter that is read for some seconds, to see whether it works and how fine its readings are."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from edlab.agent.sensors.base import Recorder, Sensor

_LONGEST_WAIT_S = 10.0  # for a first reading: a Bluetooth connection takes seconds


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

    def __str__(self) -> str:
        step = "all readings are equal" if self.step_w is None else f"smallest step {self.step_w:.3g} W"
        failed = f", {self.failed} failed: {self.error}" if self.failed else ""
        rate = self.renewed / self.seconds
        return f"{self.watts:.4g} W ({self.boundary}), {rate:.2g} new readings/s, {step}{failed}"


def try_out(meter: Sensor, interval_s: float, seconds: float) -> MeterTrial:
    """Read `meter` about every `interval_s` for `seconds` from its first reading on, then close it. Never raises."""
    recorder = Recorder(meter, interval_s)
    begin_ns = time.perf_counter_ns()
    recorder.start()
    try:
        deadline = time.monotonic() + _LONGEST_WAIT_S
        while not len(recorder.series(begin_ns, time.perf_counter_ns())) and time.monotonic() < deadline:
            time.sleep(interval_s)
        start_ns = time.perf_counter_ns()
        if len(recorder.series(begin_ns, start_ns)):
            time.sleep(seconds)
        end_ns = time.perf_counter_ns()
    finally:
        recorder.stop()
        meter.close()
    failures, watts = recorder.failures(begin_ns, end_ns), recorder.series(start_ns, end_ns)[:, 1]
    if not len(watts):
        return MeterTrial(meter.boundary, seconds, failed=failures.failed, error=failures.error)
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
