"""The phases of a measurement: warm-up, latency, stages, throughput, idle. Timed by time.perf_counter_ns.

Pure of the protocol: requests and tensors in, figures out; `progress(fraction, message)` is called twice a second.
"""

from __future__ import annotations

import gc
import threading
import time
from array import array
from contextlib import contextmanager
from typing import Any, Callable, Iterator, NamedTuple

import numpy as np

from .errors import FixedBatchError
from .preprocess import InputTable, dequantize, top_classes
from .runtimes.base import Compiled, Request, TensorSpec
from .system import busy_and_total_ticks, clocks_mhz

Report = Callable[[float, str], None]  # (fraction 0..1, message)
CompileModel = Callable[[int, int], Compiled]  # (requests in flight, batch)

STAGES_QUERIES = 64
_NS = 1_000_000_000
_REPORT_NS = _NS // 2
_TOP = 5


class Latencies(NamedTuple):
    """int64 ns (N, 3) of each query in order: input copy, execute, output copy. Their sum is the latency."""

    stages_ns: np.ndarray
    seconds: float
    truncated: bool  # the time limit came before the minima


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


class Window(NamedTuple):
    """A saturated window: from one completion to another, so it holds whole queries only."""

    completed: int  # images
    start_ns: int
    end_ns: int
    truncated: bool  # the time limit came before the seconds asked for
    clocks_mhz: list[float]  # of each core, in the last half second of the load; empty where the system tells none

    @property
    def seconds(self) -> float:
        return (self.end_ns - self.start_ns) / _NS

    @property
    def ips(self) -> float:
        return self.completed / self.seconds


class Idle(NamedTuple):
    """A time without inference, and how busy the cores were with something else (0..1; None where unknown)."""

    start_ns: int
    end_ns: int
    cpu_busy: float | None


def warmup(
    request: Request,
    pool: list[np.ndarray],
    queries: int,
    seconds: float,
    tolerance: float,
    max_seconds: float,
    progress: Report,
) -> dict[str, Any]:
    """Run until the latency has settled: both minima, then the medians of the last window's halves within `tolerance`.

    The window is the queries of the last `seconds`, and at least `queries` of them. Ends unsettled at `max_seconds`.
    """
    ends = array("q")
    durations = array("q")
    start = time.perf_counter_ns()
    settled = False
    check_at = report_at = start
    while not settled:
        before = time.perf_counter_ns()
        request.set_input(pool[len(durations) % len(pool)])
        request.execute()
        request.get_output()
        now = time.perf_counter_ns()
        ends.append(now)
        durations.append(now - before)
        elapsed = (now - start) / _NS
        if now >= report_at:
            progress(_done(len(ends), queries, elapsed, seconds), "%d queries" % len(ends))
            report_at = now + _REPORT_NS
        if len(ends) >= queries and elapsed >= seconds and now >= check_at:
            recent = np.searchsorted(np.array(ends), now - int(seconds * _NS))
            settled = halves_agree(np.array(durations)[min(int(recent), len(ends) - queries) :], tolerance)
            check_at = now + int(seconds * _NS / 4)
        if elapsed >= max_seconds:
            break
    return {
        "first_inference_ms": durations[0] / 1e6,
        "queries": len(ends),
        "seconds": elapsed,
        "settled": bool(settled),
        "clocks_mhz": clocks_mhz(),
    }


def halves_agree(durations: np.ndarray, tolerance: float) -> bool:
    """Whether the medians of the first and the last half differ by at most `tolerance`, as a fraction of the last."""
    half = len(durations) // 2
    if half == 0:
        return False
    first, last = np.median(durations[:half]), np.median(durations[half:])
    return bool(abs(first - last) <= tolerance * last)


def latency(
    request: Request, pool: list[np.ndarray], queries: int, seconds: float, max_seconds: float, progress: Report
) -> Latencies:
    """One query in flight until both minima hold, or `max_seconds` are over.

    The loop keeps three integers a query and does nothing else; the garbage collector is off in it.
    """
    set_input, execute, get_output = request.set_input, request.execute, request.get_output
    clock, size = time.perf_counter_ns, len(pool)
    stages = array("q")
    count = 0
    with _no_garbage_collection():
        start = report_at = clock()
        enough_at, limit_at = start + int(seconds * _NS), start + int(max_seconds * _NS)
        while True:
            tensor = pool[count % size]
            t0 = clock()
            set_input(tensor)
            t1 = clock()
            execute()
            t2 = clock()
            get_output()
            t3 = clock()
            stages.extend((t1 - t0, t2 - t1, t3 - t2))
            count += 1
            if count >= queries and t3 >= enough_at:
                break
            if t3 >= limit_at:
                break
            if t3 >= report_at:
                progress(_done(count, queries, (t3 - start) / _NS, seconds), "%d queries" % count)
                report_at = t3 + _REPORT_NS
    truncated = count < queries or t3 < enough_at
    return Latencies(np.array(stages, np.int64).reshape(-1, 3), (t3 - start) / _NS, truncated)


def stages(
    request: Request, table: InputTable, images: np.ndarray, output: TensorSpec, progress: Report
) -> dict[str, Any]:
    """Mean milliseconds of what surrounds the model: uint8 to input tensor, and output tensor to its best five."""
    count = min(len(images), STAGES_QUERIES)
    tensor = table.apply(images[:1])
    preprocess_ns, postprocess_ns = 0, 0
    for index in range(count):
        image = np.ascontiguousarray(images[index : index + 1])
        before = time.perf_counter_ns()
        table.apply(image, tensor)
        preprocess_ns += time.perf_counter_ns() - before
        request.set_input(tensor)
        request.execute()
        raw = request.get_output()
        before = time.perf_counter_ns()
        top_classes(dequantize(raw.reshape(1, -1), output.scale, output.zero_point), _TOP)
        postprocess_ns += time.perf_counter_ns() - before
    progress(1.0, "%d queries" % count)
    return {
        "preprocess_ms": preprocess_ns / count / 1e6,
        "postprocess_ms": postprocess_ns / count / 1e6,
        "queries": count,
    }


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

    The window opens with a completion that is not counted and closes with one that is: the first after `seconds`, or
    after `limit_ns` of the clock. Raises `FixedBatchError` where the outputs show that the batch was not taken as one.
    """
    batch = len(tensors[0])
    stop = threading.Event()
    completions = [array("q") for _ in requests]
    errors: list[BaseException] = []

    def drive(request: Request, stamps: array[int], offset: int) -> None:
        try:
            request.bind()
            set_input, execute, get_output = request.set_input, request.execute, request.get_output
            clock, size, stopped = time.perf_counter_ns, len(tensors), stop.is_set
            index = offset
            while not stopped():
                set_input(tensors[index % size])
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
    with _no_garbage_collection():
        for thread in threads:
            thread.start()
        clocks = _await_window(completions, stop, seconds, limit_ns, _paced(progress, limit_ns))
        stop.set()
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]
    return _window(completions, seconds, limit_ns, batch, clocks)


def _await_window(
    completions: list[array[int]], stop: threading.Event, seconds: float, limit_ns: int, progress: Report
) -> list[float]:
    """Wait until every request has completed once, then for the completion that closes the window.

    Gives the cores' clocks, read last within half a second of the window's end.
    """
    while not all(completions):
        progress(0.0, "waiting for the first of %d requests in flight" % len(completions))
        if stop.wait(0.001):
            return []
    clocks: list[float] = []
    start, end = _bounds(completions, seconds, limit_ns)
    while not stop.is_set() and max(stamps[-1] for stamps in completions) < end:
        now = time.perf_counter_ns()
        progress(min((now - start) / (end - start), 1.0), "%d requests in flight" % len(completions))
        if now < end:
            clocks = clocks_mhz()
        stop.wait(min(max((end - now) / _NS, 0.001), _REPORT_NS / _NS))
    return clocks


def _bounds(completions: list[array[int]], seconds: float, limit_ns: int) -> tuple[int, int]:
    """When the window opened, and from when on a completion closes it."""
    start = max(stamps[0] for stamps in completions)
    return start, max(start + 1, min(start + int(seconds * _NS), limit_ns))


def _paced(progress: Report, limit_ns: int) -> Report:
    """Passes on two reports a second, and none after the limit: the host then takes a model that hangs as stalled."""
    due = 0

    def report(fraction: float, message: str) -> None:
        nonlocal due
        now = time.perf_counter_ns()
        if due <= now < limit_ns:
            progress(fraction, message)
            due = now + _REPORT_NS

    return report


def _window(completions: list[array[int]], seconds: float, limit_ns: int, batch: int, clocks: list[float]) -> Window:
    start, close_from = _bounds(completions, seconds, limit_ns)
    stamps = np.sort(np.concatenate([np.array(each, np.int64) for each in completions]))
    end = int(stamps[np.searchsorted(stamps, close_from)])
    completed = int(np.count_nonzero((stamps > start) & (stamps <= end)))
    return Window(completed * batch, start, end, end < start + int(seconds * _NS), clocks)


def idle(seconds: float, progress: Report) -> Idle:
    """Do nothing for `seconds`."""
    ticks_before = busy_and_total_ticks()
    start = time.perf_counter_ns()
    end = start + int(seconds * _NS)
    while True:
        now = time.perf_counter_ns()
        if now >= end:
            break
        progress((now - start) / (end - start), "")
        time.sleep(min((end - now) / _NS, _REPORT_NS / _NS))
    ticks_after = busy_and_total_ticks()
    busy = None
    if ticks_before and ticks_after and ticks_after[1] > ticks_before[1]:
        busy = (ticks_after[0] - ticks_before[0]) / (ticks_after[1] - ticks_before[1])
    return Idle(start, now, busy)


def _done(count: int, queries: int, elapsed_s: float, seconds: float) -> float:
    """How much of the two minima is done: the lesser fraction."""
    return min(1.0, count / max(queries, 1), elapsed_s / seconds if seconds else 1.0)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    gc.collect()
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
