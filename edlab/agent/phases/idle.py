"""Idle: a period without inference."""

from __future__ import annotations

import time

from ..messages import IdleReport, OnProgress
from ..observer import Look, Observer
from .loop import NS


def idle(seconds: float, progress: OnProgress) -> IdleReport:
    """Do nothing for `seconds`."""
    start = time.perf_counter_ns()
    end = start + int(seconds * NS)

    def look() -> Look:
        elapsed = time.perf_counter_ns() - start
        return Look(elapsed, min(elapsed / max(end - start, 1), 1.0), "")

    with Observer(look, progress) as observer:
        time.sleep(seconds)
    return IdleReport(start, time.perf_counter_ns(), observer.activity)
