"""What the machine did while a phase ran, watched from a separate thread: the timed loop does nothing for it."""

from __future__ import annotations

import resource
import threading
import time
from typing import Callable, NamedTuple

from . import system

_LOOK_S = 1.0  # each look takes Python's lock for some 0.1 ms: docs/results has what that costs


class Look(NamedTuple):
    """How far a phase is: something that counts up while it advances, the fraction done, and a message."""

    done: int
    fraction: float
    message: str


class Activity(NamedTuple):
    """What else the machine did in a phase. Shares are 0..1 of the time of the cores that the agent may use.

    None where the system does not tell.
    """

    seconds: float
    own: float | None  # taken by this process
    others: float | None  # taken by other processes and the kernel
    stolen: float | None  # taken by the hypervisor for other machines
    involuntary_switches: int  # how often this process was put off a core that it still wanted
    clocks_mhz: list[float]  # mean clock of the cores at each look, in order
    throttle_events: int | None  # thermal events that the processor counted


class Observer:
    """Looks once a second, from entering the context to leaving it: passes progress on, and reads the clocks.

    Nothing is reported while the count stands still: a phase that hangs must not look alive.
    """

    def __init__(self, look: Callable[[], Look], progress: Callable[[float, str], None]) -> None:
        self._look = look
        self._progress = progress
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._clocks: list[float] = []

    def __enter__(self) -> Observer:
        self._before = _Counters.read()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()
        self._after = _Counters.read()
        self._read_clocks()

    @property
    def activity(self) -> Activity:
        """What happened between entering and leaving the context."""
        before, after = self._before, self._after
        own = others = stolen = None
        if before.cpu and after.cpu and after.cpu.total > before.cpu.total:
            total = after.cpu.total - before.cpu.total
            own = min((after.own_s - before.own_s) / total, 1.0)
            stolen = (after.cpu.stolen - before.cpu.stolen) / total
            others = max((after.cpu.busy - before.cpu.busy) / total - own, 0.0)
        events = None
        if before.throttle_count is not None and after.throttle_count is not None:
            events = after.throttle_count - before.throttle_count
        return Activity(
            after.time_s - before.time_s,
            own,
            others,
            stolen,
            after.involuntary_switches - before.involuntary_switches,
            self._clocks,
            events,
        )

    def _run(self) -> None:
        seen = -1
        while not self._stop.wait(_LOOK_S):
            done, fraction, message = self._look()
            if done > seen:
                seen = done
                self._progress(fraction, message)
            self._read_clocks()

    def _read_clocks(self) -> None:
        clocks = system.clocks_mhz()
        if clocks:
            self._clocks.append(sum(clocks) / len(clocks))


class _Counters(NamedTuple):
    time_s: float
    own_s: float
    involuntary_switches: int
    cpu: system.CpuSeconds | None
    throttle_count: int | None

    @classmethod
    def read(cls) -> _Counters:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return cls(
            time.perf_counter(),
            usage.ru_utime + usage.ru_stime,
            usage.ru_nivcsw,
            system.cpu_seconds(),
            system.throttle_count(),
        )
