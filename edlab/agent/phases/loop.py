"""Shared parts of the timed loops: the clock's unit, a loop without garbage collection, and the queries before it."""

from __future__ import annotations

import gc
import time
from contextlib import contextmanager
from typing import Any, Iterator

from ..runtimes.base import Request

NS = 1_000_000_000
_UNTIMED_S = 1.0  # a slow model needs only one
_UNTIMED_QUERIES = 3  # the first query after a collection or a pause finds cold caches: it takes up to twice as long


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Collect garbage now, and not again until the end."""
    gc.collect()
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def run_untimed(request: Request, inputs: list[Any]) -> None:
    """A few queries that are not measured, right before the measured ones."""
    start = time.perf_counter()
    for index in range(_UNTIMED_QUERIES):
        request.set_input(inputs[-1 - index % len(inputs)])
        request.execute()
        request.get_outputs()
        if time.perf_counter() - start > _UNTIMED_S:
            break


def fraction_done(count: int, queries: int, elapsed_s: float, seconds: float) -> float:
    """The progress towards the two minima: the smaller fraction."""
    return min(1.0, count / max(queries, 1), elapsed_s / seconds if seconds else 1.0)
