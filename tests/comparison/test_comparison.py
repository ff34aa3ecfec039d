"""Comparing, choosing, checking: on records that state their metrics and intervals."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from edlab.comparison import (
    Constraint,
    Estimate,
    Limit,
    Objective,
    best,
    check,
    choose,
    compare,
    difference,
    front,
    names,
    obstacles,
    ratio,
    winners,
)
from edlab.comparison.settings import differing, shared
from edlab.errors import ConfigError
from edlab.metrics.catalogue import Better
from edlab.record import Reason, RunRecord, Status, Verdict, VerdictState
from edlab.reports.comparison import choice_sheet

LATENCY = Objective("latency_ms", Better.lower)


def run(name: str = "a", **changes: Any) -> RunRecord:
    """A VALID run of 10 ms ± 1 %, 100 inferences/s and 70 %."""
    metrics = {"accuracy_top1": 0.7, "latency_ms": 10.0, "throughput_ips": 100.0, "power_w": 5.0}
    metrics |= changes.pop("metrics", {})
    spread = changes.pop("spread", 0.01)
    for metric, low, high in (
        ("latency_ms", "latency_ci95_low_ms", "latency_ci95_high_ms"),
        ("throughput_ips", "throughput_ci95_low_ips", "throughput_ci95_high_ips"),
    ):
        if metric in metrics and spread:
            metrics |= {low: (1 - spread) * metrics[metric], high: (1 + spread) * metrics[metric]}
    params = {"model.name": name, "device.name": "cpu", "protocol.name": "quick", "protocol.seconds": 10}
    values: dict[str, Any] = {
        "name": name, "sweep_id": "s", "started_at": "2026-01-01T00:00:00+00:00", "uuid": name, "run_id": name * 8,
        "params": params | changes.pop("params", {}),
        "tags": {"scored_digest": "d", "cpu": "this CPU", "task": "classification"} | changes.pop("tags", {}),
        "metrics": metrics, "verdict": Verdict(),
    }  # fmt: skip
    return RunRecord.model_validate(values | changes)


def test_the_interval_of_a_ratio_holds_the_truth_as_often_as_it_says() -> None:
    """Two means of 20 noisy terms each, with Student's t intervals."""
    generator, covered, repeats = np.random.default_rng(0), 0, 2000
    for _ in range(repeats):
        estimates = []
        for truth in (8.0, 10.0):
            terms = generator.normal(truth, 0.1 * truth, 20)
            half = 2.093 * terms.std(ddof=1) / math.sqrt(20)
            estimates.append(Estimate(terms.mean(), terms.mean() - half, terms.mean() + half))
        change = ratio(*estimates)
        assert change is not None
        assert change.low is not None
        assert change.high is not None
        covered += change.low <= 0.8 <= change.high
    assert 0.935 <= covered / repeats <= 0.97


def test_a_difference_is_shown_only_if_the_interval_excludes_none() -> None:
    base = Estimate(10.0, 9.9, 10.1)
    shown, unclear, unknown = (
        ratio(each, base) for each in (Estimate(9, 8.9, 9.1), Estimate(10.1, 9.9, 10.3), Estimate(5))
    )
    assert shown is not None
    assert unclear is not None
    assert unknown is not None
    assert shown.shown
    assert not unclear.shown
    assert not unknown.shown  # without an interval nothing is shown
    assert unknown.value == pytest.approx(0.5)
    assert ratio(Estimate(0.0), base) is None
    assert difference(Estimate(0.7, 0.68, 0.72), Estimate(0.75, 0.74, 0.76)).shown


def test_accuracy_is_compared_image_by_image() -> None:
    """Two runs of 70 and 72 %, of which the images differ in one direction only: the intervals alone overlap."""
    one, other = np.arange(1000) < 700, np.arange(1000) < 720
    interval = {"accuracy_ci95_low": 0.67, "accuracy_ci95_high": 0.73}
    records = [run("a", metrics=interval), run("b", metrics={"accuracy_top1": 0.72, **interval})]
    right = {"a": one, "b": other}
    paired = compare(records, records[0], ["accuracy_top1"], lambda record: right[record.uuid])
    assert paired.rows[1].changes["accuracy_top1"].value == pytest.approx(0.02)
    assert paired.rows[1].changes["accuracy_top1"].shown
    assert winners(records, ["accuracy_top1"], lambda record: right[record.uuid]) == {"accuracy_top1": {"b"}}
    assert best(records, "accuracy_top1", lambda record: right[record.uuid]) == (records[1], [])
    assert winners(records, ["accuracy_top1"]) == {}
    alone = compare(records, records[0], ["accuracy_top1"])
    assert not alone.rows[1].changes["accuracy_top1"].shown


@pytest.mark.parametrize(
    ("changes", "code", "withheld"),
    [
        ({"params": {"protocol.seconds": 60}}, "other_protocol", {"latency_ms", "throughput_ips", "power_w"}),
        ({"tags": {"scored_digest": "e"}}, "other_data", {"accuracy_top1"}),
        ({"tags": {"cpu": "another"}}, "other_machine", {"latency_ms", "throughput_ips", "power_w"}),
        ({"tags": {"power_boundary": "usb"}}, "other_boundary", {"power_w"}),
        ({"tags": {"task": "detection"}}, "other_task", {"accuracy_top1"}),
        ({"params": {"device.name": "jetson"}, "tags": {"cpu": "another"}}, "", set()),
        ({"params": {"protocol.repeats": 5}}, "", set()),
    ],
)
def test_what_is_not_comparable_is_withheld_with_its_code(changes: Any, code: str, withheld: set[str]) -> None:
    names = ("accuracy_top1", "latency_ms", "throughput_ips", "power_w")
    records = [
        run("a", tags={"power_boundary": "module"}),
        run("b", **{"tags": {"power_boundary": "module"}, **changes}),
    ]
    row = compare(records, records[0], names).rows[1]
    assert [each.code for each in row.obstacles] == ([code] if code else [])
    assert set(names) - row.changes.keys() == withheld


def on_stand_in(name: str, ms: float) -> RunRecord:
    """A run whose speed is that of a stand-in."""
    record = run(name, metrics={"emulated_latency_ms": ms}, tags={"stand_in": "this machine's CPU"})
    del record.metrics["latency_ms"]
    return record


def test_emulated_metrics_are_compared_only_among_themselves() -> None:
    emulated = [on_stand_in("b", 5.0), on_stand_in("c", 6.0)]
    assert [each.code for each in obstacles(emulated[0], run("a"))] == ["stand_in"]
    row = compare(emulated, emulated[0], ["latency_ms"]).rows[1]
    assert row.changes["latency_ms"].value == pytest.approx(1.2)
    assert row.estimates["latency_ms"].prefix == "emulated_"


def test_a_stand_in_is_neither_chosen_nor_on_the_front_beside_measured_runs() -> None:
    slow, fast, emulated = run("a"), run("b", metrics={"latency_ms": 8.0}), on_stand_in("c", 1.0)
    assert front([slow, fast, emulated], ("latency_ms", "accuracy_top1")) == [fast]
    choice = choose([slow, emulated], [], LATENCY)
    assert choice.best is slow
    assert choice.ruled_out["c"] == ["latency_ms is that of a stand-in"]
    slower = on_stand_in("d", 2.0)
    assert front([emulated, slower], ("latency_ms", "accuracy_top1")) == [emulated]
    assert choose([slower, emulated], [], LATENCY).best is emulated


def test_the_front_has_what_no_other_run_beats() -> None:
    fast, right, worse, equal = (
        run("a", metrics={"latency_ms": 5.0, "accuracy_top1": 0.6}),
        run("b", metrics={"latency_ms": 9.0, "accuracy_top1": 0.8}),
        run("c", metrics={"latency_ms": 9.5, "accuracy_top1": 0.79}),
        run("d", metrics={"latency_ms": 9.0, "accuracy_top1": 0.8}),
    )
    without = run("e")
    del without.metrics["accuracy_top1"]
    assert front([fast, right, worse, equal, without], ("latency_ms", "accuracy_top1")) == [fast, right, equal]


CHEAP = Constraint("power_w", 5.0, is_minimum=False)


def test_the_choice_names_the_best_the_equals_and_what_rules_out_the_others() -> None:
    best, equal, slow = run("a", metrics={"latency_ms": 8.0}), run("b", metrics={"latency_ms": 8.05}), run("c")
    hungry = run("d", metrics={"latency_ms": 4.0, "power_w": 7.5})
    both = run("e", metrics={"latency_ms": 2.0, "power_w": 9.0, "accuracy_top1": 0.5})
    unsure = run("f", metrics={"latency_ms": 1.0}, verdict=Verdict(state=VerdictState.invalid))
    failed = run("g", status=Status.failed, reason="no memory", metrics={})
    records = [slow, hungry, both, equal, best, unsure, failed]
    choice = choose(records, [CHEAP, Constraint("accuracy_top1", 0.6, is_minimum=True)], LATENCY)
    assert choice.best is best
    assert [each.run for each in choice.runners_up] == [equal]
    assert [each.run for each in choice.worse] == [slow]
    assert choice.ruled_out["d"] == ["W is 7.50, above 5.00"]
    assert len(choice.ruled_out["e"]) == 2
    assert choice.ruled_out["f"] == ["its verdict is INVALID"]
    assert choice.ruled_out["g"] == ["FAILED: no memory"]
    assert choice.unreliable == [unsure]
    assert choice.loosening is not None
    assert (choice.loosening.constraint, choice.loosening.limit, choice.loosening.run) == (CHEAP, 7.5, hungry)


def test_the_limit_that_changes_the_choice_is_rounded_so_that_it_does() -> None:
    records = [run("a", metrics={"power_w": 5.35274}), run("b", metrics={"accuracy_top1": 0.64999})]
    limits = {"power_w": Constraint("power_w", 5.0, is_minimum=False), "top1": Constraint("accuracy_top1", 0.7, True)}
    power = choose(records[:1], [limits["power_w"]], LATENCY)
    accuracy = choose(records[1:], [limits["top1"]], LATENCY)
    texts = [note.text for each in (power, accuracy) for note in choice_sheet(records, [], each).notes]
    assert any("power_w <= 5.353 " in text for text in texts)
    assert any("accuracy_top1 >= 0.6499 " in text for text in texts)


def test_many_runs_that_are_ruled_out_are_in_the_data_only() -> None:
    records = [run(f"r{number}", metrics={"power_w": 9.0}) for number in range(300)]
    sheet = choice_sheet(records, [CHEAP], choose(records, [CHEAP], LATENCY))
    assert len(sheet.rows) == 100
    assert len(sheet.data) == 300
    assert any(note.text.startswith("200 more runs") for note in sheet.notes)


def test_without_an_allowed_run_the_nearest_constraint_is_named() -> None:
    choice = choose(
        [run("a"), run("b", metrics={"power_w": 4.5, "latency_ms": 20})], [CHEAP._replace(limit=4)], LATENCY
    )
    assert choice.best is None
    assert choice.loosening is not None
    assert choice.loosening.run.name == "a"


def test_an_estimate_counts_only_if_it_is_allowed() -> None:
    estimated = run("a", metrics={"estimated_power_w": 3.0}, missing={"power_w": "no sensor"})
    del estimated.metrics["power_w"]
    refused = choose([estimated], [CHEAP], LATENCY)
    assert refused.ruled_out["a"] == ["power_w is missing: no sensor"]
    assert choose([estimated], [CHEAP], LATENCY, estimates=True).best is estimated


@pytest.mark.parametrize(
    ("name", "values", "better", "winner", "worse"),
    [
        ("accuracy_map50", (0.3, 0.5), Better.higher, "b", []),  # without intervals nothing is shown
        ("sqnr_db", (20.0, 30.0), Better.higher, "b", []),
        ("accuracy_drop", (0.0, 0.1), Better.lower, "a", ["b"]),  # no ratio to 0
        ("accuracy_top1", (0.7, 0.72), Better.higher, "b", []),
        ("artifact_size_mb", (1.0, 100.0), Better.lower, "a", ["b"]),  # exact
        ("vendors_score", (1.0, 2.0), Better.higher, "b", []),  # of a plugin
    ],
)
def test_the_objective_has_its_own_direction_and_difference(
    name: str, values: tuple[float, float], better: Better, winner: str, worse: list[str]
) -> None:
    ends = {"accuracy_drop_ci95_low": -0.01, "accuracy_drop_ci95_high": 0.01}
    records = [run("a", metrics={name: values[0]} | ends)]
    ends = {"accuracy_drop_ci95_low": 0.08, "accuracy_drop_ci95_high": 0.12}
    records.append(run("b", metrics={name: values[1]} | ends))
    choice = choose(records, [], names.objective(name, better is Better.higher, records))
    assert choice.best
    assert choice.best.name == winner
    assert [each.run.name for each in choice.worse] == worse
    assert len(choice.worse) + len(choice.runners_up) == 1
    found = best(records, name)
    if name != "vendors_score":
        assert found
        assert found[0].name == winner
        assert bool(found[1]) is not bool(worse)


def test_a_metric_without_a_better_value_is_neither_ranked_nor_checked() -> None:
    records = [run("a", metrics={"vendors_score": 1.0, "accuracy_images": 1.0})]
    for name in ("vendors_score", "accuracy_images"):
        with pytest.raises(ConfigError, match="no value of"):
            names.ranked(name, records)
        with pytest.raises(ConfigError, match="no value of"):
            names.limit(f"{name}=5%", records)


def test_the_drops_of_two_models_are_compared_by_their_own_intervals() -> None:
    """Both lose nothing against their own unconverted model, though one is six points more accurate."""
    drop = {"accuracy_drop": 0.0, "accuracy_drop_ci95_low": -0.01, "accuracy_drop_ci95_high": 0.01}
    records = [run("a", metrics={"accuracy_top1": 0.72} | drop), run("b", metrics={"accuracy_top1": 0.78} | drop)]
    right = {"a": np.arange(1000) < 720, "b": np.arange(1000) < 780}
    row = compare(records, records[0], ["accuracy_top1", "accuracy_drop"], lambda each: right[each.uuid]).rows[1]
    assert row.changes["accuracy_top1"].value == pytest.approx(0.06)
    assert row.changes["accuracy_drop"].value == 0
    assert not row.changes["accuracy_drop"].shown


def test_a_fraction_of_a_negative_baseline_has_the_sign_of_the_worsening() -> None:
    drops = [
        run(
            "a", metrics={"accuracy_drop": -0.005, "accuracy_drop_ci95_low": -0.006, "accuracy_drop_ci95_high": -0.004}
        ),
        run("b", metrics={"accuracy_drop": 0.05, "accuracy_drop_ci95_low": 0.049, "accuracy_drop_ci95_high": 0.051}),
    ]
    baseline, row = compare(drops, drops[0], ["accuracy_drop"]).rows
    (finding,) = check(row, baseline, [Limit("accuracy_drop", 0.1, is_fraction=True)])
    assert finding.worsening == pytest.approx(11)
    assert not finding.passed


def test_the_speed_of_an_invalid_run_has_not_passed() -> None:
    verdict = Verdict(state="INVALID", reasons=[Reason(code="cpu_busy", message="", advice="")])
    records = [run("a"), run("b", spread=0.4, metrics={"latency_ms": 13.0}, verdict=verdict)]
    baseline, row = compare(records, records[0], ["latency_ms", "accuracy_top1"]).rows
    limits = [Limit("latency_ms", 0.05, is_fraction=True), Limit("accuracy_top1", 0.05, is_fraction=True)]
    speed, accuracy = check(row, baseline, limits)
    assert speed.problem == "the run is INVALID: cpu_busy"
    assert accuracy.passed
    assert check(row, baseline, limits, allow_invalid=True)[0].passed


@pytest.mark.parametrize(
    ("latency_ms", "spread", "passed"),
    [(10.2, 0.001, True), (11.0, 0.001, False), (11.0, 0.2, True), (11.0, 0, False), (8.0, 0.001, True)],
    ids=["within the limit", "beyond it", "no difference shown", "without an interval", "better"],
)
def test_a_regression_is_what_is_shown_and_beyond_the_limit(latency_ms: float, spread: float, passed: bool) -> None:
    records = [run("a", spread=0.001), run("b", metrics={"latency_ms": latency_ms}, spread=spread)]
    baseline, row = compare(records, records[0], ["latency_ms"]).rows
    (finding,) = check(row, baseline, [Limit("latency_ms", 0.05, is_fraction=True)])
    assert finding.passed is passed


def test_what_cannot_be_checked_has_not_passed() -> None:
    records = [run("a"), run("b", missing={"power_w": "the meter was unplugged"})]
    del records[1].metrics["power_w"]
    baseline, row = compare(records, records[0], ["power_w"]).rows
    (finding,) = check(row, baseline, [Limit("power_w", 1.0, is_fraction=False)])
    assert not finding.passed
    assert finding.problem == "missing in the run: the meter was unplugged"


def test_settings_differ_within_one_option_of_their_group() -> None:
    int8 = {"quantization.name": "int8", "quantization.precision": "int8"}
    fp32 = {"quantization.name": "fp32", "quantization.precision": "fp32"}
    records = [
        run(params={**int8, "quantization.images": 16}),
        run(params={**int8, "quantization.images": 64}),
        run(params=fp32),
    ]
    assert differing(records) == ["quantization.name", "quantization.images"]
    assert shared(records, ["model.name", "quantization.name"]) == {"model.name": "a"}


def test_a_run_that_ended_before_a_setting_was_known_does_not_make_it_differ() -> None:
    records = [run("a", params={"model.format": "onnx"}), run("a", status=Status.failed), run("a")]
    assert differing(records[:2]) == []
    assert differing(records) == ["model.format"]


def test_reasons_of_a_verdict_do_not_change_what_is_compared() -> None:
    doubtful = Verdict(state=VerdictState.degraded, reasons=[Reason(code="latency_drift", message="m")])
    records = [run("a"), run("b", verdict=doubtful)]
    assert compare(records, records[0], ["latency_ms"]).rows[1].changes["latency_ms"].value == 1
