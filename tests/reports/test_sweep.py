"""The summary of a sweep: which row is best, and whether that is shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from edlab.comparison import best
from edlab.record import RunRecord, Stage, Status, Verdict, VerdictState
from edlab.reports import sweep
from edlab.reports.plots import MOST_ROWS, label
from edlab.reports.rates_plot import Rate, rates_plot


def row(latency_ms: float, half: float, state: str = "VALID", **metrics: float) -> RunRecord:
    """A row with an interval of its latency of ± half."""
    bounds = {"latency_ci95_low_ms": latency_ms - half, "latency_ci95_high_ms": latency_ms + half}
    return RunRecord(
        name="net",
        sweep_id="s",
        started_at="2025-01-01T12:00:00+00:00",
        params={"model.name": "net", "device.threads": 1},
        metrics={"latency_ms": latency_ms, **bounds, **metrics},
        verdict=Verdict(state=VerdictState(state)),
    )


def test_the_best_row_is_reliable_and_rows_that_are_not_shown_to_be_worse_are_named() -> None:
    records = [row(1, 0.1, "INVALID"), row(3, 0.2), row(3.2, 0.2), row(5, 0.2, "DEGRADED")]
    assert best(records, "latency_ms") == (records[1], [records[2]])
    assert best([row(1, 0.1, estimated_power_w=5.0)], "power_w") is None
    assert best([row(1, 0.1, "INVALID")], "latency_ms") is None


def test_equal_values_are_not_a_difference() -> None:
    one, other = row(1, 0, throughput_ips=10.0), row(1, 0, throughput_ips=10.0)
    assert best([one, other], "throughput_ips") == (one, [other])


def test_a_description_fits_mlflow_whatever_the_number_of_rows() -> None:
    text = sweep.describe([row(number, 0.1) for number in range(1, 300)], {"device.threads": ["1", "2"]}, ["run", "-m"])
    assert len(text) < 5000
    assert "lowest ms" in text
    assert "edlab run -m" in text


@pytest.mark.parametrize(
    ("choices", "title"),
    [
        ({"converter": ["a", "b"], "quantization": ["fp32"]}, "net: a, b"),
        ({"model": ["x", "y"], "device": ["cpu"]}, "x, y"),
        ({"device.threads": ["1", "2"]}, "net: device.threads 1, 2"),
        ({"converter": ["a", "b", "c", "d"]}, "net: converter 4 values"),
        ({"model.path": ["/a/x.onnx", "y.onnx"]}, "net: model.path x.onnx, y.onnx"),
    ],
)
def test_a_title_states_what_was_compared(choices: dict[str, list[str]], title: str) -> None:
    assert sweep.title(choices, "net") == title


def test_the_files_of_a_sweep(tmp_path: Path) -> None:
    records = [row(1, 0.1, accuracy_top1=0.7, throughput_ips=900.0), row(2, 0.1, "INVALID", accuracy_top1=0.8)]
    files = [*sweep.write_tables(records, ["device.threads"], tmp_path), *sweep.draw(records, "net", tmp_path)]
    assert {file.name for file in files} == {sweep.LIST, sweep.TABLE, sweep.TRADE_OFF, sweep.BARS}
    assert all(file.stat().st_size for file in files)
    table = json.loads((tmp_path / sweep.TABLE).read_text())
    assert len(table["data"]) == 2
    assert {"device.threads", "verdict", "latency_ms", "accuracy_top1"} <= set(table["columns"])


def test_an_emulated_detector_has_its_own_accuracy(tmp_path: Path) -> None:
    records = [row(1, 0.1, emulated_accuracy_map=0.4), row(2, 0.1, emulated_accuracy_map=0.5)]
    sweep.write_tables(records, [], tmp_path)
    table = json.loads((tmp_path / sweep.TABLE).read_text())
    assert "emulated_accuracy_map" in table["columns"]
    assert tmp_path / sweep.TRADE_OFF in sweep.draw(records, "net", tmp_path)


def test_a_row_that_failed_after_its_verdict_is_counted_as_failed(tmp_path: Path) -> None:
    failed = row(1, 0.1).model_copy(update={"status": Status.failed, "stage": Stage.record})
    assert "2 rows: 1 FAILED, 1 VALID." in sweep.describe([row(1, 0.1), failed], {}, ["run"])
    sweep.write_tables([failed], [], tmp_path)
    assert "FAILED" in json.loads((tmp_path / sweep.TABLE).read_text())["data"][0]


def test_names_do_not_break_a_description() -> None:
    named = row(1, 0.1).model_copy(update={"name": "a|b\nc <i>"})
    text = sweep.describe([named, row(2, 0.1)], {"model.path": ["a|b<i>", "c"]}, ["run"])
    (line,) = (line for line in text.splitlines() if line.startswith("| lowest ms"))
    assert r"| #1 a\|b c &lt;i> |" in line
    assert r"`model.path` (a\|b&lt;i>, c)" in text


def test_names_with_dollars_are_no_formulas(tmp_path: Path) -> None:
    name = r"$a_{b$ \$c"
    rates_plot([Rate(name, (1.0, ""), (2.0, "estimated"), True)], tmp_path / "rates.png", title=name)
    assert (tmp_path / "rates.png").stat().st_size


def test_a_long_name_is_cut() -> None:
    assert label("x" * 60) == "x" * 60
    assert label("x" * 61) == "x" * 59 + "…"


def test_a_picture_of_many_rows_has_the_fastest_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = [Rate(f"#{number} {'net' * 50}", (float(number), ""), None, number != 2999) for number in range(3000)]
    drawn: list[str] = []
    monkeypatch.setattr("matplotlib.axes.Axes.set_yticks", lambda axes, ticks, labels, **_: drawn.extend(labels))
    monkeypatch.setattr("matplotlib.figure.Figure.suptitle", lambda figure, title, **_: drawn.append(title))
    rates_plot(rates, tmp_path / "rates.png", title="net")
    title, *labels = drawn
    assert title == f"net, the fastest {MOST_ROWS} of 3,000 rows"
    assert [name.split()[0] for name in labels] == [f"#{number}" for number in range(2999 - MOST_ROWS, 2999)]
    with Image.open(tmp_path / "rates.png") as picture:
        assert max(picture.size) < 4000
