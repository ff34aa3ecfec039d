"""Warm-up, latency, stages and idle on a request of known behaviour: minima, limits, and what is watched meanwhile."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edlab.agent import phases, system
from edlab.agent.observer import Look, Observer
from edlab.agent.phases.latency import Latencies, goal_after
from edlab.agent.preprocess import InputTable
from edlab.agent.runtimes.base import Request, TensorSpec

UNTIMED = 3  # queries before those that are measured


class Echo(Request):
    """Sleeps, then gives back its input; keeps what it was given, and from which threads."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.prepared: list[float] = []
        self.seen: list[float] = []
        self.garbage_collection: list[bool] = []

    def prepare(self, tensor: NDArray[Any]) -> Any:
        self.prepared.append(float(tensor.flat[0]))
        return tensor

    def set_input(self, prepared: Any) -> None:
        self.tensor = prepared
        self.seen.append(float(prepared.flat[0]))

    def execute(self) -> None:
        self.garbage_collection.append(gc.isenabled())
        time.sleep(self.seconds)

    def get_output(self) -> NDArray[Any]:
        return self.tensor


class Wandering(Echo):
    """Takes one of two times by a rule on the count of queries."""

    def __init__(self, slow: Callable[[int], bool]) -> None:
        super().__init__()
        self.slow = slow

    def execute(self) -> None:
        time.sleep(0.006 if self.slow(len(self.seen)) else 0.002)


def quiet(fraction: float, message: str) -> None:
    pass


def pool(size: int) -> list[NDArray[np.float32]]:
    return [np.full((1, 2), value, np.float32) for value in range(size)]


def latency(request: Request, tensors: int = 1, **limits: Any) -> Latencies:
    asked = {"windows": 5, "max_interval": 9.0, "progress": quiet, **limits}
    return phases.latency(request, pool(tensors), **asked)


def test_latency_rotates_over_the_pool_with_garbage_collection_off() -> None:
    request = Echo()
    measured = latency(request, 3, queries=7, seconds=0, max_seconds=10)
    assert request.seen[UNTIMED:] == [0, 1, 2, 0, 1, 2, 0]
    assert request.prepared == [0, 1, 2]  # once for the pool, not for each query
    assert not any(request.garbage_collection)
    assert gc.isenabled()
    assert measured.stages_ns.shape == (7, 3)
    assert not measured.truncated


def test_queries_after_a_collection_are_not_measured() -> None:
    class Cold(Echo):
        def execute(self) -> None:
            time.sleep(0.1 if len(self.seen) <= UNTIMED else 0.001)

    measured = latency(Cold(), queries=20, seconds=0, max_seconds=10)
    assert measured.stages_ns.max() < 0.1e9


def test_latency_goes_on_until_both_minima_hold() -> None:
    by_time = latency(Echo(0.01), queries=2, seconds=0.2, max_seconds=10)
    assert by_time.seconds >= 0.2
    assert len(by_time.stages_ns) > 2
    by_count = latency(Echo(0.01), queries=30, seconds=0.01, max_seconds=10)
    assert len(by_count.stages_ns) == 30
    assert (by_count.stages_ns[:, 1] >= 0.01e9).all()


def test_latency_ends_at_its_limit_and_says_so() -> None:
    measured = latency(Echo(0.02), queries=10_000, seconds=0, max_seconds=0.2)
    assert measured.truncated
    assert measured.seconds >= 0.2
    assert len(measured.stages_ns) < 100


def test_latency_goes_on_while_the_interval_is_wide_and_ends_when_it_is_narrow() -> None:
    """The first 60 queries are three times slower now and then: what follows makes the mean certain enough."""
    limits = {"queries": 60, "seconds": 0, "max_seconds": 20}
    unsteady = Wandering(lambda count: count < 30)
    assert len(latency(unsteady, **limits, max_interval=9.0).stages_ns) == 60
    unsteady = Wandering(lambda count: count < 30)
    assert len(latency(unsteady, **limits, max_interval=0.5).stages_ns) > 60


def test_latency_ends_where_its_limit_leaves_no_hope_of_a_narrow_interval() -> None:
    never = Wandering(lambda count: count % 100 < 50)
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


def test_latency_reports_from_another_thread_and_never_back() -> None:
    reports: list[tuple[float, int]] = []
    measured = latency(
        Echo(0.001),
        queries=1,
        seconds=2.2,
        max_seconds=9,
        progress=lambda fraction, _: reports.append((fraction, threading.get_ident())),
    )
    assert 2 <= len(reports) <= measured.seconds + 2
    assert reports[0] == (0.0, threading.get_ident())  # before the loop
    assert {thread for _, thread in reports[1:]}.isdisjoint({threading.get_ident()})
    fractions = [fraction for fraction, _ in reports]
    assert fractions == sorted(fractions)
    assert all(0 <= fraction <= 1 for fraction in fractions)


def test_a_query_that_hangs_is_not_reported_as_progress() -> None:
    reports: list[str] = []
    latency(Echo(1.6), queries=1, seconds=0, max_seconds=9, progress=lambda _, message: reports.append(message))
    assert reports[0] == "0 queries"
    assert len(reports) <= 2  # queries that are not measured do not count


def test_warm_up_settles_on_a_steady_request_and_not_on_a_drifting_one() -> None:
    steady = phases.warmup(Echo(0.005), pool(2), 10, 0.1, 0.5, 5, quiet)
    assert steady["settled"]
    assert steady["queries"] >= 10

    class Drifting(Echo):
        def execute(self) -> None:
            self.seconds += 0.002
            super().execute()

    drifting = phases.warmup(Drifting(), pool(2), 4, 0.2, 0.02, 0.6, quiet)
    assert not drifting["settled"]
    assert drifting["seconds"] >= 0.6


def test_halves_agree_on_the_median_within_the_tolerance() -> None:
    assert phases.halves_agree(np.array([101, 101, 900, 100, 100, 100]), 0.02)
    assert not phases.halves_agree(np.array([110, 110, 110, 100, 100, 100]), 0.02)
    assert not phases.halves_agree(np.array([100]), 0.02)


def test_stages_leave_the_model_out() -> None:
    images = np.zeros((5, 4, 4, 3), np.uint8)
    table = InputTable([0.0] * 3, [1.0] * 3, "NHWC")
    result = phases.stages(Echo(0.1), table, images, TensorSpec("out", (1, 48), "float32"), quiet)
    assert result["queries"] == 5
    assert 0 < result["preprocess_ms"] < 100
    assert 0 < result["postprocess_ms"] < 100


def test_idle_lasts_as_long_as_asked_and_says_what_else_ran() -> None:
    span = phases.idle(0.3, quiet)
    assert (span.end_ns - span.start_ns) / 1e9 >= 0.3
    assert span.activity.others is not None
    assert 0 <= span.activity.others <= 1
    assert span.activity.own is not None
    assert span.activity.own < 0.5


def test_the_observer_tells_its_own_work_from_that_of_others() -> None:
    with Observer(lambda: Look(0, 0.0, ""), quiet) as observer:
        end = time.perf_counter() + 0.5
        while time.perf_counter() < end:
            pass
    activity = observer.activity
    assert activity.seconds >= 0.5
    assert activity.own is not None
    assert activity.own > 0.2 / len(system.allowed_cpus())


def test_the_observer_reads_counters_and_clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([system.CpuSeconds(10.0, 1.0, 100.0), system.CpuSeconds(13.0, 2.0, 120.0)])
    events = iter([4, 6])
    clocks = iter([[1000.0, 2000.0], [900.0, 900.0]])
    monkeypatch.setattr(system, "cpu_seconds", lambda: next(seconds))
    monkeypatch.setattr(system, "throttle_count", lambda: next(events))
    monkeypatch.setattr(system, "clocks_mhz", lambda: next(clocks))
    with Observer(lambda: Look(0, 0.0, ""), quiet) as observer:
        time.sleep(1.2)
    activity = observer.activity
    assert activity.stolen == pytest.approx(0.05)
    assert activity.others == pytest.approx(0.15, abs=0.01)  # 3 s of 20, less what this process took
    assert activity.throttle_events == 2
    assert activity.clocks_mhz == [2000.0]  # under load only: none once it has ended


def test_what_the_system_does_not_tell_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "cpu_seconds", lambda: None)
    monkeypatch.setattr(system, "throttle_count", lambda: None)
    monkeypatch.setattr(system, "clocks_mhz", list)
    with Observer(lambda: Look(0, 0.0, ""), quiet) as observer:
        pass
    activity = observer.activity
    assert (activity.own, activity.others, activity.stolen, activity.throttle_events) == (None,) * 4
    assert activity.clocks_mhz == []
