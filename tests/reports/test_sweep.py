"""The summary of a sweep: which row is best, and whether that is shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edlab.comparison import best
from edlab.record import RunRecord, Verdict, VerdictState
from edlab.reports import sweep


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
