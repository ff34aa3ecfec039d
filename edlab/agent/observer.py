"""What the machine did while a phase ran, observed from a separate thread, without work in the timed loop."""

from __future__ import annotations

import resource
import threading
import time
from typing import Callable, NamedTuple

from . import system
from .messages import Activity, OnProgress

LOOK_S = 1.0  # each sample holds Python's lock for about 0.1 ms; the cost is in docs/results


class Look(NamedTuple):
    """The progress of a phase: a count that increases while it advances, the fraction done, and a message."""

    done: int
    fraction: float
    message: str


class Observer:
    """Samples every LOOK_S while the context is open: reports progress, and reads the clocks.

    The first report is sent before anything runs, so that short phases are named as well. After that, nothing is
    reported while the count does not change: a phase that hangs must not look alive.
    """

    def __init__(self, look: Callable[[], Look], progress: OnProgress) -> None:
        self._look = look
        self._progress = progress
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._clocks: list[float] = []

    def __enter__(self) -> Observer:
        first = self._look()
        self._seen = first.done
        self._progress(0.0, first.message)
        self._before = Counters.read()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()
        self._after = Counters.read()

    @property
    def activity(self) -> Activity:
        """What happened while the context was open."""
        return self._after.since(self._before, self._clocks)

    def _run(self) -> None:
        while not self._stop.wait(LOOK_S):
            done, fraction, message = self._look()
            if done > self._seen:
                self._seen = done
                self._progress(fraction, message)
            self._read_clocks()

    def _read_clocks(self) -> None:
        clocks = system.clocks_mhz()
        if clocks:
            self._clocks.append(max(clocks))


class Counters(NamedTuple):
    """The counters of the system and this process. Processes that a runtime starts count as others."""

    time_s: float
    own_s: float
    involuntary_switches: int
    cpu: system.CpuSeconds | None
    throttle_count: int | None

    @classmethod
    def read(cls) -> Counters:
        """The present counters."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return cls(
            time.perf_counter(),
            usage.ru_utime + usage.ru_stime,
            usage.ru_nivcsw,
            system.cpu_seconds(),
            system.throttle_count(),
        )

    def since(self, before: Counters, clocks_mhz: list[float]) -> Activity:
        """What happened between `before` and these counters."""
        own = others = stolen = None
        if before.cpu and self.cpu and self.cpu.total > before.cpu.total:
            total = self.cpu.total - before.cpu.total
            own = min((self.own_s - before.own_s) / total, 1.0)
            stolen = (self.cpu.stolen - before.cpu.stolen) / total
            others = max((self.cpu.busy - before.cpu.busy) / total - own, 0.0)
        events = None
        if before.throttle_count is not None and self.throttle_count is not None:
            events = self.throttle_count - before.throttle_count
        switches = self.involuntary_switches - before.involuntary_switches
        return Activity(self.time_s - before.time_s, own, others, stolen, switches, clocks_mhz, events)
