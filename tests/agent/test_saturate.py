"""A saturated window on requests of known behaviour."""

from __future__ import annotations

import time
from typing import Any

import pytest
from echo import Echo, in_seconds, pool, quiet
from numpy.typing import NDArray

from edlab.agent import phases, system
from edlab.agent.errors import FixedBatchError


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


def test_a_window_says_what_completed_in_each_second() -> None:
    window = phases.saturate([Echo(0.05)], phases.batches(pool(4), 2), 2.3, in_seconds(60), quiet)
    assert len(window.ips_by_second) == 2
    assert all(0 < rate <= 40 for rate in window.ips_by_second)
    assert sum(window.ips_by_second) <= window.completed


def test_a_query_counts_in_each_second_by_its_share_of_it() -> None:
    window = phases.saturate([Echo(0.4)], phases.batches(pool(4), 4), 2.1, in_seconds(60), quiet)
    assert len(window.ips_by_second) == 2
    slept = 4 / 0.4  # whole batches would be 8 or 12
    assert all(0.9 * slept < rate <= slept for rate in window.ips_by_second)


@pytest.mark.parametrize(("in_flight", "period", "seconds"), [(4, 0.3, 0.2), (4, 0.12, 0.2), (16, 0.12, 0.2)])
def test_requests_in_lockstep_are_counted_at_their_rate(in_flight: int, period: float, seconds: float) -> None:
    window = phases.saturate([Echo(period) for _ in range(in_flight)], pool(1), seconds, in_seconds(60), quiet)
    assert window.ips == pytest.approx(in_flight / period, rel=0.1)
    assert window.ips == pytest.approx(window.completed / window.seconds)


def test_requests_out_of_step_and_of_different_speed_are_counted_at_their_rates() -> None:
    class Late(Echo):
        """Sleeps longer once."""

        def execute(self) -> None:
            if not self.threads:
                time.sleep(0.13)
            super().execute()

    window = phases.saturate([Echo(0.2), Late(0.2), Echo(0.05)], pool(1), 0.3, in_seconds(60), quiet)
    assert window.ips == pytest.approx(2 / 0.2 + 1 / 0.05, rel=0.1)


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
    window = phases.saturate(
        [Echo(1.3)], pool(1), 0.01, in_seconds(60), lambda fraction, _: reports.append(time.perf_counter_ns())
    )
    assert any(moment < window.start_ns for moment in reports)
    assert any(moment > window.start_ns for moment in reports)


def test_a_model_that_hangs_is_heard_of_once() -> None:
    reports: list[float] = []
    phases.saturate([Echo(2.3)], pool(1), 0, in_seconds(0), lambda fraction, _: reports.append(fraction))
    assert len(reports) <= 4  # before it, and at most once for each of its queries, though it was looked at six times


def test_the_clocks_are_read_under_load(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    def clocks() -> list[float]:
        read.append(time.perf_counter_ns())
        return [float(len(read))]

    monkeypatch.setattr(system, "clocks_mhz", clocks)
    window = phases.saturate([Echo(0.01)], pool(1), 1.2, in_seconds(60), quiet)
    assert window.activity.clocks_mhz == [float(number) for number in range(1, len(read) + 1)]
    assert any(window.start_ns < moment < window.end_ns for moment in read)


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


def test_the_limit_of_the_driving_loop_is_far_above_what_a_request_that_sleeps_gives() -> None:
    window = phases.saturate([Echo(0.01)], pool(1), 0.1, in_seconds(60), quiet)
    assert phases.driver_limit(batch=1, in_flight=1) > 10 * window.ips
    assert phases.driver_limit(batch=4, in_flight=2) > 10 * window.ips
