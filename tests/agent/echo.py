"""A request of known behaviour, and what the phases need beside it."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edlab.agent.runtimes.base import Compiled, Request


class Echo(Request):
    """Sleeps, then gives back its input; keeps what it was given."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.seen: list[float] = []
        self.garbage_collection: list[bool] = []
        self.threads: set[int] = set()

    def set_input(self, tensor: NDArray[Any]) -> None:
        self.tensor = tensor
        self.seen.append(float(tensor.flat[0]))

    def execute(self) -> None:
        self.garbage_collection.append(gc.isenabled())
        self.threads.add(threading.get_ident())
        time.sleep(self.seconds)

    def get_output(self) -> NDArray[Any]:
        return self.tensor


def in_seconds(seconds: float) -> int:
    """That moment of the clock of the phases."""
    return time.perf_counter_ns() + int(seconds * 1e9)


def quiet(fraction: float, message: str) -> None:
    pass


def pool(size: int) -> list[NDArray[np.float32]]:
    return [np.full((1, 2), value, np.float32) for value in range(size)]


def compiled(requests: Iterable[Request]) -> Compiled:
    return Compiled(list(requests), [], [], {})
