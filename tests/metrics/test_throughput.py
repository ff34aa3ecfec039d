"""The rates of a saturated target, and what its search says."""

from __future__ import annotations

import pytest

from edlab.agent.messages import Trial
from edlab.metrics import Facts, batch1, batch_one_only, judge, setting


def trial(batch: int, ips: float | None, note: str = "") -> Trial:
    return Trial(batch, 1, ips, note)


def test_the_rate_at_batch_1_stands_beside_the_best() -> None:
    assert (setting(64, 2) | batch1(150.0)).values == {
        "throughput_batch": 64, "throughput_in_flight": 2, "throughput_batch1_ips": 150.0,
    }  # fmt: skip
    unknown = batch1(None)
    assert "throughput_batch1_ips" not in unknown.values
    assert "throughput_batch1_ips" in unknown.missing


def test_only_batch_1_is_said_where_no_larger_one_ran() -> None:
    assert batch_one_only([trial(1, 10.0), trial(4, None, "the file's batch is 1")]) == "the file's batch is 1"
    assert batch_one_only([trial(1, 10.0), trial(4, 20.0), trial(16, None, "no memory")]) == ""
    assert batch_one_only([trial(1, 10.0)]) == ""


def test_of_several_batches_that_cannot_run_the_smallest_says_why() -> None:
    trials = [trial(1, 10.0), trial(4, None, "no memory"), trial(2, None, "the file's batch is 1")]
    assert batch_one_only(trials) == "the file's batch is 1"


def test_an_unfinished_search_is_a_reason_apart_from_the_minima() -> None:
    verdict = judge(Facts(tier="quick", search_unfinished=True))
    assert (verdict.state, [reason.code for reason in verdict.reasons]) == ("DEGRADED", ["search_unfinished"])


@pytest.mark.parametrize(
    ("ips", "limit", "found"), [(20_000, 50_000, True), (10_000, 50_000, False), (90, None, False)]
)
def test_a_rate_near_what_the_loop_can_drive_is_said(ips: float, limit: float | None, found: bool) -> None:
    verdict = judge(Facts(tier="quick", throughput_ips=ips, driver_limit_ips=limit))
    assert ("driver_limited" in {reason.code for reason in verdict.reasons}) is found
