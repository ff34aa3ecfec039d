"""Throughput: every request kept busy, and what completes in a window counted.

A window opens and closes with a completion. Of the other requests, whose queries straddle its edges, each query counts
by the share of its time that lies inside. Requests that start together complete together, again and again: if only
whole queries counted, each edge could lose almost one query of every request.
"""

from __future__ import annotations

import threading
import time
from array import array
from typing import Any, NamedTuple, Sequence

import numpy as np

from ..errors import FixedBatchError
from ..observer import Activity, Look, Observer
from ..runtimes.base import Request
from .loop import NS, Report, no_garbage_collection

_POLL_S = 0.001
_DRIVER_SECONDS = 0.2


class Window(NamedTuple):
    """A saturated window, from one completion to another."""

    completed: float  # images; those of a query that straddles an edge by the share of its time inside
    start_ns: int
    end_ns: int
    truncated: bool  # the time limit came before the seconds asked for
    ips_by_second: list[float]  # the rate in each whole second of it
    activity: Activity

    @property
    def seconds(self) -> float:
        return (self.end_ns - self.start_ns) / NS

    @property
    def ips(self) -> float:
        return self.completed / self.seconds


class _Null(Request):
    """Does nothing: what is left is what driving a request costs."""

    def __init__(self, output: np.ndarray) -> None:
        self._output = output

    def set_input(self, prepared: Any) -> None:
        pass

    def execute(self) -> None:
        pass

    def get_output(self) -> np.ndarray:
        return self._output


def driver_limit(batch: int, in_flight: int) -> float:
    """Inferences per second that this loop itself can drive at a setting: its rate with requests that do nothing.

    The threads share Python's lock, so above some 30,000 completions per second the loop may be what is measured.
    """
    tensor = np.zeros((batch, 1), np.float32)
    requests: list[Request] = [_Null(tensor) for _ in range(in_flight)]
    limit_ns = time.perf_counter_ns() + NS
    return saturate(requests, [tensor], _DRIVER_SECONDS, limit_ns, lambda fraction, message: None).ips


def batches(pool: list[np.ndarray], batch: int) -> list[np.ndarray]:
    """The pool's tensors of one image joined into tensors of `batch`, going round until each was used."""
    if batch == 1:
        return pool
    count = -(-len(pool) // batch)
    return [
        np.concatenate([pool[(first * batch + offset) % len(pool)] for offset in range(batch)])
        for first in range(count)
    ]


def saturate(
    requests: list[Request], tensors: list[np.ndarray], seconds: float, limit_ns: int, progress: Report
) -> Window:
    """Keep every request busy, and count what completes in a window of at least `seconds` once all of them are.

    The window opens when the last request completes its first query, and closes with the first completion after
    `seconds`, or after `limit_ns` of the clock. All stay busy until each has completed once more. Raises
    `FixedBatchError` where the outputs show that the batch was not taken as one.
    """
    batch = len(tensors[0])
    stop = threading.Event()
    completions = [array("q") for _ in requests]
    errors: list[BaseException] = []

    def drive(request: Request, stamps: array[int], offset: int) -> None:
        try:
            request.bind()
            set_input, execute, get_output = request.set_input, request.execute, request.get_output
            inputs = [request.prepare(tensor) for tensor in tensors]
            clock, size, stopped = time.perf_counter_ns, len(inputs), stop.is_set
            index = offset
            while not stopped():
                set_input(inputs[index % size])
                execute()
                output = get_output()
                stamps.append(clock())
                index += 1
            if len(output) != batch:
                raise FixedBatchError("the output for a batch of %d has %d rows" % (batch, len(output)))
        except BaseException as error:
            errors.append(error)
            stop.set()

    threads = [
        threading.Thread(target=drive, args=(request, stamps, offset), daemon=True)
        for offset, (request, stamps) in enumerate(zip(requests, completions))
    ]

    def look() -> Look:
        done, message = sum(map(len, completions)), "%d requests in flight" % len(completions)
        if not all(completions):
            return Look(done, 0.0, "waiting for the first of " + message)
        start, end = _bounds(completions, seconds, limit_ns)
        return Look(done, min((time.perf_counter_ns() - start) / (end - start), 1.0), message)

    with Observer(look, progress) as observer, no_garbage_collection():
        for thread in threads:
            thread.start()
        _await_window(completions, stop, seconds, limit_ns)
        stop.set()
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]
    return _window(completions, seconds, limit_ns, batch, observer.activity)


def _await_window(completions: list[array[int]], stop: threading.Event, seconds: float, limit_ns: int) -> None:
    """Wait until every request has completed once, and then until each has once more after the window's time."""
    while not all(completions):
        if stop.wait(_POLL_S):
            return
    _, close_from = _bounds(completions, seconds, limit_ns)
    while not stop.is_set() and min(stamps[-1] for stamps in completions) < close_from:
        stop.wait(max((close_from - time.perf_counter_ns()) / NS, _POLL_S))


def _bounds(completions: list[array[int]], seconds: float, limit_ns: int) -> tuple[int, int]:
    """When the window opened, and from when on a completion closes it."""
    start = max(stamps[0] for stamps in completions)
    return start, max(start + 1, min(start + int(seconds * NS), limit_ns))


def _window(completions: list[array[int]], seconds: float, limit_ns: int, batch: int, activity: Activity) -> Window:
    start, close_from = _bounds(completions, seconds, limit_ns)
    stamps = [np.array(each, np.int64) - start for each in completions]
    length = min(int(each[np.searchsorted(each, close_from - start)]) for each in stamps)
    completed = float(_done(stamps, [0, length])[1] * batch)
    truncated = length < int(seconds * NS)
    edges = range(0, length + 1, NS)
    by_second: list[float] = (np.diff(_done(stamps, edges)) * batch).tolist()
    return Window(completed, start, start + length, truncated, by_second, activity)


def _done(stamps: list[np.ndarray], moments: Sequence[int]) -> np.ndarray:
    """Queries done between the first of `moments` and each, int64 ns: each request does its queries evenly.

    Its `stamps` are the ends of its queries, and reach beyond the moments at both ends.
    """
    done = np.array([np.interp(moments, each, np.arange(len(each))) for each in stamps])
    since: np.ndarray = (done - done[:, :1]).sum(axis=0)
    return since
