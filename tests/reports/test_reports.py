from __future__ import annotations

import csv
import io
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console, RenderableType

from edlab.agent.messages import Trial
from edlab.comparison import Constraint, Objective, choose
from edlab.errors import ConfigError
from edlab.metrics import latency
from edlab.metrics.catalogue import Better
from edlab.record import Reason, RunRecord, Stage, Status, Verdict, VerdictState
from edlab.reports.comparison import choice_sheet
from edlab.reports.plots import PowerSpan, latency_plot, power_plot, throughput_plot
from edlab.reports.sheet import Format
from edlab.reports.show import show
from edlab.reports.table import listing, table


def record(params: dict[str, Any] | None = None, **changes: Any) -> RunRecord:
    names = {
        "model.name": "mobilenet_v2",
        "quantization.name": "int8",
        "converter.name": "onnxruntime",
        "device.name": "cpu",
        "dataset.name": "imagenet",
    }
    values: dict[str, Any] = {
        "name": "mobilenet_v2-int8-onnxruntime-cpu",
        "run_id": "0123456789abcdef" * 2,
        "sweep_id": "s",
        "started_at": "2025-01-01T12:00:00+00:00",
        "params": names | (params or {}),
        "metrics": {
            "accuracy_top1": 0.7184, "accuracy_drop": 0.0031, "latency_ms": 4.512, "latency_uncertainty": 0.012,
            "throughput_ips": 1618.3,
            "flops_per_s": 2.78e11, "latency_ci95_low_ms": 4.4, "latency_ci95_high_ms": 4.6,
        },
        "verdict": Verdict(),
    }  # fmt: skip
    return RunRecord.model_validate({**values, **changes})


FAILED: dict[str, Any] = {
    "status": Status.failed, "stage": Stage.convert, "metrics": {}, "verdict": None,
    "reason": "crashed with [signal] SIGKILL", "hint": "take [fewer] images",
}  # fmt: skip


def markdown(records: list[RunRecord]) -> str:
    return table(records).write(Format.markdown)


def printed(renderable: RenderableType, width: int = 120) -> str:
    output = io.StringIO()
    Console(file=output, width=width, force_terminal=False).print(renderable)
    return output.getvalue()


def test_a_row_holds_the_measured_figures() -> None:
    text = printed(table([record(), record({"quantization.name": "fp32"})]))
    row = next(line for line in text.splitlines() if line.startswith("1"))
    assert row.split() == ["1", "01234567", "int8", "71.8", "+0.3", "4.51", "1.2", "1,618", "278", "–", "–", "VALID"]


def test_a_column_of_accuracy_is_there_where_a_row_has_a_value() -> None:
    classified, detected = record(), record(metrics={"emulated_accuracy_map": 0.182})
    for shown in (lambda rows: printed(table(rows)), lambda rows: printed(listing(rows)), markdown):
        assert "top1" in shown([classified])
        assert "mAP" not in shown([classified])
        assert "top1" not in shown([detected])
        assert "mAP" in shown([detected])
        assert "≈18.2" in shown([classified, detected])
        assert "top1" in shown([classified, detected])


def test_measured_and_estimated_power_never_look_alike() -> None:
    measured = record(metrics={"power_w": 65.0, "efficiency_ips_per_w": 3.5})
    estimated = record(
        metrics={"estimated_power_w": 65.0, "estimated_efficiency_ips_per_w": 3.5},
        tags={"power_source": "specification of the CPU"},
    )
    emulated = record(metrics={"emulated_power_w": 65.0})
    for text in (printed(table([measured, estimated, emulated])), markdown([measured, estimated, emulated])):
        rows = [line.replace("|", " ").split() for line in text.splitlines() if line.strip(" |")[:1] in {*"123"}][:3]
        assert "65.0" in rows[0]
        assert "~65.0" in rows[1]
        assert "≈65.0" in rows[2]
        assert "65.0" not in rows[1] + rows[2]
        assert "~ estimated, not measured: specification of the CPU" in text
        assert "stand-in" in text


def test_a_measured_power_needs_no_mark() -> None:
    assert "~" not in printed(table([record(metrics={"power_w": 12.0})]))


def test_rows_that_mlflow_lacks_and_entries_that_were_rebuilt_stand_below() -> None:
    away, rebuilt = record(unrecorded="it is away"), record(details={"cache_dropped": ["steps/ab: out is damaged"]})
    text = printed(table([away, rebuilt, away]))
    assert "not in MLflow yet (#1, #3): it is away" in text
    assert "damaged in the cache and rebuilt (#2): steps/ab: out is damaged" in text


def test_failures_stand_below_with_step_reason_and_hint() -> None:
    for text in (printed(table([record(), record(**FAILED)])), markdown([record(), record(**FAILED)])):
        assert "FAILED" in text
        assert "#2 at convert: crashed with [signal] SIGKILL" in text
        assert "take [fewer] images" in text


def test_a_conversion_that_failed_saves_an_intermediate_file_and_no_model() -> None:
    kept: dict[str, Any] = {**FAILED, "tags": {"artifact_sha256": "0"}}
    whole = record(**kept, run_id="a" * 32)
    part = record(**kept, run_id="b" * 32, details={"intermediate": "model.onnx"})
    text = printed(table([whole, part]))
    assert "the converted model is saved: edlab pull aaaaaaaa" in text
    assert "the intermediate file model.onnx is saved: edlab pull bbbbbbbb" in text


def test_reasons_of_a_verdict_are_listed_once_with_their_rows() -> None:
    reason = Reason(code="background_load", message="22 % busy", advice="stop what else runs")
    degraded = record(verdict=Verdict(state=VerdictState.degraded, reasons=[reason]))
    text = printed(table([degraded, record(), degraded]))
    assert "background_load (#1, #3): stop what else runs" in text
    assert text.count("stop what else runs") == 1


def test_reasons_with_one_advice_are_one_note() -> None:
    drift = Reason(code="latency_drift", message="m", advice="stop others")
    bursts = Reason(code="latency_bursts", message="m", advice="stop others")
    both = record(verdict=Verdict(state=VerdictState.degraded, reasons=[drift, bursts]))
    one = record(verdict=Verdict(state=VerdictState.degraded, reasons=[bursts]))
    assert "latency_drift (#1), latency_bursts (all rows): stop others" in markdown([both, one])


def test_untrained_weights_are_the_first_note() -> None:
    reason = Reason(code="untrained_weights", message="m", advice="set model.weights")
    verdict = Verdict(state=VerdictState.degraded, reasons=[reason])
    row = record(verdict=verdict, tags={"weights": "untrained"}, missing={"power_w": "no sensor"})
    below = markdown([row]).split("\n\n")[-1]
    assert below.startswith("- UNTRAINED (#1): the weights are random")


def test_reasons_that_make_a_row_invalid_are_marked_and_first() -> None:
    smoke = Reason(code="tier_smoke", message="m", advice="protocol=normal")
    wide = Reason(code="wide_confidence_interval", message="m", advice="stop others", invalid=True)
    bursts = Reason(code="latency_bursts", message="m", advice="stop others")
    row = record(verdict=Verdict(state=VerdictState.invalid, reasons=[smoke, bursts, wide]))
    lines = markdown([row]).splitlines()
    first, second, third = lines[-3:]
    assert "! makes a row INVALID; the other reasons make it DEGRADED" in first
    assert "latency_bursts, wide_confidence_interval! (#1): stop others" in second
    assert "tier_smoke (#1)" in third
    text = " ".join(printed(show(row)).split())
    assert "wide_confidence_interval (INVALID) m; stop others" in text
    assert "latency_bursts m; stop others" in text
    degraded = record(verdict=Verdict(state=VerdictState.degraded, reasons=[smoke]))
    assert "INVALID" not in markdown([degraded])


def test_what_tells_rows_apart_has_a_column() -> None:
    def swept(images: int) -> RunRecord:
        return record({"quantization.calibration.images": images, "quantization.precision": "int8"})

    fp32 = record({"quantization.name": "fp32", "quantization.precision": "fp32"})
    text = printed(table([swept(16), swept(64), fp32]))
    assert "images" in text
    assert " 64 " in text
    assert "precision" not in text  # the name tells already
    assert "images" not in printed(table([swept(16), fp32]))
    assert "dataset" in printed(table([record(), record({"dataset.name": "imagenette"})]))


def test_the_table_fits_a_narrow_terminal_without_losing_figures() -> None:
    text = printed(table([record(), record({"model.name": "inception_v3", "converter.name": "openvino"})]), width=80)
    assert max(map(len, text.splitlines())) <= 80
    assert {"01234567", "71.8", "+0.3", "4.51", "1.2", "1,618", "278", "VALID"} <= set(text.split())
    assert "inception_v3" in text


def test_below_the_width_of_the_table_a_row_is_a_block_of_lines() -> None:
    text = printed(table([record(), record({"model.name": "inception_v3", "converter.name": "openvino"})]), width=34)
    assert max(map(len, text.splitlines())) <= 34
    assert {"onnxruntime", "mobilenet_v2", "1,618", "278", "VALID"} <= set(text.split())


def test_at_80_columns_only_names_fold() -> None:
    figures = {**record().metrics, "throughput_batch": 64, "power_w": 65.0, "efficiency_ips_per_w": 24.9}
    degraded = Verdict(state=VerdictState.degraded)
    rows = [
        record(metrics={**figures, "throughput_in_flight": 1}, verdict=degraded),
        record(
            {"model.name": "inception_v3", "converter.name": "openvino", "quantization.name": "fp32"},
            metrics={**figures, "throughput_in_flight": 16},
        ),
    ]
    lines = printed(table(rows), width=80).splitlines()
    assert max(map(len, lines)) <= 80
    first, second = (next(line for line in lines if line.startswith(f"{n} ")) for n in (1, 2))
    assert {"mobilenet_v2", "1,618", "DEGRADED"} <= set(first.split())
    assert {"inception_v3", "1,618", "VALID"} <= set(second.split())
    assert "not shown in this width: batch x in flight" in " ".join(lines)
    wide = printed(table(rows), width=120).splitlines()
    assert any(" 64 x 1 " in line for line in wide)
    assert any(" 64 x 16 " in line for line in wide)


def test_a_choice_with_a_long_word_in_a_reason_is_a_table_at_80_columns() -> None:
    reasons = ("quantization=int8_dynamic is unsupported", "/home/x/.cache/edlab/steps/0123456789abcdef/model.onnx")
    rows = [
        record({"model.name": model, "converter.name": converter, "quantization.name": quantization}, uuid=f"{number}")
        for number, (model, converter, quantization) in enumerate(
            itertools.product(("mobilenet_v2", "inception_v3"), ("onnxruntime", "openvino"), ("fp32", "int8"))
        )
    ]
    rows += [record(**{**FAILED, "reason": reason}, uuid=reason) for reason in reasons]
    constraints = [Constraint("accuracy_top1", 0.7, is_minimum=True), Constraint("latency_ms", 20, is_minimum=False)]
    choice = choose(rows, constraints, Objective("throughput_ips", Better.higher))
    lines = printed(choice_sheet(rows, constraints, choice), width=80).splitlines()
    assert max(map(len, lines)) <= 80
    (heading,) = [line for line in lines if line.startswith("choice ")]
    assert heading.split()[-2:] == ["verdict", "why"]
    assert sum(line.startswith("ruled out 01234567") for line in lines) == len(reasons)


def test_markdown_is_one_table_with_a_row_a_run() -> None:
    title, _, *lines = markdown([record(), record(**FAILED)]).splitlines()
    assert title == "**quant int8, converter onnxruntime, device cpu**"
    assert len({line.count("|") for line in lines[:4]}) == 1
    assert set(lines[1].replace("|", "").split()) == {"---", "---:"}


def faster(by: float, **changes: Any) -> RunRecord:
    """A run whose latency is lower by a factor, with an interval of 2 %."""
    ms = 4.512 / by
    interval = {"latency_ci95_low_ms": 0.99 * ms, "latency_ci95_high_ms": 1.01 * ms}
    return record(metrics={**record().metrics, "latency_ms": ms, **interval}, **changes)


def test_the_best_values_and_those_not_shown_to_be_worse_are_marked() -> None:
    text = markdown([faster(1.0), faster(2.0), faster(2.01)])
    assert "| 4.51 |" in text
    assert "| 2.26* |" in text
    assert "| 2.24* |" in text
    assert "* the best of its column, or not shown to be worse" in text
    assert "* the best" not in markdown([faster(1.0), faster(1.001)])  # nothing is shown to be worse


def test_an_invalid_row_wins_nothing() -> None:
    invalid = Verdict(state=VerdictState.invalid)
    assert "| 1.13 |" in markdown([faster(1.0), faster(2.0), faster(4.0, verdict=invalid)])


def test_an_emulated_row_wins_nothing_beside_measured_rows() -> None:
    fast = faster(4.0)
    emulated = fast.model_copy(update={"metrics": {f"emulated_{name}": each for name, each in fast.metrics.items()}})
    text = markdown([faster(1.0), faster(2.0), emulated])
    assert "| 2.26* |" in text
    assert "| ≈1.13 |" in text


def test_a_long_list_has_a_column_with_its_length() -> None:
    layers = [f"/features/features.{number}/conv/Conv" for number in range(5)]
    rows = table([record({"quantization.exclude": each}) for each in ([], layers)])
    assert "| exclude |" in rows.write(Format.markdown)
    assert "| 5 values |" in rows.write(Format.markdown)
    assert rows.data[1]["quantization.exclude"] == layers


def test_rows_on_the_pareto_front_are_marked() -> None:
    slow_and_right = record(metrics={**record().metrics, "accuracy_top1": 0.9, "latency_ms": 9.0})
    lines = markdown([record(), slow_and_right, faster(2.0)]).splitlines()
    assert [line.split("|")[1].strip() for line in lines if line.startswith("|")][2:] == ["1", "◆ 2", "◆ 3"]


def test_sorting_puts_the_best_first_and_a_wrong_metric_has_a_suggestion() -> None:
    rows = [faster(1.0), record(**FAILED), faster(2.0)]
    assert [row["latency_ms"] for row in table(rows, sort="latency_ms").data[:2]] == [2.256, 4.512]
    assert table(rows, sort="throughput_ips").data[2]["status"] == "failed"
    with pytest.raises(ConfigError) as caught:
        table(rows, sort="latency")
    assert "latency_ms" in caught.value.hint


HOSTILE = ("<script>alert(1)</script>", "=cmd|' /C calc'!A1", 'a,b"c', "[x](javascript:alert(1))", "a|b")


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_text_in_every_format(name: str) -> None:
    sheet = table([record({"model.name": name}), record()])
    (first, _) = csv.DictReader(io.StringIO(sheet.write(Format.csv)))
    assert first["model.name"] == (f"'{name}" if name.startswith("=") else name)
    assert json.loads(sheet.write(Format.json))["rows"][0]["model.name"] == name
    assert "<script" not in sheet.write(Format.html)
    rows = [line for line in sheet.write(Format.markdown).splitlines() if line.startswith("|")]
    assert len({line.count("|") - line.count("\\|") for line in rows}) == 1
    assert "](" not in sheet.write(Format.markdown)
    assert "_" not in sheet.write(Format.latex).replace("\\_", "")


def test_show_tells_the_whole_run() -> None:
    reason = Reason(code="tier_smoke", message="only proves that it runs", advice="protocol=normal")
    steps = [{"name": "onnx_export", "seconds": 4.24, "cached": True, "tools": {"torch": "2.9"}}]
    text = printed(
        show(
            record(
                verdict=Verdict(state=VerdictState.degraded, reasons=[reason]),
                missing={"power_w": "no power sensor was found"},
                details={"artifact": {"steps": steps}},
                environment={"target": {"cpu": "Some [CPU] 9000"}},
            )
        )
    )
    for expected in (
        "DEGRADED", "tier_smoke", "only proves that it runs", "protocol=normal", "4.512", "latency_ci95_low_ms",
        "no power sensor was found", "onnx_export", "4.2 s (from the cache): torch 2.9", "Some [CPU] 9000",
        "0123456789abcdef" * 2, "imagenet",
    ):  # fmt: skip
        assert expected in text


def at(batch: int, in_flight: int, **tags: str) -> RunRecord:
    figures = {"throughput_ips": 100.0, "throughput_batch": batch, "throughput_in_flight": in_flight}
    return record(metrics=figures, tags=tags)


def test_the_setting_of_the_throughput_is_a_column_where_rows_differ_and_else_in_the_heading() -> None:
    for text in (printed(table([at(64, 1), at(1, 2)])), markdown([at(64, 1), at(1, 2)])):
        rows = [line for line in text.splitlines() if line.strip("| ")[:1] in ("1", "2")]
        assert "64 x 1" in rows[0]
        assert "1 x 2" in rows[1]
    shared = printed(table([at(4, 2), record(**FAILED), at(4, 2)]))
    assert shared.count("4 x 2") == 1
    assert "batch x in flight 4 x 2" in shared.splitlines()[0]
    emulated = record(metrics={"emulated_throughput_batch": 8.0, "emulated_throughput_in_flight": 1.0})
    assert "8 x 1" in printed(table([emulated, at(1, 1)]))


def test_why_a_row_has_batch_1_only_is_below_the_table_where_another_has_more() -> None:
    fixed = at(1, 1, batch_one_only="the file's batch is 1")
    assert "batch 1 only (#2): the file's batch is 1" in printed(table([at(64, 1), fixed]))
    assert "batch 1 only" not in printed(table([at(1, 1), fixed]))


def test_a_file_with_a_fixed_batch_is_below_the_table_in_any_case() -> None:
    fixed = at(1, 1, batch_one_only="the ONNX file's batch is fixed; export it with a free batch")
    fixed.details["source"] = {"fixed_batch": True}
    text = printed(table([fixed, fixed]))
    assert text.count("batch 1 only (all rows): the ONNX file's batch is fixed; export it with a free batch") == 1


def test_the_median_of_rows_whose_mean_is_far_from_it_is_below_the_table() -> None:
    stalled = record(metrics={"latency_ms": 5.0, "latency_p50_ms": 4.0})
    steady = record(metrics={"latency_ms": 4.2, "latency_p50_ms": 4.0})
    assert "median: #2 4.00" in markdown([steady, stalled])
    assert "median" not in markdown([steady])


def test_a_value_that_is_missing_from_a_column_has_its_reason_below_the_table() -> None:
    reasons = {"power_w": "no sensor", "efficiency_ips_per_w": "no sensor", "compile_ms": "no column"}
    estimated = record(missing={"power_w": "no sensor"}, metrics={"estimated_power_w": 5.0})
    text = markdown([record(missing=reasons), estimated])
    assert "missing W, inf/s/W (#1): no sensor" in text
    assert "no column" not in text


TRIALS = [
    {"batch": 1, "in_flight": 1, "ips": 10.0, "note": ""},
    {"batch": 4, "in_flight": 1, "ips": 20.0, "note": ""},
    {"batch": 1, "in_flight": 2, "ips": None, "note": "the accelerator is in use"},
    {"batch": 4, "in_flight": 1, "ips": 21.0, "note": ""},
]


def test_params_read_from_mlflow_compare_with_those_of_a_record() -> None:
    """A run in progress has what MLflow keeps, which is text."""
    ended, running = at(1, 1), at(1, 1)
    ended.params |= {"device.precisions": ["fp32", "int8"], "protocol.decompose_drop": False}
    running.params |= {"device.precisions": '["fp32", "int8"]', "protocol.decompose_drop": "false"}
    heading = markdown([ended, running]).splitlines()[0]
    assert "precisions" not in heading
    assert "decompose_drop" not in heading


def test_show_lists_every_setting_tried() -> None:
    text = printed(show(record(details={"phases": {"throughput": {"search": TRIALS}}})))
    assert "4 x 1 20, 21" in " ".join(text.split())
    assert "the accelerator is in use" in text


def test_show_says_that_the_search_ended_at_its_limit() -> None:
    limits = {"protocol.throughput.max_batch": 4, "protocol.throughput.max_in_flight": 2}

    def shown(batch: int, in_flight: int) -> str:
        phase = {"search": TRIALS, "batch": batch, "in_flight": in_flight}
        return " ".join(printed(show(record(limits, details={"phases": {"throughput": phase}}))).split())

    assert "max_in_flight=2 the best setting is at this limit" in shown(1, 2)
    assert "max_batch=4 the best setting is at this limit" in shown(4, 1)
    assert "lies at this limit" not in shown(1, 1)


def test_show_says_what_the_machine_did_in_each_phase_of_each_process() -> None:
    watched = {
        "seconds": 10.04, "own": 0.5, "others": 0.031, "stolen": None, "involuntary_switches": 12,
        "clocks_mhz": [2900.0, 3100.0], "throttle_events": 0,
    }  # fmt: skip
    phases = {"warmup": {"queries": 3}, "latency": {"activity": watched}}
    text = printed(show(record(details={"phases": phases, "repeats": [phases]})))
    lines = [line.split() for line in text.splitlines()]
    assert ["latency", "10.0", "50.0%", "3.1%", "12", "2900", "to", "3100", "0"] in lines
    assert ["latency", "(repeat", "2)", "10.0", "50.0%", "3.1%", "12", "2900", "to", "3100", "0"] in lines


def test_show_lists_the_runs_in_fresh_processes() -> None:
    runs = [{"latency_ms": 4.5, "latency_uncertainty": 0.012, "throughput_ips": 220.0}] * 2
    text = " ".join(printed(show(record(details={"runs": runs}))).split())
    assert "1 4.5 ms ± 1.2%, 220 inferences/s 2 4.5 ms" in text


def test_show_gives_the_throughput_of_each_five_minutes_of_a_long_window() -> None:
    def shown(seconds: int) -> str:
        phases = {"throughput": {"ips_by_second": [100.0] * 300 + [70.0] * (seconds - 300)}}
        metrics = {"throughput_ips": 71.0, "sustained_ratio": 0.7}
        return printed(show(record(metrics=metrics, details={"phases": phases})))

    lines = [line.split() for line in shown(1800).splitlines()]
    assert ["minutes", "0", "to", "5", "100", "inferences/s"] in lines
    assert ["minutes", "25", "to", "30", "70", "inferences/s"] in lines
    assert ["sustained_ratio", "0.7"] in lines[: lines.index(["throughput", "over", "time"])]
    assert ["model"] not in lines
    assert "over time" not in shown(360)


@pytest.mark.parametrize("trials", [TRIALS, TRIALS[:1]])
def test_throughput_plot_is_a_picture(trials: list[dict[str, Any]], tmp_path: Path) -> None:
    throughput_plot([Trial(**trial) for trial in trials], tmp_path / "throughput.png", title="run")
    with Image.open(tmp_path / "throughput.png") as picture:
        assert picture.format == "PNG"


def test_show_of_a_failure_says_where_why_and_what_to_do() -> None:
    text = printed(show(record(**FAILED)))
    assert "failed at convert" in text
    assert "crashed with [signal] SIGKILL" in text
    assert "take [fewer] images" in text


def test_latency_plot_shows_the_runs_own_figures_and_where_each_process_began(tmp_path: Path) -> None:
    ns = np.repeat([4_000_000, 6_000_000], 500)
    figures = {"latency_ms": 5.0, "latency_ci95_low_ms": 3.0, "latency_ci95_high_ms": 7.0}
    for number, queries in enumerate(([1000], [500, 500])):
        latency_plot(ns, figures, queries, tmp_path / f"{number}.png", title="run")
    pictures = [np.asarray(Image.open(tmp_path / f"{number}.png").convert("L")) for number in (0, 1)]
    assert not np.array_equal(*pictures)


@pytest.mark.parametrize("queries", [1, 12, 7000])
def test_latency_plot_is_a_picture_of_any_number_of_queries(queries: int, tmp_path: Path) -> None:
    ns = np.random.default_rng(0).integers(4_000_000, 6_000_000, queries)
    latency_plot(ns, latency(ns).values, [queries], tmp_path / "latency.png", title="run")
    with Image.open(tmp_path / "latency.png") as picture:
        assert picture.format == "PNG"
        assert picture.width >= 800
        assert np.asarray(picture.convert("L")).std() > 5  # not blank


@pytest.mark.parametrize("watts", [[2.0, 2.5, 3.0], [2.0, np.nan, 3.0], []])
def test_power_plot_is_a_picture_of_any_readings(watts: list[float], tmp_path: Path) -> None:
    t_ns = 5_000_000_000 + np.arange(len(watts)) * 1_000_000_000
    readings = {"um25c": (t_ns, np.array(watts)), "rapl": (t_ns, np.array(watts))}
    spans = [
        PowerSpan(name, start, start + 3_000_000_000, readings) for name, start in (("idle", 5), ("throughput", 9))
    ]
    power_plot(spans, tmp_path / "power.png", title="run")
    with Image.open(tmp_path / "power.png") as picture:
        assert np.asarray(picture.convert("L")).std() > 5  # not blank


def test_the_cost_of_reading_the_power_source_is_below_the_table() -> None:
    cost = {
        f"sampling_{what}_cost{end}": 0.01
        for what in ("latency", "throughput")
        for end in ("", "_ci95_low", "_ci95_high")
    }
    text = markdown([record(metrics=cost, tags={"power_source": "rapl"})])
    assert "reading rapl costs a query +1.0% (+1.0% to +1.0%)" in text


def test_what_is_known_of_the_power_sources_is_in_the_notes_and_in_show() -> None:
    interval = {"power_w": 65.0, "power_ci95_low_w": 64.9, "power_ci95_high_w": 65.1}
    tags = {"power_boundary": "board_dc", "power_source": "scpi 127.0.0.1", "power_accuracy": "not stated"}
    other = {"source": "rapl", "boundary": "package", "accuracy": "not stated", "metrics": {}, "missing": {}}
    details = {"power_sources": [other], "phases": {"throughput": {"readings": {"refresh_s": 0.5}}}}
    row = record(metrics=interval, tags=tags, details=details)
    text = markdown([row])
    assert "± 0.2% or less (95 % interval, without the instrument's accuracy, which is not stated)" in text
    assert "also recorded (#1): rapl (package); see" in text
    shown = " ".join(printed(show(row)).split())
    assert "power by scpi 127.0.0.1 (board_dc)" in shown
    assert "new reading every 0.5 s accuracy not stated" in shown
    stated = record(metrics=interval, tags={**tags, "power_accuracy": "0.15 %"})
    assert "(95 % interval)" in markdown([stated])


def test_what_the_watts_include_is_said_and_where_rows_differ_of_which() -> None:
    power = {"power_w": 65.0, "efficiency_ips_per_w": 3.5}
    package = record(metrics=power, tags={"power_boundary": "package"})
    board = record({"device.name": "jetson"}, metrics=power, tags={"power_boundary": "board_dc"})
    same = markdown([package, package])
    assert "W: measured at the processor package (package)" in same
    assert "| W package |" in same
    assert "| W |" in markdown([package, board])
    assert "not comparable" not in same
    differing = printed(table([package, board]))
    assert "W (#1): measured at the processor package (package)" in differing
    assert "W (#2): measured at the input of the board (board_dc)" in differing
    assert "not comparable" in differing
