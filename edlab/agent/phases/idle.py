"""Idle: a time without inference."""

from __future__ import annotations

import time
from typing import NamedTuple

from ..messages import Activity, OnProgress
from ..observer import Look, Observer
from .loop import NS


class Idle(NamedTuple):
    """A time without inference, and what the machine did in it."""

    start_ns: int
    end_ns: int
    activity: Activity


def idle(seconds: float, progress: OnProgress) -> Idle:
    """Do nothing for `seconds`."""
    start = time.perf_counter_ns()
    end = start + int(seconds * NS)

    def look() -> Look:
        elapsed = time.perf_counter_ns() - start
        return Look(elapsed, min(elapsed / max(end - start, 1), 1.0), "")

    with Observer(look, progress) as observer:
        time.sleep(seconds)
    return Idle(start, time.perf_counter_ns(), observer.activity)
