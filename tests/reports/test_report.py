"""`edlab report`: the summary, the charts and the page, on records that state their metrics."""

from __future__ import annotations

import csv
import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from workplace import Workplace

from edlab.errors import ConfigError
from edlab.record import Reason, RunRecord, Verdict, VerdictState
from edlab.reports.report import Chart, Content, Power, Published, charts, page, read_published
from edlab.reports.report.summary import best, caveats, compared

INVALID = Verdict(state=VerdictState.invalid)
HOSTILE = "</script><script>alert(1)</script>,'\"\n=cmd"


def run(model: str = "net", quantization: str = "fp32", device: str = "cpu", **changes: Any) -> RunRecord:
    metrics = {
        "accuracy_top1": 0.7, "accuracy_ci95_low": 0.68, "accuracy_ci95_high": 0.72, "accuracy_drop": 0.01,
        "accuracy_drop_ci95_low": -0.01, "accuracy_drop_ci95_high": 0.03,
        "latency_ms": 10.0, "latency_ci95_low_ms": 9.9, "latency_ci95_high_ms": 10.1, "latency_p50_ms": 9.8,
        "latency_p90_ms": 11.0, "latency_p99_ms": 15.0, "latency_min_ms": 9.0,
        "throughput_ips": 100.0, "throughput_ci95_low_ips": 99.0, "throughput_ci95_high_ips": 101.0,
        "power_w": 5.0, "efficiency_ips_per_w": 20.0, "artifact_size_mb": 4.0,
    }  # fmt: skip
    params = {"model.name": model, "quantization.name": quantization, "converter.name": "c", "device.name": device}
    name = "-".join(params.values())
    values: dict[str, Any] = {
        "name": name, "uuid": name, "run_id": name.encode().hex().ljust(32, "0"), "sweep_id": "s",
        "started_at": "2026-01-01T00:00:00+00:00", "params": params, "verdict": Verdict(),
        "metrics": {**metrics, **changes.pop("metrics", {})},
    }  # fmt: skip
    return RunRecord.model_validate(values | changes)


def failed(**changes: Any) -> RunRecord:
    ended = {"status": "failed", "stage": "convert", "reason": "the tool <b>crashed</b>", "hint": "use another"}
    return run("broken", verdict=None, **ended, **changes).model_copy(update={"metrics": {}})


def emulated(record: RunRecord) -> RunRecord:
    return record.model_copy(update={"metrics": {f"emulated_{name}": value for name, value in record.metrics.items()}})


def by_key(*records: RunRecord, **options: Any) -> dict[str, Chart]:
    return {chart.key: chart for chart in charts(records, **options)}


def html(*records: RunRecord, **options: Any) -> str:
    return page(Content(records, "Sweep s", "today", **options))


def data(text: str) -> Any:
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    return json.loads(found)


def test_the_summary_names_the_best_and_those_not_shown_to_be_worse() -> None:
    fast = {"latency_ms": 5.0, "latency_ci95_low_ms": 4.9, "latency_ci95_high_ms": 5.1}
    near = {"latency_ms": 5.1, "latency_ci95_low_ms": 4.9, "latency_ci95_high_ms": 5.3}
    runs = [run(), run(quantization="int8", metrics=fast), run(quantization="fp16", metrics=near)]
    found = {each.title: each for each in best(runs)}
    assert found["Latency"].run == "int8"
    assert found["Latency"].text == "5.00 ms ± 2.0%. Not shown to be worse: fp16"
    assert compared(runs) == (
        "3 runs: model net, 3 quantizations (fp16, fp32, int8), converter c, device cpu. Result: 3 VALID."
    )


def test_a_run_that_is_invalid_or_emulated_or_estimated_wins_nothing_that_was_measured() -> None:
    reasons = [Reason(code="latency_drift", message="", advice="", invalid=True)]
    invalid = run(quantization="int8", metrics={"latency_ms": 1.0}, verdict=Verdict(state="INVALID", reasons=reasons))
    stand_in = emulated(run(quantization="fp16", metrics={"latency_ms": 2.0}))
    found = {each.title: each.run for each in best([run(), invalid, stand_in])}
    assert found["Latency"] == "fp32"
    assert any("latency_drift" in text for text in caveats([run(), invalid]))
    assert any("stand-in" in text for text in caveats([run(), stand_in]))
    only = run(metrics={"estimated_power_w": 65.0}, missing={"power_w": "there is no sensor"})
    del only.metrics["power_w"]
    (power,) = [each for each in best([only]) if each.title == "Power"]
    assert power.text == "no winner: only estimated (~), not measured: there is no sensor"


def test_emulated_values_are_marked_in_every_chart() -> None:
    found = by_key(run(), emulated(run(device="coral")))
    for key in ("throughput", "trade_off"):
        assert [trace["name"] for trace in found[key].traces][:2] == ["cpu", "coral ≈ emulated"]
        assert "≈" in found[key].text
    assert found["throughput"].traces[1]["marker"]["pattern"]["shape"] == "/"
    assert found["trade_off"].traces[1]["marker"]["symbol"] == "x"
    assert any(row.startswith("≈") for row in found["distribution"].traces[0]["y"])


def test_the_latency_distribution_is_a_bar_to_the_last_known_percentile_and_marks_with_intervals() -> None:
    few = run(quantization="int8", metrics={"latency_p50_ms": 9.9})
    del few.metrics["latency_p99_ms"]
    known = {"latency_p99_ci95_low_ms": 14.0, "latency_p99_ci95_high_ms": 18.0, "latency_max_ms": 40.0}
    bars, median, _, p99 = by_key(run(metrics=known), few)["distribution"].traces
    assert (bars["base"], bars["x"]) == ([9.0, 9.0], [6.0, 2.0])  # to p99, and to p90
    assert "Slowest query: 40.0 ms" in bars["hovertext"][0]
    assert (p99["x"], p99["error_x"]["array"], p99["error_x"]["arrayminus"]) == ([15.0], [3.0], [1.0])
    assert median["error_x"]["array"] == [None, None]


def test_published_figures_are_hollow_and_have_their_source(tmp_path: Path) -> None:
    path = tmp_path / "published.csv"
    path.write_text("model,device,metric,value,source\nnet,coral,throughput_ips,400,the datasheet\n")
    published = read_published(path)
    assert published == [Published("net", "coral", "throughput_ips", 400.0, "the datasheet")]
    chart = by_key(run(), published=published)["throughput"]
    hollow = chart.traces[-1]
    assert (hollow["name"], hollow["x"]) == ("coral, published", [400.0])
    assert hollow["marker"]["color"] == "rgba(0,0,0,0)"
    assert chart.note == "Hollow: published figures, not measured by edlab (the datasheet)."


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model,device,value,source\n", "has no column 'metric'"),
        ("", "has no column 'model'"),
        ("model,device,metric,value,source\nn,d,latency,2,s\n", "line 2: unknown metric 'latency'"),
        ("model,device,metric,value,source\nn,d,latency_ms,2 ms,s\n", "line 2: '2 ms' is not a number"),
        ("model,device,metric,value,source\nn,d,latency_ms,2\n", "line 2: the source is missing"),
        (b"\xff\xfe\x00", "not a text file"),
        (None, "No such file"),
    ],
)
def test_published_figures_of_another_form_are_refused(tmp_path: Path, text: str | bytes | None, message: str) -> None:
    path = tmp_path / "published.csv"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=re.escape(message)):
        read_published(path)


def test_the_example_of_published_figures_is_valid() -> None:
    assert read_published(Path(__file__).parents[2] / "docs" / "examples" / "coral_published.csv")


def test_hostile_texts_stay_texts() -> None:
    hostile = run(HOSTILE, HOSTILE, HOSTILE, name=HOSTILE, missing={"power_w": HOSTILE})
    broken = failed().model_copy(update={"reason": HOSTILE, "hint": HOSTILE, "uuid": "b"})
    published = [Published(HOSTILE, HOSTILE, "throughput_ips", 1.0, HOSTILE)]
    text = html(hostile, broken, published=published, address=lambda record: "https://host/#/runs/1")
    assert text.count("<script") == html(run()).count("<script")
    for chart in data(text)["charts"]:
        assert "<script" not in json.dumps(chart["traces"])  # Plotly reads tags
    heading, row = csv.reader("".join(data(text)["csv"][:2]).splitlines(keepends=True))
    assert dict(zip(heading, row, strict=True))["device.name"] == HOSTILE


def test_the_page_loads_nothing_and_allows_only_its_own_scripts() -> None:
    text = html(run(), run(quantization="int8"))
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)
    assert policy
    assert "default-src 'none'" in policy[1]
    assert "script-src 'sha256-" in unescape(policy[1])
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=\"?http", text)


def test_all_failed_makes_a_report_that_says_so() -> None:
    text = html(failed())
    assert "No run was measured" in text
    assert "the tool &lt;b&gt;crashed&lt;/b&gt;" in text
    assert "Fix: use another" in text
    assert data(text)["charts"][0]["traces"] == []


def test_of_many_runs_the_bars_are_the_best_of_each_model_and_device() -> None:
    runs = [run(f"m{n % 4}", f"q{n}", metrics={"throughput_ips": 100.0 + n}) for n in range(40)]
    invalid = run("m0", "fast", metrics={"throughput_ips": 900.0}, verdict=Verdict(state=VerdictState.invalid))
    chart = by_key(*runs, invalid)["throughput"]
    assert [trace["x"] for trace in chart.traces] == [[139.0, 138.0, 137.0, 136.0]]
    assert "Only the best run of each model and device" in chart.text


def test_captions_name_only_runs_that_may_win() -> None:
    invalid = run("m0", "fast", metrics={"throughput_ips": 900.0, "latency_p50_ms": 1.0}, verdict=INVALID)
    stand_in = emulated(run("m0", "int8", metrics={"throughput_ips": 800.0, "latency_p50_ms": 2.0}))
    found = by_key(run("m0"), run("m1", metrics={"throughput_ips": 120.0, "latency_p50_ms": 9.0}), invalid, stand_in)
    assert found["throughput"].text.startswith("Highest of 2: ")
    assert "900" not in found["throughput"].text
    assert "Lowest median: m1" in found["distribution"].text
    assert by_key(invalid)["throughput"].text.startswith("All runs are INVALID.")
    many = [run("m0", f"q{number}") for number in range(30)] + [stand_in]
    assert [trace["x"] for trace in by_key(*many)["throughput"].traces] == [[100.0]]


def test_power_readings_are_lines() -> None:
    chart = by_key(run(), power={run().uuid: Power([0.0, 1.0], [4.0, 5.0])})["power"]
    assert chart.traces[0]["y"] == [4.0, 5.0]
    assert by_key(run())["power"].text == "There is no chart: no readings were found with these runs."


def test_a_profile_has_all_its_layers() -> None:
    row = {
        "operator": "Conv", "kernel": "k", "precision": "fp32", "place": "CPU", "mean_ms": 0.1, "share": 0.05,
        "macs": 1e6, "gmacs_per_s": 10.0, "modules": [], "ms": 0.1,
    }  # fmt: skip
    rows = [row | {"name": f"n{number}", "layers": [f"layer {number} <b>"]} for number in range(20)]
    profile = {"rows": rows, "query_ms": 2.1, "latency_ms": 2.1, "runs": 10, "macs": 2e7}
    record = run(details={"phases": {"profile": profile}})
    text = html(record, profiled=[record])
    assert text.count(" &lt;b&gt;</td>") == 20
    assert "sum of the layers 2 ms" in text
    assert 'href="#layers"' in text
    assert 'href="#layers"' not in html(record)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, shared_cache: Path) -> Workplace:
    """A folder with a sweep's files: two runs, one of which failed."""
    place = Workplace(tmp_path_factory.mktemp("report"), shared_cache)
    for number, record in enumerate((run(), failed())):
        (place.folder / "sweep" / str(number)).mkdir(parents=True)
        record.write(place.folder / "sweep" / str(number) / "result.json")
    (place.folder / "sweep" / "0" / "power_samples.csv").write_text("time_ns,power_w\n0,4\n1000000000,5\n")
    return place


def test_the_command_writes_a_page_or_pictures(place: Workplace) -> None:
    result = place.edlab("report", "sweep", "--out", "page.html")
    assert result.returncode == 0, result.stderr
    assert "2 runs written to page.html" in result.stdout
    assert "broken-fp32-c-cpu" in (place.folder / "page.html").read_text()
    result = place.edlab("report", "sweep", "--format", "svg", "--out", "figures")
    assert result.returncode == 0, result.stderr
    names = {path.name for path in (place.folder / "figures").iterdir()}
    assert names == {"throughput_efficiency.svg", "accuracy_latency.svg"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no runs found"),
        (["sweep", "--format", "pdf"], "invalid choice: 'pdf'"),
        (["sweep", "--out", "nowhere/page.html"], "folder not found: nowhere"),
        (["sweep", "--out", "sweep"], "sweep is a folder"),
        (["sweep", "--published", "sweep/0/power_samples.csv"], "has no column 'model'"),
        (["sweep/1/result.json", "--format", "png"], "no run has a value to draw"),
        (["sweep", "--out", "/proc/page.html"], "cannot write /proc/"),
    ],
)
def test_bad_input_is_explained_and_writes_nothing(place: Workplace, words: list[str], message: str) -> None:
    before = {path for path in place.folder.rglob("*") if path.suffix == ".html"}
    result = place.edlab("report", *words)
    assert result.returncode == 2
    assert message in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr
    assert {path for path in place.folder.rglob("*") if path.suffix == ".html"} == before
