"""What the machine did while a phase ran, watched from a separate thread: the timed loop does nothing for it."""

from __future__ import annotations

import resource
import threading
import time
from typing import Callable, NamedTuple

from . import system
from .messages import Activity, OnProgress

LOOK_S = 1.0  # each look takes Python's lock for some 0.1 ms: docs/results has what that costs


class Look(NamedTuple):
    """How far a phase is: something that counts up while it advances, the fraction done, and a message."""

    done: int
    fraction: float
    message: str


class Observer:
    """Looks each LOOK_S, from entering the context to leaving it: passes progress on, and reads the clocks.

    The first report comes before anything runs, so that short phases are named as well. Then nothing is reported while
    the count stands still: a phase that hangs must not look alive.
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
        """What happened between entering and leaving the context."""
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
    """What the system and this process have counted so far. Processes that a runtime starts count as others."""

    time_s: float
    own_s: float
    involuntary_switches: int
    cpu: system.CpuSeconds | None
    throttle_count: int | None

    @classmethod
    def read(cls) -> Counters:
        """The counts now."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return cls(
            time.perf_counter(),
            usage.ru_utime + usage.ru_stime,
            usage.ru_nivcsw,
            system.cpu_seconds(),
            system.throttle_count(),
        )

    def since(self, before: Counters, clocks_mhz: list[float]) -> Activity:
        """What happened from `before` to these."""
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
