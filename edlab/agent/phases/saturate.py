"""Throughput: every request is kept busy by its own thread, and completions in a window are counted (`window`)."""

from __future__ import annotations

import threading
import time
from array import array
from typing import Any

import numpy as np

from ..errors import FixedBatchError
from ..messages import OnProgress
from ..observer import Look, Observer
from ..runtimes.base import Request
from .loop import NS, no_garbage_collection
from .window import Window, bounds, window_of

_POLL_S = 0.001
_DRIVER_SECONDS = 0.2


class _Null(Request):
    """Does nothing: only the cost of driving a request is left."""

    def __init__(self, output: np.ndarray) -> None:
        self._outputs = [output]

    def set_input(self, prepared: Any) -> None:
        pass

    def execute(self) -> None:
        pass

    def get_outputs(self) -> list[np.ndarray]:
        return self._outputs


def driver_limit(batch: int, in_flight: int) -> float:
    """Inferences per second that this loop itself can drive at a setting: its rate with requests that do nothing.

    The threads share Python's lock, so above some 30,000 completions per second the loop may be what is measured.
    """
    tensor = np.zeros((batch, 1), np.float32)
    requests: list[Request] = [_Null(tensor) for _ in range(in_flight)]
    limit_ns = time.perf_counter_ns() + NS
    return saturate(requests, [tensor], _DRIVER_SECONDS, limit_ns, lambda fraction, message: None).ips


def batches(pool: list[np.ndarray], batch: int) -> list[np.ndarray]:
    """The pool's tensors of one image joined into tensors of `batch`, cyclically until each was used."""
    if batch == 1:
        return pool
    count = -(-len(pool) // batch)
    return [
        np.concatenate([pool[(first * batch + offset) % len(pool)] for offset in range(batch)])
        for first in range(count)
    ]


def saturate(
    requests: list[Request], tensors: list[np.ndarray], seconds: float, limit_ns: int, progress: OnProgress
) -> Window:
    """Keep every request busy, and count completions in a window of at least `seconds` once all of them are busy.

    The window opens when the last request completes its first query, and closes with the first completion after
    `seconds`, or after `limit_ns` of the clock. All stay busy until each has completed once more. When this returns or
    raises, no thread drives a request any more.

    Raises the first error of a request, `RuntimeError` if the system cannot start a thread, and `FixedBatchError` if
    the outputs show that the model did not accept the batch.
    """
    batch = len(tensors[0])
    stop = threading.Event()
    completions = [array("q") for _ in requests]
    errors: list[BaseException] = []

    def drive(request: Request, stamps: array[int], offset: int) -> None:
        try:
            request.bind()
            set_input, execute, get_outputs = request.set_input, request.execute, request.get_outputs
            inputs = [request.prepare(tensor) for tensor in tensors]
            clock, size, stopped = time.perf_counter_ns, len(inputs), stop.is_set
            index = offset
            while not stopped():
                set_input(inputs[index % size])
                execute()
                outputs = get_outputs()
                stamps.append(clock())
                index += 1
            if stamps and len(outputs[0]) != batch:  # none: another request failed before this one began
                raise FixedBatchError("the output for a batch of %d has %d rows" % (batch, len(outputs[0])))
        except BaseException as error:
            errors.append(error)
            stop.set()

    def look() -> Look:
        done, message = sum(map(len, completions)), "%d requests in flight" % len(completions)
        if not all(completions):
            return Look(done, 0.0, "waiting for the first of " + message)
        start, end = bounds(completions, seconds, limit_ns)
        return Look(done, min((time.perf_counter_ns() - start) / (end - start), 1.0), message)

    threads: list[threading.Thread] = []  # the started threads
    with Observer(look, progress) as observer, no_garbage_collection():
        try:
            for offset, (request, stamps) in enumerate(zip(requests, completions)):
                thread = threading.Thread(target=drive, args=(request, stamps, offset), daemon=True)
                thread.start()
                threads.append(thread)
            _await_window(completions, stop, seconds, limit_ns)
        except RuntimeError as error:  # no more threads; raised below, since an old contextlib would keep it in a cycle
            errors.append(error)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    if errors:
        # A traceback references this frame, and so the requests: an error that stayed in the list would keep them, and
        # all of the model's memory, until the next garbage collection.
        del errors[1:]
        raise errors.pop()
    return window_of(completions, seconds, limit_ns, batch, observer.activity)


def _await_window(completions: list[array[int]], stop: threading.Event, seconds: float, limit_ns: int) -> None:
    """Wait until every request has completed once, and then until each has completed again after the window's time."""
    while not all(completions):
        if stop.wait(_POLL_S):
            return
    _, close_from = bounds(completions, seconds, limit_ns)
    while not stop.is_set() and min(stamps[-1] for stamps in completions) < close_from:
        stop.wait(max((close_from - time.perf_counter_ns()) / NS, _POLL_S))
