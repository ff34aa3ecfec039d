"""`edlab compare`, `choose`, `pareto`, `check` and the formats, on a store that a real sweep has written."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from workplace import Workplace

from edlab import completion
from edlab.errors import StorageError
from edlab.record import RunRecord, Verdict
from edlab.results import Results


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, shared_cache: Path) -> Workplace:
    place = Workplace(tmp_path_factory.mktemp("results"), shared_cache)
    result = place.run("-m", "quantization=fp32,int8", "protocol.seconds=5")
    assert result.returncode == 0, result.stdout + result.stderr
    return place


@pytest.fixture(scope="module")
def records(place: Workplace) -> list[RunRecord]:
    return place.records()


def printed(place: Workplace, *words: str, code: int = 0) -> str:
    result = place.edlab(*words)
    assert result.returncode == code, result.stdout + result.stderr
    return result.stdout


def rows(place: Workplace, *words: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(printed(place, *words, "--format", "csv"))))


def test_the_sweep_ends_with_the_next_commands(place: Workplace, records: Sequence[RunRecord]) -> None:
    shown = printed(place, "show", records[0].sweep_id, "--sort", "throughput_ips")
    assert records[0].run_id[:8] in shown
    assert records[1].run_id[:8] in shown


def test_compare_has_the_changes_from_the_baseline_with_their_intervals(
    place: Workplace, records: Sequence[RunRecord]
) -> None:
    fp32, int8 = rows(place, "compare")
    assert (fp32["quantization.name"], int8["quantization.name"]) == ("fp32", "int8")
    assert "model.name" not in fp32  # it is equal: above the table
    assert float(int8["ratio_latency_ms"]) == pytest.approx(float(int8["latency_ms"]) / float(fp32["latency_ms"]))
    assert float(int8["ratio_throughput_ips_ci95_low"]) < float(int8["ratio_throughput_ips"])
    assert float(int8["difference_accuracy_top1_ci95_high"]) < 0.02  # image by image
    (baseline, _) = rows(
        place, "compare", *(record.run_id[:10] for record in records), "--baseline", records[1].run_id[:10]
    )
    assert baseline["baseline"] == records[1].run_id
    assert float(baseline["ratio_latency_ms"]) == pytest.approx(1 / float(int8["ratio_latency_ms"]))
    table = printed(place, "compare", records[0].sweep_id)
    assert "model digits_cnn, converter onnxruntime, device cpu" in table
    assert "baseline" in table
    assert "protocol.repeats=5" in table


def test_a_changed_file_of_predictions_is_not_used(
    place: Workplace, tmp_path: Path, records: Sequence[RunRecord]
) -> None:
    sweep = tmp_path / "sweep"
    shutil.copytree(place.folder / "mlruns" / "sweeps" / records[0].sweep_id, sweep)
    assert "image by image" not in place.edlab("compare", str(sweep)).stderr
    (sweep / "1" / "predictions.npz").write_bytes(b"PK damaged")
    result = place.edlab("compare", str(sweep))
    assert result.returncode == 0
    assert "accuracy is not compared image by image: predictions.npz was changed" in result.stderr
    result = place.edlab("compare", records[0].run_id, "--baseline", str(sweep / "1" / "result.json"))
    assert "predictions.npz was changed" in result.stderr


_QUESTIONS = """
import sys
from edlab.results import Results
results = Results()
found = results.find()
assert [each.run_id for each in results.tracker.latest(1)] == [found[1].run_id]
assert results.tracker.record(found[0].run_id[:12]).environment
assert [each.metrics for each in results.tracker.rows(found[0].name)] == [found[0].metrics]
(few, *_) = results.find(["all"], metrics={"latency_ms", "power_w"})
assert few.metrics == {"latency_ms": found[0].metrics["latency_ms"]}
print(len(found), "mlflow" in sys.modules)
"""


def test_questions_about_recorded_runs_do_not_import_mlflow(place: Workplace, records: Sequence[RunRecord]) -> None:
    """Importing it takes longer than the answer."""
    environment = place.environment | {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    done = subprocess.run(
        [sys.executable, "-c", _QUESTIONS], cwd=place.folder, env=environment, capture_output=True, text=True
    )
    assert done.stdout.split() == ["2", "False"], done.stderr


def test_runs_can_be_filtered_grouped_and_sorted(place: Workplace, records: Sequence[RunRecord]) -> None:
    (only,) = rows(place, "compare", "--filter", "params.`quantization.name` = 'int8'")
    assert only["run"] == records[1].run_id
    grouped = rows(place, "compare", "--by", "quantization")
    assert [row["baseline"] for row in grouped] == [record.run_id for record in records]
    best = rows(place, "runs", "--sort", "throughput_ips")[0]
    assert float(best["throughput_ips"]) == max(record.metrics["throughput_ips"] for record in records)


def test_choose_takes_the_best_of_what_is_allowed(place: Workplace, records: Sequence[RunRecord]) -> None:
    fastest = max(records, key=lambda record: record.metrics["throughput_ips"])
    chosen = rows(place, "choose", "--min-accuracy", "0.5", "--maximize", "throughput_ips", "--verdict", "any")
    assert (chosen[0]["choice"], chosen[0]["run"]) == ("best", fastest.run_id)
    none = printed(
        place, "choose", "--max-latency-ms", "1e-9", "--maximize", "throughput_ips", "--verdict", "any", code=1
    )
    assert "no run meets all constraints" in none
    assert "the choice would be" in none


def valid_copies(records: Sequence[RunRecord], folder: Path, count: int = 2) -> list[RunRecord]:
    """A sweep's folder with copies of runs, all of them VALID, whatever else the machine did."""
    copies = []
    for number in range(count):
        copy = records[number % len(records)].model_copy(
            deep=True, update={"uuid": f"{number:032}", "run_id": f"{number:08}".ljust(32, "0"), "verdict": Verdict()}
        )
        (folder / str(number)).mkdir(parents=True)
        copy.write(folder / str(number) / "result.json")
        copies.append(copy)
    return copies


def test_pareto_draws_the_front(place: Workplace, tmp_path: Path, records: Sequence[RunRecord]) -> None:
    valid_copies(records, tmp_path / "sweep")
    pareto = ("pareto", str(tmp_path / "sweep"))
    shown = printed(place, *pareto, "--x", "latency_ms", "--out", str(tmp_path / "front.svg"))
    assert (tmp_path / "front.svg").read_text().startswith("<?xml")
    assert "Pareto front of latency_ms and accuracy_top1" in shown
    for words, message in (
        (("--out", "front.xyz"), "cannot draw 'front.xyz'"),
        (("--out", "nowhere/front.png"), "cannot write"),
        (("--x", "accuracy_images"), "no value of accuracy_images is better"),
    ):
        result = place.edlab(*pareto, *words)
        assert result.returncode == 2
        assert message in " ".join(result.stderr.split())
        assert "Traceback" not in result.stderr


def test_the_front_of_metrics_that_no_run_has_together_is_explained(
    place: Workplace, tmp_path: Path, records: Sequence[RunRecord]
) -> None:
    copies = valid_copies(records, tmp_path / "sweep")
    for number, name in enumerate(("latency_ms", "throughput_ips")):
        del copies[number].metrics[name]
        copies[number].write(tmp_path / "sweep" / str(number) / "result.json")
    result = place.edlab("pareto", str(tmp_path / "sweep"), "--x", "latency_ms", "--y", "throughput_ips")
    assert result.returncode == 2
    assert "has measured both latency_ms and throughput_ips" in " ".join(result.stderr.split())


def test_a_folder_has_its_runs_in_the_order_of_their_numbers(
    place: Workplace, tmp_path: Path, records: Sequence[RunRecord]
) -> None:
    copies = valid_copies(records, tmp_path / "sweep", count=12)
    assert [row["run"] for row in rows(place, "compare", str(tmp_path / "sweep"))] == [each.run_id for each in copies]


def test_a_run_of_a_folder_that_cannot_be_read_is_named_and_the_others_are_used(
    place: Workplace, tmp_path: Path, records: Sequence[RunRecord]
) -> None:
    sweep = tmp_path / "sweep"
    copies = valid_copies(records, sweep, count=4)
    (sweep / "1" / "result.json").write_text("{")
    (sweep / "2" / "result.json").unlink()
    for command in ("compare", "pareto"):
        result = place.edlab(command, str(sweep), "--format", "csv")
        assert result.returncode == 0, result.stdout + result.stderr
        assert f"{sweep / '1'}: not used, because result.json is damaged" in result.stderr
        assert f"{sweep / '2'}: not used, because result.json is missing" in result.stderr
        used = [row["run"] for row in csv.DictReader(io.StringIO(result.stdout))]
        assert {*used} <= {copies[0].run_id, copies[3].run_id}
    for damaged in (sweep / "1", sweep / "1" / "result.json"):
        with pytest.raises(StorageError, match="is damaged"):
            Results().find([str(damaged)])
    for number in "03":
        (sweep / number / "result.json").unlink()
    with pytest.raises(StorageError, match=r"none of the 4 runs in .*result\.json is missing"):
        Results().find([str(sweep)])


def test_one_device_without_a_metric_does_not_stop_the_blocks_of_the_others(
    place: Workplace, tmp_path: Path, records: Sequence[RunRecord]
) -> None:
    copies = valid_copies(records, tmp_path / "sweep")
    copies[0].metrics["power_w"] = 5.0
    copies[1].params["device.name"] = "coral"
    for number, copy in enumerate(copies):
        copy.write(tmp_path / "sweep" / str(number) / "result.json")
    found = rows(place, "compare", str(tmp_path / "sweep"), "--by", "device", "--sort", "power_w")
    assert [row["device.name"] for row in found] == ["cpu", "coral"]


def test_check_has_a_finding_for_each_run_even_if_their_names_are_equal(
    place: Workplace, tmp_path: Path, records: Sequence[RunRecord]
) -> None:
    """Runs that MLflow has not received have no id."""
    copies = valid_copies(records[:1], tmp_path / "sweep")
    for number, copy in enumerate(copies):
        copy.run_id = ""
        copy.metrics["accuracy_drop"] += 0.5 * (1 - number)  # the first is worse
        copy.metrics |= {f"accuracy_drop_ci95_{end}": copy.metrics["accuracy_drop"] for end in ("low", "high")}
        copy.tags.pop("predictions_sha256")
        copy.write(tmp_path / "sweep" / str(number) / "result.json")
    records[0].write(tmp_path / "result.json")
    limits = ("--baseline", str(tmp_path / "result.json"), "--max-regression", "accuracy_drop=0.5")
    failed = printed(place, "check", str(tmp_path / "sweep"), *limits, code=3)
    assert failed.count("REGRESSION") == 1


def test_check_fails_for_a_regression_beyond_the_limit(
    place: Workplace, tmp_path: Path, records: Sequence[RunRecord]
) -> None:
    """The baseline is a file, as in CI, whose run was five times as fast."""
    before = records[0].model_copy(deep=True, update={"uuid": "0" * 32})
    for name in [name for name in before.metrics if name.startswith("latency_")]:
        before.metrics[name] /= 5
    before.write(tmp_path / "result.json")
    baseline = (
        "check", records[0].run_id, "--allow-invalid", "--baseline", str(tmp_path / "result.json"), "--max-regression",
    )  # fmt: skip
    failed = printed(place, *baseline, "latency_ms=5%", "accuracy_drop=0.5", code=3)
    assert failed.count("REGRESSION") == 1
    assert "400.0%" in failed
    assert printed(place, *baseline, "latency_ms=500%", "accuracy_top1=1").count("ok") == 2


@pytest.mark.parametrize(
    ("command", "form"),
    [
        *(("compare", form) for form in ("json", "csv", "markdown", "latex", "html")),
        *((command, "json") for command in ("runs", "show", "models", "devices", "converters", "doctor")),
    ],
)
def test_lists_have_other_formats(place: Workplace, records: Sequence[RunRecord], command: str, form: str) -> None:
    words = {"show": [records[0].run_id], "doctor": ["device=cpu"]}.get(command, [])
    text = printed(place, command, *words, "--format", form)
    starts = {"json": "{", "csv": "", "markdown": ("|", "**"), "latex": ("\\begin{tabular}", "%"), "html": "<table>"}
    assert text.startswith(starts[form])
    if form == "json":
        assert json.loads(text)["rows"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["compare", "nothing"], "run 'nothing' is not found"),
        (["compare", "--filter", "what is this"], "invalid filter 'what is this'"),
        (["compare", "--filter", "metrics.latency_ms < 0"], "no runs match the filter"),
        (["compare", "--sort", "latency"], "did you mean 'latency_ms'"),
        (["compare", "--by", "devise"], "did you mean 'device'"),
        (["choose", "--maximize", "latency_ms"], "use --minimize latency_ms"),
        (["choose", "--minimize", "power_w"], "no run has the metric 'power_w': "),
        (["choose", "--min-accuracy", "70", "--minimize", "latency_ms"], "write 70 % as 0.7"),
        (["choose"], "--maximize"),
        (["choose", "--maximise", "throughput_ips"], "did you mean '--maximize'"),
        (["choose", "--max-latency-ms", "nan", "--maximize", "throughput_ips"], "nan is not a number"),
        (["check", "--allow-invalid", "--baseline", "x", "--max-regression", "latency_ms"], "run 'x' is not found"),
        (["runs", "--format", "excel"], "excel"),
    ],
)
def test_bad_input_is_explained(place: Workplace, words: Sequence[str], message: str) -> None:
    result: subprocess.CompletedProcess[str] = place.edlab(*words)
    assert result.returncode == 2
    shown = " ".join(result.stderr.split())
    assert message in shown
    assert "Traceback" not in shown


def test_an_ambiguous_id_lists_its_candidates(place: Workplace, records: Sequence[RunRecord]) -> None:
    result = place.edlab("compare", "--baseline", records[0].sweep_id)
    assert result.returncode == 2
    assert all(record.run_id[:8] in result.stderr for record in records)


def test_a_shell_completes_the_ids(
    place: Workplace, records: Sequence[RunRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place.folder)
    found = completion.runs("")
    assert {records[0].sweep_id, *(record.run_id[:12] for record in records)} <= {*found}
    assert completion.runs(records[0].run_id[:4]) == [records[0].run_id[:12]]
