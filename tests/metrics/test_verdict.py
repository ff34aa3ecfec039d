from __future__ import annotations

from typing import Any

import pytest

from edlab.metrics import Facts, judge
from edlab.record import VerdictState

GOOD: dict[str, Any] = {
    "tier": "normal",
    "latency_ms": 5.0,
    "latency_interval_ms": (4.95, 5.05),
    "latency_drift": 0.01,
    "latency_window_spread": 0.02,
    "clock_before_mhz": 800.0,
    "clock_after_mhz": 3000.0,
    "throttle_events": 0,
    "background_load": 0.02,
    "governor": "performance",
    "agreement_top1": 1.0,
}


def test_a_quiet_run_is_valid() -> None:
    verdict = judge(Facts(**GOOD))
    assert verdict.state is VerdictState.valid
    assert verdict.reasons == []


def test_what_a_target_does_not_say_is_held_against_no_run() -> None:
    assert judge(Facts(tier="quick")).state is VerdictState.valid


@pytest.mark.parametrize(
    ("change", "state", "code"),
    [
        ({"tier": "smoke"}, "DEGRADED", "tier_smoke"),
        ({"truncated": ("latency",)}, "INVALID", "minima_not_reached"),
        ({"warmup_settled": False}, "DEGRADED", "warmup_unsettled"),
        ({"latency_drift": 0.06}, "DEGRADED", "latency_drift"),
        ({"latency_drift": -0.06}, "DEGRADED", "latency_drift"),
        ({"latency_drift": 0.3}, "INVALID", "latency_drift"),
        ({"latency_interval_ms": (4.8, 5.2)}, "DEGRADED", "wide_confidence_interval"),
        ({"latency_interval_ms": (3.0, 7.0)}, "INVALID", "wide_confidence_interval"),
        ({"latency_window_spread": 0.2}, "DEGRADED", "windows_disagree"),
        ({"clock_after_mhz": 600.0}, "DEGRADED", "throttled"),
        ({"throttle_events": 3}, "DEGRADED", "throttled"),
        ({"background_load": 0.5}, "DEGRADED", "background_load"),
        ({"governor": "powersave"}, "DEGRADED", "slow_governor"),
        ({"trained": False, "agreement_top1": 0.1}, "DEGRADED", "untrained_weights"),
        ({"agreement_top1": 0.3}, "DEGRADED", "low_agreement"),
        ({"accelerated_fraction": 0.98}, "DEGRADED", "partly_on_cpu"),
        ({"real_inputs": False}, "DEGRADED", "synthetic_inputs"),
        ({"images_skipped": 1}, "DEGRADED", "images_skipped"),
    ],
)
def test_each_rule_gives_its_state_code_and_advice(change: dict[str, Any], state: str, code: str) -> None:
    verdict = judge(Facts(**{**GOOD, **change}))
    assert verdict.state == state
    assert [reason.code for reason in verdict.reasons] == [code]
    assert verdict.reasons[0].message
    assert verdict.reasons[0].advice


def test_the_worst_reason_rules_and_all_are_named() -> None:
    verdict = judge(Facts(**{**GOOD, "tier": "smoke", "truncated": ("latency", "throughput")}))
    assert verdict.state is VerdictState.invalid
    assert {reason.code for reason in verdict.reasons} == {"tier_smoke", "minima_not_reached"}
