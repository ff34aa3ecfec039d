"""The phases on a request of known behaviour: minima, limits, windows, the search."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edlab.agent import phases
from edlab.agent.errors import FixedBatchError
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


def test_a_saturated_window_drives_every_request_from_its_own_thread() -> None:
    requests = [Echo(0.01), Echo(0.01), Echo(0.01)]
    window = phases.saturate(list(requests), pool(4), 0.3, in_seconds(60), quiet)
    assert all(len(request.threads) == 1 for request in requests)
    assert len({next(iter(request.threads)) for request in requests}) == 3
    assert window.seconds >= 0.3
    done = sum(len(request.seen) for request in requests)
    assert 0 < window.completed < done  # what came before the window is not counted
    assert window.ips == pytest.approx(window.completed / window.seconds)


def test_a_window_counts_images_not_batches() -> None:
    window = phases.saturate([Echo(0.01)], phases.batches(pool(4), 4), 0.1, in_seconds(60), quiet)
    assert window.completed % 4 == 0


def test_a_window_longer_than_one_slow_query_still_closes_on_a_completion() -> None:
    window = phases.saturate([Echo(0.2)], pool(1), 0.1, in_seconds(60), quiet)
    assert window.completed == 1
    assert window.seconds >= 0.2


def test_a_window_ends_at_its_limit_with_a_whole_query_and_says_so() -> None:
    window = phases.saturate([Echo(0.02)], pool(1), 60, in_seconds(0.3), quiet)
    assert window.truncated
    assert window.seconds < 30
    assert window.completed >= 1
    late = phases.saturate([Echo(0.02)], pool(1), 60, in_seconds(0), quiet)
    assert late.truncated
    assert late.completed == 1
    assert not phases.saturate([Echo(0.02)], pool(1), 0.1, in_seconds(60), quiet).truncated


def test_a_slow_model_is_heard_of_before_its_first_completion_and_while_the_window_closes() -> None:
    reports: list[int] = []
    start = time.perf_counter()
    window = phases.saturate(
        [Echo(1.0)], pool(1), 0.01, in_seconds(60), lambda fraction, _: reports.append(time.perf_counter_ns())
    )
    assert sum(moment < window.start_ns for moment in reports) >= 2
    assert len(reports) <= 2 * (time.perf_counter() - start) + 1


def test_a_model_that_hangs_beyond_the_limit_is_not_heard_of() -> None:
    reports: list[float] = []
    phases.saturate([Echo(0.6)], pool(1), 0, in_seconds(0), lambda fraction, _: reports.append(fraction))
    assert reports == []


def test_an_error_of_a_request_comes_out() -> None:
    class Broken(Echo):
        def execute(self) -> None:
            raise RuntimeError("the device is gone")

    with pytest.raises(RuntimeError, match="gone"):
        phases.saturate([Echo(), Broken()], pool(1), 5, in_seconds(60), quiet)


def test_outputs_that_are_not_the_batch_are_refused() -> None:
    class First(Echo):
        def get_output(self) -> NDArray[Any]:
            return self.tensor[:1]

    with pytest.raises(FixedBatchError, match="1 rows"):
        phases.saturate([First()], phases.batches(pool(2), 2), 0.05, in_seconds(60), quiet)


def test_batches_use_every_image() -> None:
    joined = phases.batches(pool(5), 2)
    assert [list(batch[:, 0]) for batch in joined] == [[0, 1], [2, 3], [4, 0]]


def test_the_search_doubles_requests_then_batch_and_stops_without_gain(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device of four lanes, each 20 ms a query whatever the batch up to 2: best is batch 2 with 4 in flight."""

    def calculated(requests: list[Request], tensors: list[NDArray[Any]], *_: Any) -> phases.Window:
        batch = len(tensors[0])
        query_s = 0.02 * max(1, len(requests) / 4) * max(1, batch / 2)
        return phases.Window(round(1000 * batch * len(requests) / query_s), 0, 1000 * 10**9, False, [])

    monkeypatch.setattr(phases, "saturate", calculated)
    best, tried, truncated = phases.search(
        lambda in_flight, batch: compiled(Echo() for _ in range(in_flight)),
        pool(4),
        16,
        16,
        0.03,
        1,
        in_seconds(60),
        quiet,
    )
    assert best == phases.Setting(2, 4, 400.0)
    settings = [(setting.batch, setting.in_flight) for setting in tried]
    assert settings == [(1, 1), (1, 2), (1, 4), (1, 8), (2, 4), (4, 4)]
    assert not truncated


def test_the_search_ends_where_the_next_setting_might_not() -> None:
    best, tried, truncated = phases.search(
        lambda in_flight, batch: compiled(Echo(0.01) for _ in range(in_flight)),
        pool(4), 64, 1024, -1.0, 0.1, in_seconds(0.5), quiet,
    )  # fmt: skip
    assert truncated
    assert 1 <= len(tried) < 10
    assert best in tried
    late = phases.search(lambda *_: compiled([Echo(0.01)]), pool(1), 64, 64, 0.0, 0.1, in_seconds(0), quiet)
    assert late.truncated
    assert [(each.batch, each.in_flight) for each in late.tried] == [(1, 1)]


def test_the_search_is_heard_of_while_it_tries() -> None:
    reports: list[str] = []
    phases.search(
        lambda *_: compiled([Echo(0.6)]), pool(1), 1, 1, 0.0, 0.01, in_seconds(60),
        lambda fraction, message: reports.append(message),
    )  # fmt: skip
    assert len(reports) >= 3
    assert set(reports) == {"trying batch 1, 1 in flight"}


def test_the_search_notes_what_cannot_run_and_keeps_the_best() -> None:
    def compile_model(in_flight: int, batch: int) -> Compiled:
        if batch > 1:
            raise FixedBatchError("the batch is 1")
        return compiled(Echo(0.01) for _ in range(in_flight))

    best, tried, _ = phases.search(compile_model, pool(4), 8, 1, 0.03, 0.05, in_seconds(60), quiet)
    assert (best.batch, best.in_flight) == (1, 1)
    assert tried[-1].ips is None
    assert tried[-1].note == "the batch is 1"


def test_the_search_survives_a_setting_that_the_device_refuses_but_not_a_broken_model() -> None:
    def one_at_a_time(in_flight: int, batch: int) -> Compiled:
        if in_flight > 1:
            raise RuntimeError("the accelerator is in use")
        return compiled([Echo(0.01 * batch)])

    best, tried, _ = phases.search(one_at_a_time, pool(4), 1, 8, 0.03, 0.05, in_seconds(60), quiet)
    assert (best.batch, best.in_flight) == (1, 1)
    assert tried[-1].note == "the accelerator is in use"

    def broken(in_flight: int, batch: int) -> Compiled:
        raise RuntimeError("the accelerator is gone")

    with pytest.raises(RuntimeError, match="gone"):
        phases.search(broken, pool(4), 1, 8, 0.03, 0.05, in_seconds(60), quiet)
