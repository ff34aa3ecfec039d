"""Warm-up, latency, host work and idle on a request of known behaviour: minima, limits, and what is watched meanwhile.

Most of it is timed by a clock that only the request moves.
"""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from echo import PATIENCE_S, Clock, Echo, Looks, pool, quiet
from numpy.typing import NDArray

from edlab.agent import observer, phases, system
from edlab.agent.messages import Latency, OnProgress, Pool, TensorSpec, Warmup, WarmupReport
from edlab.agent.observer import Counters, Look, Observer
from edlab.agent.phases.latency import Latencies, goal_after
from edlab.agent.preprocess import InputTable
from edlab.agent.runtimes.base import Request
from edlab.agent.tasks.classification import Task

UNTIMED = 3  # queries before those that are measured


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the phases of this file."""
    clock = Clock()
    for name in ("host_work", "latency", "loop", "warmup"):
        monkeypatch.setattr(sys.modules[f"edlab.agent.phases.{name}"], "time", clock)
    return clock


@pytest.fixture
def watchful(monkeypatch: pytest.MonkeyPatch) -> None:
    """The observer looks a hundred times a second."""
    monkeypatch.setattr(observer, "LOOK_S", 0.01)


class Wandering(Echo):
    """Takes one of two times by a rule on the count of queries."""

    def __init__(self, clock: Clock, slow: Callable[[int], bool]) -> None:
        super().__init__(clock=clock)
        self.slow = slow

    def execute(self) -> None:
        self.seconds = 0.006 if self.slow(len(self.seen)) else 0.002
        super().execute()


UNREAD = Pool("", [])  # the phases are given tensors


def latency(request: Request, tensors: int = 1, progress: OnProgress = quiet, **limits: Any) -> Latencies:
    wanted = Latency(pool=UNREAD, windows=5, max_interval=9.0, out="", queries=0, seconds=0, max_seconds=0)
    return phases.latency(request, pool(tensors), wanted._replace(**limits), progress)


def warmup(request: Request, tensors: int = 1, **limits: Any) -> WarmupReport:
    return phases.warmup(request, pool(tensors), Warmup(pool=UNREAD, **limits), quiet)


def test_latency_rotates_over_the_pool_with_garbage_collection_off() -> None:
    request = Echo()
    measured = latency(request, 3, queries=7, seconds=0, max_seconds=10)
    assert request.seen[UNTIMED:] == [0, 1, 2, 0, 1, 2, 0]
    assert request.prepared == [0, 1, 2]  # once for the pool, not for each query
    assert not any(request.garbage_collection)
    assert gc.isenabled()
    assert measured.stages_ns.shape == (7, 3)
    assert not measured.truncated


def test_queries_after_a_collection_are_not_measured(clock: Clock) -> None:
    class Cold(Echo):
        def execute(self) -> None:
            self.seconds = 0.1 if len(self.seen) <= UNTIMED else 0.001
            super().execute()

    measured = latency(Cold(clock=clock), queries=20, seconds=0, max_seconds=10)
    assert measured.stages_ns.tolist() == [[0, 1_000_000, 0]] * 20


def test_latency_goes_on_until_both_minima_hold(clock: Clock) -> None:
    by_time = latency(Echo(0.01, clock), queries=2, seconds=0.2, max_seconds=10)
    assert by_time.seconds == pytest.approx(0.2)
    assert len(by_time.stages_ns) == 20
    by_count = latency(Echo(0.01, clock), queries=30, seconds=0.01, max_seconds=10)
    assert len(by_count.stages_ns) == 30


def test_latency_ends_at_its_limit_and_says_so(clock: Clock) -> None:
    measured = latency(Echo(0.02, clock), queries=10_000, seconds=0, max_seconds=0.2)
    assert measured.truncated
    assert measured.seconds == pytest.approx(0.2)
    assert len(measured.stages_ns) == 10


def test_latency_goes_on_while_the_interval_is_wide_and_ends_when_it_is_narrow(clock: Clock) -> None:
    """The first queries are three times slower: what follows makes the mean certain enough."""
    limits: dict[str, Any] = {"queries": 60, "seconds": 0, "max_seconds": 20}
    unsteady = Wandering(clock, lambda count: count < 30)
    assert len(latency(unsteady, **limits, max_interval=9.0).stages_ns) == 60
    unsteady = Wandering(clock, lambda count: count < 30)
    measured = latency(unsteady, **limits, max_interval=0.5)
    assert len(measured.stages_ns) > 60
    assert measured.seconds < 20


def test_latency_ends_where_its_limit_leaves_no_hope_of_a_narrow_interval(clock: Clock) -> None:
    never = Wandering(clock, lambda count: count % 100 < 50)
    measured = latency(never, queries=60, seconds=0, max_seconds=20, max_interval=0.001)
    assert len(measured.stages_ns) == 60
    assert not measured.truncated  # the verdict judges the interval; the minima were reached


def test_how_long_to_go_on_follows_from_the_width() -> None:
    assert goal_after(10, width=0.04, wanted=0.05, max_seconds=120) is None
    assert goal_after(10, width=0.06, wanted=0.05, max_seconds=120) == pytest.approx(14.4)
    assert goal_after(10, width=0.15, wanted=0.05, max_seconds=120) == 20  # looks again before it goes on for 90 s
    assert goal_after(10, width=0.25, wanted=0.05, max_seconds=120) is None  # 250 s
    assert goal_after(100, width=0.0505, wanted=0.05, max_seconds=120) == 120
    assert goal_after(1, width=0.5, wanted=0.0, max_seconds=120) is None


@pytest.mark.usefixtures("watchful")
def test_latency_reports_from_another_thread_and_never_back(clock: Clock) -> None:
    reports: list[tuple[float, int]] = []
    heard = threading.Semaphore(0)

    class Heard(Echo):
        """Each query that is measured waits for one more report."""

        def execute(self) -> None:
            if len(self.seen) > UNTIMED:
                assert heard.acquire(timeout=PATIENCE_S)
            super().execute()

    def progress(fraction: float | None, message: str) -> None:
        assert fraction is not None
        reports.append((fraction, threading.get_ident()))
        heard.release()

    latency(Heard(0.1, clock), queries=1, seconds=1.0, max_seconds=9, progress=progress)
    assert len(reports) in (10, 11)  # one before the loop, and one after each query: perhaps after the last as well
    assert reports[0] == (0.0, threading.get_ident())
    assert {thread for _, thread in reports[1:]}.isdisjoint({threading.get_ident()})
    fractions = [fraction for fraction, _ in reports]
    assert fractions == sorted(fractions)
    assert all(0 <= fraction <= 1 for fraction in fractions)


@pytest.mark.usefixtures("watchful")
def test_a_query_that_hangs_is_not_reported_as_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = Looks(monkeypatch)

    class Hanging(Echo):
        """In the first query that is measured. Those before it do not count."""

        def execute(self) -> None:
            if len(self.seen) > UNTIMED:
                assert looks.released.wait(PATIENCE_S)

    latency(Hanging(), queries=1, seconds=0, max_seconds=9, progress=looks.report)
    assert looks.at_each[4] == ["0 queries"]


@pytest.mark.usefixtures("watchful")
def test_the_observer_reports_only_what_has_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = iter([5, 5, 5, 6, 6, 4, 8])
    reports: list[tuple[float | None, str]] = []
    last = threading.Event()

    def look() -> Look:
        done = next(counts, 8)
        return Look(done, done / 10, f"{done} done")

    def progress(fraction: float | None, message: str) -> None:
        reports.append((fraction, message))
        if message == "8 done":
            last.set()

    with Observer(look, progress):
        assert last.wait(PATIENCE_S)
    assert reports == [(0.0, "5 done"), (0.6, "6 done"), (0.8, "8 done")]


def test_warm_up_settles_on_a_steady_request_and_not_on_a_drifting_one(clock: Clock) -> None:
    steady = warmup(Echo(0.005, clock), queries=10, seconds=0.1, tolerance=0.5, max_seconds=5)
    assert steady.settled
    assert steady.queries == 20

    class Drifting(Echo):
        def execute(self) -> None:
            self.seconds += 0.002
            super().execute()

    drifting = warmup(Drifting(clock=clock), queries=4, seconds=0.2, tolerance=0.02, max_seconds=0.6)
    assert not drifting.settled
    assert drifting.seconds >= 0.6


def test_halves_agree_on_the_median_within_the_tolerance() -> None:
    assert phases.halves_agree(np.array([101, 101, 900, 100, 100, 100]), 0.02)
    assert not phases.halves_agree(np.array([110, 110, 110, 100, 100, 100]), 0.02)
    assert not phases.halves_agree(np.array([100]), 0.02)


IMAGES = np.zeros((5, 4, 4, 3), np.uint8)
TASK = Task([TensorSpec("out", (1, 48), "float32")], {})


def test_host_work_leaves_the_model_out(clock: Clock) -> None:
    class Slow(InputTable):
        def apply(self, images: NDArray[np.uint8], out: NDArray[Any] | None = None) -> NDArray[Any]:
            clock.sleep(0.002)
            return super().apply(images, out)

    result = phases.host_work(Echo(0.1, clock), Slow([0.0] * 3, [1.0] * 3, "NHWC"), IMAGES, TASK, quiet)
    assert result.queries == 5
    assert result.preprocess_ms == 2
    assert result.postprocess_ms == 0


def test_both_parts_of_the_host_work_take_time() -> None:
    result = phases.host_work(Echo(), InputTable([0.0] * 3, [1.0] * 3, "NHWC"), IMAGES, TASK, quiet)
    assert result.preprocess_ms > 0
    assert result.postprocess_ms > 0


def test_idle_lasts_as_long_as_asked_and_says_what_else_ran() -> None:
    span = phases.idle(0.3, quiet)
    assert (span.end_ns - span.start_ns) / 1e9 >= 0.3
    assert span.activity.others is not None
    assert 0 <= span.activity.others <= 1
    assert span.activity.own is not None
    assert 0 <= span.activity.own <= 1


def test_what_happened_is_what_was_counted_between_two_moments() -> None:
    before = Counters(50.0, 4.0, 7, system.CpuSeconds(busy=10.0, stolen=1.0, total=100.0), 4)
    after = Counters(60.0, 6.0, 9, system.CpuSeconds(busy=15.0, stolen=2.0, total=120.0), 6)
    activity = after.since(before, [2000.0])
    assert activity.seconds == 10
    assert activity.own == pytest.approx(0.10)  # 2 s of 20
    assert activity.others == pytest.approx(0.15)  # 5 s of 20, less this process's own
    assert activity.stolen == pytest.approx(0.05)
    assert activity.involuntary_switches == 2
    assert activity.throttle_events == 2
    assert activity.clocks_mhz == [2000.0]


def test_what_the_system_does_not_tell_is_none() -> None:
    before, after = (Counters(time_s, 1.0, 0, None, None) for time_s in (1.0, 2.0))
    activity = after.since(before, [])
    assert (activity.own, activity.others, activity.stolen, activity.throttle_events) == (None,) * 4


@pytest.mark.usefixtures("watchful")
def test_the_observer_keeps_the_highest_clock_of_each_look(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = iter([[1000.0, 2000.0], [], [900.0, 800.0]])
    read_all = threading.Event()

    def read() -> list[float]:
        now = next(clocks, None)
        if now is None:
            read_all.set()
        return now or []

    monkeypatch.setattr(system, "clocks_mhz", read)
    with Observer(lambda: Look(0, 0.0, ""), quiet) as watching:
        assert read_all.wait(PATIENCE_S)
    assert watching.activity.clocks_mhz == [2000.0, 900.0]
