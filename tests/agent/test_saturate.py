"""A saturated window: what counts in it, by made-up moments, and how the requests are driven."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from echo import PATIENCE_S, Echo, Looks, compiled, in_seconds, pool, quiet
from numpy.typing import NDArray

from edlab.agent import observer, phases, system
from edlab.agent.errors import FixedBatchError
from edlab.agent.messages import Activity
from edlab.agent.phases.window import Window, bounds, window_of
from edlab.agent.runtimes.base import Compiled

NOTHING = Activity(0.0, None, None, None, 0, [], None)
FAR = 10**15


def each(period: float, start: float = 0.0, until: float = 10.0) -> list[int]:
    """The ends, ns, of queries that take so many seconds each, one after another from `start` on."""
    return [round((start + period * (index + 1)) * 1e9) for index in range(round((until - start) / period))]


def window(*completions: list[int], seconds: float, limit_ns: int = FAR, batch: int = 1) -> Window:
    return window_of(completions, seconds, limit_ns, batch, NOTHING)


def test_a_window_opens_when_all_are_busy_and_closes_after_its_time_or_at_its_limit() -> None:
    completions = [each(0.1), each(0.25)]
    assert bounds(completions, 2.0, FAR) == (250_000_000, 2_250_000_000)
    assert bounds(completions, 2.0, 1_000_000_000) == (250_000_000, 1_000_000_000)
    assert bounds(completions, 2.0, 0) == (250_000_000, 250_000_001)


def test_a_window_counts_images_not_batches() -> None:
    assert window(each(0.1), seconds=0.5, batch=4).completed == 20


def test_a_window_says_what_completed_in_each_second() -> None:
    assert window(each(0.05), seconds=2.3, batch=2).ips_by_second == pytest.approx([40, 40])


def test_a_query_counts_in_each_second_by_its_share_of_it() -> None:
    assert window(each(0.4), seconds=2.1, batch=4).ips_by_second == pytest.approx([10, 10])  # whole ones: 8 or 12


@pytest.mark.parametrize(("in_flight", "period", "seconds"), [(4, 0.3, 0.2), (4, 0.12, 0.2), (16, 0.12, 0.2)])
def test_requests_in_lockstep_are_counted_at_their_rate(in_flight: int, period: float, seconds: float) -> None:
    lockstep = [[moment + index for moment in each(period)] for index in range(in_flight)]  # one ns after another
    found = window(*lockstep, seconds=seconds)
    assert found.ips == pytest.approx(in_flight / period, rel=1e-6)
    assert found.ips == found.completed / found.seconds


def test_requests_out_of_step_and_of_different_speed_are_counted_at_their_rates() -> None:
    found = window(each(0.2), each(0.2, start=0.13), each(0.05), seconds=0.3)
    assert found.ips == pytest.approx(2 / 0.2 + 1 / 0.05)


def test_a_window_shorter_than_one_slow_query_still_closes_on_a_completion() -> None:
    found = window(each(0.2), seconds=0.1)
    assert (found.completed, found.seconds) == (1, 0.2)
    assert not found.truncated


def test_a_window_ends_at_its_limit_with_a_whole_query_and_says_so() -> None:
    found = window(each(0.02), seconds=60, limit_ns=310_000_000)
    assert found.truncated
    assert (found.start_ns, found.end_ns) == (20_000_000, 320_000_000)
    late = window(each(0.02), seconds=60, limit_ns=0)
    assert late.truncated
    assert late.completed == 1


@pytest.fixture
def watchful(monkeypatch: pytest.MonkeyPatch) -> None:
    """The observer looks a hundred times a second."""
    monkeypatch.setattr(observer, "LOOK_S", 0.01)


def test_every_request_is_driven_from_its_own_thread() -> None:
    requests = [Echo(0.01), Echo(0.01), Echo(0.01)]
    found = phases.saturate(list(requests), pool(4), 0.3, in_seconds(60), quiet)
    assert all(len(request.threads) == 1 for request in requests)
    assert len({next(iter(request.threads)) for request in requests}) == 3
    assert found.seconds >= 0.3
    done = sum(len(request.seen) for request in requests)
    assert 0 < found.completed < done  # what came before the window is not counted


def test_a_limit_that_has_passed_ends_the_window() -> None:
    found = phases.saturate([Echo()], pool(1), PATIENCE_S, in_seconds(0), quiet)
    assert found.truncated
    assert found.completed == 1


@pytest.mark.usefixtures("watchful")
def test_a_model_is_heard_of_before_its_first_completion_and_while_the_window_closes() -> None:
    reports: list[str] = []
    heard = threading.Event()

    class Heard(Echo):
        """Its second query, in which the window closes, waits for the report of the first."""

        def execute(self) -> None:
            if len(self.seen) == 2:
                assert heard.wait(PATIENCE_S)

    def progress(fraction: float | None, message: str) -> None:
        reports.append(message)
        if len(reports) == 2:
            heard.set()

    phases.saturate([Heard()], pool(1), 0, in_seconds(60), progress)
    assert reports[:2] == ["waiting for the first of 1 requests in flight", "1 requests in flight"]


@pytest.mark.usefixtures("watchful")
def test_a_model_that_hangs_is_heard_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = Looks(monkeypatch)

    class Hanging(Echo):
        def execute(self) -> None:
            assert looks.released.wait(PATIENCE_S)

    phases.saturate([Hanging()], pool(1), 0, in_seconds(0), looks.report)
    assert looks.at_each[4] == ["waiting for the first of 1 requests in flight"]


@pytest.mark.usefixtures("watchful")
def test_the_clocks_are_read_under_load(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    reading = threading.Event()

    def clocks() -> list[float]:
        read.append(time.perf_counter_ns())
        reading.set()
        return [float(len(read))]

    class Watched(Echo):
        """Its second query, all of it in the window, lasts for one whole look."""

        def execute(self) -> None:
            for _ in range(2 if len(self.seen) == 2 else 0):
                reading.clear()
                assert reading.wait(PATIENCE_S)

    monkeypatch.setattr(system, "clocks_mhz", clocks)
    found = phases.saturate([Watched()], pool(1), 0, in_seconds(60), quiet)
    assert found.activity.clocks_mhz == [float(number) for number in range(1, len(read) + 1)]
    assert any(found.start_ns < moment < found.end_ns for moment in read)


class Broken(Echo):
    def execute(self) -> None:
        raise RuntimeError("the device is gone")


def test_an_error_of_a_request_comes_out() -> None:
    with pytest.raises(RuntimeError, match="gone"):
        phases.saturate([Echo(), Broken()], pool(1), 5, in_seconds(60), quiet)


@contextmanager
def no_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def test_a_trial_that_failed_is_let_go_before_the_next_is_compiled() -> None:
    together = threading.Barrier(2)

    class Both(Broken):
        """Fails when the other does."""

        def execute(self) -> None:
            together.wait(PATIENCE_S)
            super().execute()

    failed: list[weakref.ref[Echo]] = []
    held: list[int] = []

    def compile_model(in_flight: int, batch: int) -> Compiled:
        held.append(sum(reference() is not None for reference in failed))
        if batch == 1:
            return compiled([Echo(0.001)])
        requests = [Both(), Both()]
        failed.extend(map(weakref.ref, requests))
        return compiled(requests)

    limits = phases.Limits(max_batch=4, max_in_flight=1, cores=1, gain=0.03)
    with no_collection():
        found = phases.search(compile_model, pool(4), limits, 0.01, in_seconds(60), quiet)
        assert [reference() for reference in failed] == [None] * 4
    assert [trial.note for trial in found.trials] == ["", "the device is gone", "the device is gone"]
    assert held == [0, 0, 0]


def test_no_thread_drives_on_where_the_system_starts_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    start, before = threading.Thread.start, set(threading.enumerate())
    started: list[threading.Thread] = []

    def starts_three(thread: threading.Thread) -> None:
        """The observer's, and those of two requests."""
        if len(started) == 3:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", starts_three)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        phases.saturate([Echo(0.001) for _ in range(4)], pool(1), 5, in_seconds(60), quiet)
    assert set(threading.enumerate()) == before


def test_outputs_that_are_not_the_batch_are_refused() -> None:
    class First(Echo):
        def get_outputs(self) -> list[NDArray[Any]]:
            return [self.tensor[:1]]

    with pytest.raises(FixedBatchError, match="1 rows"):
        phases.saturate([First()], phases.batches(pool(2), 2), 0.05, in_seconds(60), quiet)


def test_batches_use_every_image() -> None:
    joined = phases.batches(pool(5), 2)
    assert [list(batch[:, 0]) for batch in joined] == [[0, 1], [2, 3], [4, 0]]


def test_the_limit_of_the_driving_loop_is_that_of_requests_that_do_nothing() -> None:
    assert phases.driver_limit(batch=4, in_flight=2) > 0
