"""Warm-up: queries until the latency has settled."""

from __future__ import annotations

import time
from array import array
from typing import Callable

import numpy as np

from .. import messages
from ..messages import OnProgress
from ..observer import Look, Observer
from ..runtimes.base import Request
from .loop import NS, fraction_done


def warmup(
    request: Request,
    tensors: list[np.ndarray],
    ask: messages.Warmup,
    progress: OnProgress,
    check: Callable[[list[np.ndarray]], None] = lambda outputs: None,
    checked: int = 0,
) -> messages.WarmupReport:
    """Run until the latency has settled: both minima, then the medians of the last window's halves within `tolerance`.

    The window consists of the queries of the last `seconds`, and at least `queries` of them. Ends unsettled at
    `max_seconds`. `check` is called with the outputs of each of the first `checked` queries, between two queries.
    """
    inputs = [request.prepare(tensor) for tensor in tensors]
    ends = array("q")
    durations = array("q")
    start = time.perf_counter_ns()
    settled = False
    check_at = start

    def look() -> Look:
        count, elapsed = len(ends), (time.perf_counter_ns() - start) / NS
        return Look(count, fraction_done(count, ask.queries, elapsed, ask.seconds), "%d queries" % count)

    with Observer(look, progress) as observer:
        while not settled:
            before = time.perf_counter_ns()
            request.set_input(inputs[len(durations) % len(inputs)])
            request.execute()
            outputs = request.get_outputs()
            now = time.perf_counter_ns()
            ends.append(now)
            durations.append(now - before)
            if len(ends) <= checked:
                check(outputs)
            del outputs  # as in the timed loops, which do not keep them during the next query
            elapsed = (now - start) / NS
            if len(ends) >= ask.queries and elapsed >= ask.seconds and now >= check_at:
                recent = np.searchsorted(np.array(ends), now - int(ask.seconds * NS))
                settled = halves_agree(np.array(durations)[min(int(recent), len(ends) - ask.queries) :], ask.tolerance)
                check_at = now + int(ask.seconds * NS / 4)
            if elapsed >= ask.max_seconds:
                break
    return messages.WarmupReport(durations[0] / 1e6, len(ends), elapsed, bool(settled), observer.activity)


def halves_agree(durations: np.ndarray, tolerance: float) -> bool:
    """Whether the medians of the first and the last half differ by at most `tolerance`, as a fraction of the last."""
    half = len(durations) // 2
    if half == 0:
        return False
    first, last = np.median(durations[:half]), np.median(durations[half:])
    return bool(abs(first - last) <= tolerance * last)
