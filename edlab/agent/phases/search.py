"""The throughput search: which batch, and how many requests in flight."""

from __future__ import annotations

import time
from typing import Callable, NamedTuple

import numpy as np

from ..runtimes.base import Compiled
from .loop import Report
from .saturate import batches, saturate

CompileModel = Callable[[int, int], Compiled]  # (requests in flight, batch)


class Setting(NamedTuple):
    """One setting of the throughput search; `ips` None and a note where the model cannot run so."""

    batch: int
    in_flight: int
    ips: float | None
    note: str = ""


class Search(NamedTuple):
    """The best setting found, and all that were tried in their order."""

    best: Setting
    tried: list[Setting]
    truncated: bool  # the time limit came before the search had ended


def search(
    compile_model: CompileModel,
    pool: list[np.ndarray],
    max_batch: int,
    max_in_flight: int,
    gain: float,
    probe_seconds: float,
    limit_ns: int,
    progress: Report,
) -> Search:
    """Double the requests in flight at batch 1, then the batch, while that adds at least the fraction `gain`.

    A setting is tried only where twice the time that the last one took is left before `limit_ns` of the clock; the
    first one is always.
    """
    tried: list[Setting] = []
    truncated = False
    took_ns = 0

    def probe(batch: int, in_flight: int) -> Setting:
        nonlocal took_ns
        message = "trying batch %d, %d in flight" % (batch, in_flight)
        progress(0.0, message)
        start = time.perf_counter_ns()
        setting = _probe(
            compile_model, pool, batch, in_flight, probe_seconds, limit_ns, lambda fraction, _: progress(0.0, message)
        )
        took_ns = time.perf_counter_ns() - start
        tried.append(setting)
        return setting

    def climb(best: Setting, following: Callable[[Setting], tuple[int, int] | None]) -> Setting:
        nonlocal truncated
        while True:
            candidate = following(best)
            if candidate is None:
                return best
            if time.perf_counter_ns() + 2 * took_ns > limit_ns:
                truncated = True
                return best
            setting = probe(*candidate)
            if setting.ips is None or best.ips is None or setting.ips < best.ips * (1 + gain):
                return max((best, setting), key=lambda each: each.ips or 0.0)
            best = setting

    best = probe(1, 1)
    best = climb(best, lambda now: (1, now.in_flight * 2) if now.in_flight * 2 <= max_in_flight else None)
    best = climb(best, lambda now: (now.batch * 2, now.in_flight) if now.batch * 2 <= max_batch else None)
    return Search(best, tried, truncated)


def _probe(
    compile_model: CompileModel,
    pool: list[np.ndarray],
    batch: int,
    in_flight: int,
    seconds: float,
    limit_ns: int,
    progress: Report,
) -> Setting:
    try:
        compiled = compile_model(in_flight, batch)
        window = saturate(compiled.requests, batches(pool, batch), seconds, limit_ns, progress)
    except (
        Exception
    ) as error:  # a larger setting may exceed the model, the memory or the device: that bounds the search
        if (batch, in_flight) == (1, 1):
            raise
        return Setting(batch, in_flight, None, str(error))
    return Setting(batch, in_flight, window.ips)
