"""A request of known behaviour, a clock that only sleeping moves, and what else the phases need."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edlab.agent import system
from edlab.agent.runtimes.base import Compiled, Request

PATIENCE_S = 60.0  # for what must come at once; a test that waits so long has failed


class Clock:
    """In place of the module `time`: stands still unless somebody sleeps."""

    def __init__(self) -> None:
        self._now_ns = 0

    def perf_counter_ns(self) -> int:
        return self._now_ns

    def perf_counter(self) -> float:
        return self._now_ns / 1e9

    def sleep(self, seconds: float) -> None:
        self._now_ns += round(seconds * 1e9)


class Echo(Request):
    """Sleeps by its clock, then gives back its input; keeps what it was given."""

    def __init__(self, seconds: float = 0.0, clock: Any = time) -> None:
        self.seconds = seconds
        self.clock = clock
        self.prepared: list[float] = []
        self.seen: list[float] = []
        self.garbage_collection: list[bool] = []
        self.threads: set[int] = set()

    def prepare(self, tensor: NDArray[Any]) -> Any:
        self.prepared.append(float(tensor.flat[0]))
        return tensor

    def set_input(self, prepared: Any) -> None:
        self.tensor = prepared
        self.seen.append(float(prepared.flat[0]))

    def execute(self) -> None:
        self.garbage_collection.append(gc.isenabled())
        self.threads.add(threading.get_ident())
        self.clock.sleep(self.seconds)

    def get_outputs(self) -> list[NDArray[Any]]:
        return [self.tensor]


class Looks:
    """What had been reported at each look of the observer; `released` is set at the fifth."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reports: list[str] = []
        self.at_each: list[list[str]] = []
        self.released = threading.Event()
        monkeypatch.setattr(system, "clocks_mhz", self._clocks)

    def report(self, fraction: float | None, message: str) -> None:
        self.reports.append(message)

    def _clocks(self) -> list[float]:
        """Read at the end of each look."""
        self.at_each.append(list(self.reports))
        if len(self.at_each) == 5:
            self.released.set()
        return []


def in_seconds(seconds: float) -> int:
    """That moment of the clock of the phases."""
    return time.perf_counter_ns() + int(seconds * 1e9)


def quiet(fraction: float | None, message: str) -> None:
    pass


def pool(size: int) -> list[NDArray[np.float32]]:
    return [np.full((1, 2), value, np.float32) for value in range(size)]


def compiled(requests: Iterable[Request]) -> Compiled:
    return Compiled(list(requests), [], [], {})
