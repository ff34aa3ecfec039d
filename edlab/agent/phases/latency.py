"""Latency: one query in flight, with each of its stages timed."""

from __future__ import annotations

import time
from array import array
from typing import Any, NamedTuple

import numpy as np

from .. import messages
from ..messages import Activity, OnProgress
from ..observer import Look, Observer
from ..runtimes.base import Request
from ..statistics import relative_width
from .loop import NS, fraction_done, no_garbage_collection, run_untimed

_HOPE = 1.5  # the phase continues if it needs at most this many times the remaining time, by the present width
_LEAST_GROWTH, _MOST_GROWTH = 1.25, 2.0  # of the measured time, from one check of the interval to the next


class Latencies(NamedTuple):
    """int64 ns (N, 3) of each query in order: input copy, execute, output copy. Their sum is the latency."""

    stages_ns: np.ndarray
    start_ns: int  # of the first timed query
    end_ns: int  # of the last one
    seconds: float
    truncated: bool  # the time limit was reached before the minima
    activity: Activity


def latency(
    request: Request,
    tensors: list[np.ndarray],
    ask: messages.Latency,
    progress: OnProgress,
) -> Latencies:
    """One query in flight until both minima are reached and the mean's interval is narrow, or for `max_seconds`.

    Narrow: the 95 % interval (`statistics.mean_interval`, over `windows`) is at most the fraction `max_interval` of
    the mean wide. The loop stores three integers per query and does nothing else: the garbage collector is off,
    progress is reported from another thread, and the interval is checked between stretches of queries.
    """
    inputs = [request.prepare(tensor) for tensor in tensors]
    stages = array("q")
    start = first = time.perf_counter_ns()
    goal_s, measured_s = ask.seconds, 0.0

    shown = 0.0

    def look() -> Look:
        nonlocal shown  # the goal may increase, the fraction done never decreases
        count, elapsed = len(stages) // 3, (time.perf_counter_ns() - start) / NS
        shown = max(shown, fraction_done(count, ask.queries, elapsed, goal_s))
        return Look(count, shown, "%d queries" % count)

    with Observer(look, progress) as observer:
        while True:
            with no_garbage_collection():
                run_untimed(request, inputs)
                first = first if stages else time.perf_counter_ns()
                measured_s += _stretch(
                    request, inputs, stages, ask.queries, goal_s - measured_s, ask.max_seconds - measured_s
                )
            count = len(stages) // 3
            if measured_s >= ask.max_seconds:
                break
            width = relative_width(np.array(stages, np.int64).reshape(-1, 3).sum(axis=1), ask.windows)
            longer_s = None if width is None else goal_after(measured_s, width, ask.max_interval, ask.max_seconds)
            if longer_s is None:
                break
            goal_s = longer_s
    truncated = count < ask.queries or measured_s < ask.seconds
    return Latencies(
        np.array(stages, np.int64).reshape(-1, 3),
        first,
        time.perf_counter_ns(),
        measured_s,
        truncated,
        observer.activity,
    )


def goal_after(seconds: float, width: float, wanted: float, max_seconds: float) -> float | None:
    """How long to measure in total, if `seconds` gave an interval of this width. None: it is time to end.

    The width decreases with the square root of the time. So the phase ends once the interval is as narrow as `wanted`,
    or if it is unlikely to be so within `max_seconds`: the width of a few windows is itself uncertain.
    """
    if width <= wanted or seconds * width**2 > _HOPE * max_seconds * wanted**2:
        return None
    return min(seconds * min(max((width / wanted) ** 2, _LEAST_GROWTH), _MOST_GROWTH), max_seconds)


def _stretch(
    request: Request, inputs: list[Any], stages: array[int], queries: int, seconds: float, max_seconds: float
) -> float:
    """Append queries to `stages` until there are `queries` and `seconds` have passed, or for `max_seconds`.

    Returns the seconds that it took.
    """
    set_input, execute, get_outputs = request.set_input, request.execute, request.get_outputs
    clock, size, count = time.perf_counter_ns, len(inputs), len(stages) // 3
    start = clock()
    enough_at, limit_at = start + int(seconds * NS), start + int(max_seconds * NS)
    while True:
        tensor = inputs[count % size]
        t0 = clock()
        set_input(tensor)
        t1 = clock()
        execute()
        t2 = clock()
        get_outputs()
        t3 = clock()
        stages.extend((t1 - t0, t2 - t1, t3 - t2))
        count += 1
        if count >= queries and t3 >= enough_at:
            break
        if t3 >= limit_at:
            break
    return (t3 - start) / NS
