from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np
import pytest

from edlab.agent.messages import Activity
from edlab.metrics import Facts, OutputFacts, Stability, drop, judge
from edlab.metrics.verdict.throttling import throttled
from edlab.record import Reason, VerdictState

GOOD: dict[str, Any] = {
    "tier": "normal",
    "latency_ms": 5.0,
    "latency_interval_ms": (4.95, 5.05),
    "stability": Stability(0.01, (-0.005, 0.025), 0.02, 0.01, 0.01),
    "governor": "performance",
}


def activity(
    others: float | None = 0.02,
    stolen: float | None = 0.0,
    clocks: tuple[float, ...] = (3000.0, 2950.0),
    events: int | None = 0,
    seconds: float = 10.0,
) -> Activity:
    return Activity(seconds, 0.5, others, stolen, 3, list(clocks), events)


def changed(**figures: Any) -> dict[str, Any]:
    return {"stability": dataclasses.replace(GOOD["stability"], **figures)}


def rates(ips: float, half: float) -> dict[str, Any]:
    return {"throughput_ips": ips, "throughput_interval_ips": (ips - half, ips + half)}


GOOD["activities"] = {name: activity() for name in ("idle", "warmup", "latency", "throughput")}

GOOD_OUTPUTS: dict[str, Any] = {
    "precision": "int8",
    "drop_ci95": (0.001, 0.008),
    "scored_images": 5000,
    "int8_kernels": "exact",
    "runtime": "onnxruntime",
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
        (changed(drift=0.06, drift_interval=(0.05, 0.07)), "DEGRADED", "latency_drift"),
        (changed(drift=-0.06, drift_interval=(-0.07, -0.05)), "DEGRADED", "latency_drift"),
        (changed(drift=0.3, drift_interval=(0.2, 0.4)), "INVALID", "latency_drift"),
        (changed(last_over_first=0.08), "DEGRADED", "latency_drift"),
        (changed(bursts=0.2), "DEGRADED", "latency_bursts"),
        ({"latency_interval_ms": (4.8, 5.2)}, "DEGRADED", "wide_confidence_interval"),
        ({"latency_interval_ms": (3.0, 7.0)}, "INVALID", "wide_confidence_interval"),
        (rates(100.0, half=12.0), "DEGRADED", "wide_throughput_interval"),
        (rates(100.0, half=30.0), "INVALID", "wide_throughput_interval"),
        (rates(100.0, half=30.0) | {"repeats": 5}, "DEGRADED", "wide_throughput_interval"),
        (rates(100.0, half=5.0) | {"searched_ips": 150.0}, "DEGRADED", "throughput_below_search"),
        ({"activities": {"throughput": activity(clocks=(3000.0,) * 5 + (2000.0,) * 5)}}, "DEGRADED", "throttled"),
        ({"activities": {"latency": activity(events=3)}}, "DEGRADED", "throttled"),
        ({"activities": {"idle": activity(others=0.5)}}, "DEGRADED", "background_load"),
        ({"activities": {"latency": activity(others=0.5)}}, "DEGRADED", "background_load"),
        ({"activities": {"latency": activity(others=0.6)}}, "INVALID", "background_load"),
        ({"activities": {"idle": activity(others=0.7), "latency": activity(others=0.6)}}, "INVALID", "background_load"),
        ({"activities": {"idle": activity(others=0.6)}}, "DEGRADED", "background_load"),
        ({"activities": {"latency": activity(others=0.6)}, "on_cpu": False}, "DEGRADED", "background_load"),
        ({"activities": {"throughput": activity(stolen=0.03)}}, "DEGRADED", "cpu_stolen"),
        ({"outputs": OutputFacts(calibration_images=4, calibration_pool=4)}, "DEGRADED", "few_calibration_images"),
        ({"governor": "powersave"}, "DEGRADED", "slow_governor"),
        ({"power_mode_changed": "power_mode from 15W to MAXN"}, "INVALID", "power_mode_changed"),
        ({"sustained_ratio": 0.6}, "DEGRADED", "not_sustained"),
        ({"activities": {"search": activity(events=3)}}, "DEGRADED", "throttled"),
        ({"trained": False, "outputs": OutputFacts(nan_images=1)}, "DEGRADED", "untrained_weights"),
        ({"assumed_preprocessing": ("mean", "std")}, "DEGRADED", "assumed_preprocessing"),
        ({"stated": (Reason(code="training_mode", message="m", advice="a"),)}, "DEGRADED", "training_mode"),
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


@pytest.mark.parametrize(
    "harmless",
    [
        changed(drift=0.06, drift_interval=(-0.01, 0.13)),  # a trend that is not one
        changed(last_over_first=0.08, scatter=0.02),  # windows scatter as much
        changed(bursts=0.04),
        rates(100.0, half=9.0) | {"searched_ips": 130.0},
        rates(0.0, half=0.0),  # nothing has ended
        rates(100.0, half=9.0) | {"searched_ips": 60.0},  # the trial was disturbed
        {"latency_interval_ms": (4.8, 5.2), "max_interval": 0.1},
        {"activities": {"latency": activity(others=None, stolen=None, clocks=(), events=None)}},
        {"activities": {"host_work": activity(seconds=0.012, others=0.4, stolen=0.5)}},  # a tick of /proc/stat
        {"governor": "powersave", "scaling_driver": "intel_pstate"},  # its usual policy
        {"sustained_ratio": 0.99},
    ],
)
def test_what_is_within_the_limits_is_no_reason(harmless: dict[str, Any]) -> None:
    assert judge(Facts(**{**GOOD, **harmless})).state is VerdictState.valid


def test_a_reason_names_what_else_ran_with_its_figure() -> None:
    busy = activity(others=0.07, stolen=0.015, clocks=(3000.0, 2000.0, 2900.0))
    facts = Facts(**{**GOOD, "latency_interval_ms": (4.0, 6.0), "activities": {"latency": busy}})
    reasons = {reason.code: reason for reason in judge(facts).reasons}
    message = reasons["wide_confidence_interval"].message
    assert "±20.0%" in message
    assert "the hypervisor stole 1.5% of the CPU" in message
    assert "other programs took 7.0% of the cores" in message
    assert "2000 to 3000 MHz" in message


def test_a_tick_in_a_phase_of_milliseconds_is_no_cause_and_no_sign_of_a_virtual_machine() -> None:
    tick = activity(seconds=0.012, others=0.4, stolen=0.5)
    facts = Facts(**{**GOOD, "warmup_settled": False, "activities": {"warmup": tick}})
    (reason,) = judge(facts).reasons
    assert reason.code == "warmup_unsettled"
    assert "meanwhile" not in reason.message
    assert "virtual machine" not in reason.advice


def test_the_phase_with_the_most_is_named() -> None:
    phases = {"idle": activity(others=0.2), "latency": activity(others=0.4), "throughput": activity(others=0.3)}
    (reason,) = judge(Facts(**{**GOOD, "activities": phases})).reasons
    assert "40% of the cores in the latency phase" in reason.message


@pytest.mark.parametrize("virtual", [True, False])
def test_advice_is_possible_on_that_machine(virtual: bool) -> None:
    facts = Facts(**{**GOOD, "latency_interval_ms": (4.0, 6.0), "virtual_machine": virtual})
    (reason,) = judge(facts).reasons
    assert ("lock its clocks" in reason.advice) is not virtual
    assert ("virtual machine" in reason.advice) is virtual
    assert "protocol.repeats" in reason.advice


@pytest.mark.parametrize(
    ("clocks", "events", "answer"),
    [
        ((2445.4,) * 10, None, "cannot tell"),  # a virtual machine: constant, whatever the host does
        ((), None, "cannot tell"),
        ((3000.0, 2000.0), None, "cannot tell"),  # two looks are no trend
        ((1800.0, 600.0) * 5, None, "cannot tell"),
        ((2445.4,) * 10, 0, "no"),
        ((3000.0, 2950.0) * 5, None, "no"),
        ((3000.0,) * 8 + (2000.0,) * 2, None, "yes"),
        ((3000.0,) * 10, 2, "yes"),
    ],
)
def test_throttling_is_yes_no_or_cannot_tell(clocks: tuple[float, ...], events: int | None, answer: str) -> None:
    facts = Facts(tier="quick", activities={"latency": activity(clocks=clocks, events=events)})
    assert throttled(facts)[0] == answer


def test_the_processors_clocks_say_nothing_of_an_accelerator() -> None:
    steady = {"latency": activity(clocks=(3000.0, 2990.0) * 5, events=0)}
    assert throttled(Facts(tier="quick", activities=steady, on_cpu=False))[0] == "cannot tell"
    hot = {"latency": activity(events=3)}
    assert throttled(Facts(tier="quick", activities=hot, on_cpu=False))[0] == "yes"


def test_phases_with_other_numbers_of_busy_cores_are_not_compared() -> None:
    turbo = {"latency": activity(clocks=(4800.0, 4790.0) * 5), "throughput": activity(clocks=(3900.0, 3890.0) * 5)}
    assert throttled(Facts(tier="quick", activities=turbo))[0] == "no"


def test_thermal_events_before_the_load_are_not_its_own() -> None:
    facts = Facts(tier="quick", activities={"idle": activity(events=4), "latency": activity(events=0)})
    assert throttled(facts)[0] == "no"


def test_a_wide_interval_of_few_repeats_is_uncertain_and_not_invalid() -> None:
    wide = {**GOOD, "latency_interval_ms": (3.0, 7.0)}
    assert judge(Facts(**wide)).state is VerdictState.invalid
    verdict = judge(Facts(**wide, repeats=3))
    assert verdict.state is VerdictState.degraded
    assert "more repeats" in verdict.reasons[0].advice


def test_a_loose_limit_does_not_hide_an_interval_that_says_nothing() -> None:
    facts = Facts(**{**GOOD, "latency_interval_ms": (3.0, 7.0), "max_interval": 2.0})
    assert judge(facts).state is VerdictState.invalid


def test_what_ran_beside_the_accuracy_pass_is_in_no_figure() -> None:
    facts = Facts(**{**GOOD, "activities": {"accuracy": activity(others=0.5, stolen=0.5)}})
    assert judge(facts).state is VerdictState.valid


def test_what_ran_beside_the_search_may_have_changed_its_choice() -> None:
    (reason,) = judge(Facts(**{**GOOD, "activities": {"search": activity(others=0.5)}})).reasons
    assert "in the search phase" in reason.message


def test_stolen_time_shows_a_virtual_machine_that_does_not_say_so() -> None:
    facts = Facts(**{**GOOD, "activities": {"latency": activity(stolen=0.05)}})
    (reason,) = judge(facts).reasons
    assert reason.code == "cpu_stolen"
    assert "virtual machine" in reason.advice


@pytest.mark.parametrize(("others", "stolen", "advice"), [(0.3, 0.02, "stop other programs"), (0.06, 0.2, "virtual")])
def test_the_advice_names_what_disturbed_the_run_most(others: float, stolen: float, advice: str) -> None:
    """On a virtual machine, programs of its own can be stopped, and its neighbors cannot."""
    load = {"latency": activity(others=others, stolen=stolen)}
    facts = Facts(**{**GOOD, "latency_interval_ms": (3.0, 7.0), "virtual_machine": True, "activities": load})
    (wide,) = [reason for reason in judge(facts).reasons if reason.code == "wide_confidence_interval"]
    assert advice in wide.advice


@pytest.mark.parametrize(
    ("skipped", "advice"),
    [
        (1, "1 image could not be read: `edlab show RUN` lists it"),
        (3, "3 images could not be read: `edlab show RUN` lists them"),
    ],
)
def test_images_that_were_skipped_are_counted_in_the_note(skipped: int, advice: str) -> None:
    (reason,) = judge(Facts(**{**GOOD, "images_skipped": skipped})).reasons
    assert reason.advice == advice


def test_no_tier_is_shorter_than_smoke() -> None:
    def advice(tier: str) -> str:
        facts = Facts(**{**GOOD, "tier": tier, "weaker_settings": ("protocol.seconds",)})
        return next(reason.advice for reason in judge(facts).reasons if reason.code == "protocol_weakened")

    assert advice("smoke") == "remove protocol.seconds"
    assert advice("quick") == "remove protocol.seconds, or choose a shorter tier"


def test_each_load_has_its_own_advice() -> None:
    """Stopping other programs on the target gives back no time that the hypervisor takes."""
    facts = Facts(**{**GOOD, "activities": {"latency": activity(others=0.6, stolen=0.03)}})
    reasons = {reason.code: reason for reason in judge(facts).reasons}
    assert "stop other programs" in reasons["background_load"].advice
    assert reasons["background_load"].invalid
    assert "use another machine, or protocol.repeats=5 sweep.order=random" in reasons["cpu_stolen"].advice
    assert "stop other programs" not in reasons["cpu_stolen"].advice
    assert not reasons["cpu_stolen"].invalid


def test_the_worst_reason_rules_and_all_are_named() -> None:
    verdict = judge(Facts(**{**GOOD, "tier": "smoke", "truncated": ("latency", "throughput")}))
    assert verdict.state is VerdictState.invalid
    assert {reason.code for reason in verdict.reasons} == {"tier_smoke", "minima_not_reached"}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"drop_ci95": (0.012, 0.03)}, "accuracy_lost"),
        ({"drop_ci95": (0.012, 0.03), "max_drop": 0.0}, "accuracy_lost"),
        ({"drop_ci95": (-0.02, 0.02), "scored_images": 300}, "too_few_images"),
        ({"int8_kernels": "saturating"}, "saturating_kernels"),
        ({"in_float": True}, "int8_in_float"),
        ({"nan_images": 2}, "nan_outputs"),
        ({"doubts": (Reason(code="low_map", message="it is low", advice="train it"),)}, "low_map"),
    ],
)
def test_each_rule_on_outputs_gives_its_code_and_advice(change: dict[str, Any], code: str) -> None:
    assert judge(Facts(**GOOD, outputs=OutputFacts(**GOOD_OUTPUTS))).state is VerdictState.valid
    verdict = judge(Facts(**GOOD, outputs=OutputFacts(**{**GOOD_OUTPUTS, **change})))
    assert [reason.code for reason in verdict.reasons] == [code]
    assert all(reason.message and reason.advice for reason in verdict.reasons)


def test_advice_names_the_kernels_where_they_are_the_cause() -> None:
    facts = OutputFacts(
        **{
            **GOOD_OUTPUTS,
            "int8_kernels": "saturating",
            "drop_ci95": (0.48, 0.57),
        }
    )
    reasons = {reason.code: reason for reason in judge(Facts(**GOOD, outputs=facts)).reasons}
    assert set(reasons) == {"saturating_kernels", "accuracy_lost"}
    assert all("int8_kernels=exact" in reason.advice for reason in reasons.values())


@pytest.mark.parametrize(
    ("lost", "won", "scored", "decision"),  # lost and won of 1000 images; the limit is a drop of 30 of 1000
    [
        (10, 0, 100, []),
        (30, 20, 300, []),
        (80, 20, 100, ["accuracy_lost"]),
        (0, 0, 50, []),
    ],
)
def test_the_number_of_images_needed_decides_the_drop(lost: int, won: int, scored: int, decision: list[str]) -> None:
    """Where the same shares of them are lost and won, and half as many do not."""

    def judged(images: int) -> dict[str, Reason]:
        cells = np.arange(images)
        lost_here, won_here = round(lost * images / 1000), round(won * images / 1000)
        baseline = np.where(cells < won_here, 1, 0)  # class 0 is the right one
        now = np.where((cells >= won_here) & (cells < won_here + lost_here), 1, 0)
        figures = drop(np.eye(2)[now], np.eye(2)[baseline], np.zeros(images, int)).values
        interval = (figures["accuracy_drop_ci95_low"], figures["accuracy_drop_ci95_high"])
        change = {"drop_ci95": interval, "scored_images": images, "max_drop": 0.03}
        verdict = judge(Facts(**GOOD, outputs=OutputFacts(**{**GOOD_OUTPUTS, **change})))
        return {reason.code: reason for reason in verdict.reasons}

    few = judged(scored)
    assert list(few) == ["too_few_images"]
    needed = int(re.search(r"about ([\d,]+)", few["too_few_images"].advice)[1].replace(",", ""))  # type: ignore[index]
    assert needed > scored
    assert list(judged(needed // 2)) == ["too_few_images"]
    assert list(judged(needed)) == decision


def test_an_interval_that_holds_the_limit_is_undecided_whatever_its_width() -> None:
    facts = OutputFacts(**{**GOOD_OUTPUTS, "drop_ci95": (0.002, 0.018)})
    assert [reason.code for reason in judge(Facts(**GOOD, outputs=facts)).reasons] == ["too_few_images"]
    unconverted = OutputFacts(**{**GOOD_OUTPUTS, "drop_ci95": (-0.02, 0.02), "converted": False})
    assert judge(Facts(**GOOD, outputs=unconverted)).state is VerdictState.valid
