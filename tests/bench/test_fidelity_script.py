"""The parts of scripts/bench/fidelity that can break without a benchmark: statistics, files, the tools' figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edlab
from edlab.agent.runtimes.base import Request


def test_ratios_are_of_each_round_not_of_the_means(script: Any) -> None:
    ratios = script("paired.py").ratios([(1.0, 1.0), (3.0, 2.0), (90.0, 100.0)])
    assert (ratios.median, ratios.lowest, ratios.highest, ratios.rounds) == (1.0, 0.9, 1.5, 3)
    assert str(ratios) == "1.000 (0.900 to 1.500; 3)"


@pytest.mark.parametrize("pairs", [[], [(1.0, 0.0)], [(1.0, -1.0)]])
def test_no_ratio_is_taken_of_nothing(script: Any, pairs: list[tuple[float, float]]) -> None:
    with pytest.raises(ValueError, match="no ratios"):
        script("paired.py").ratios(pairs)


@pytest.mark.parametrize(
    ("ratio", "verdict"),
    [(1.0, "holds"), (1.01, "holds"), (0.99, "holds"), (1.011, "within 3%"), (0.97, "within 3%"), (0.969, "FAILS")],
)
def test_a_verdict_is_by_the_distance_of_the_median(script: Any, ratio: float, verdict: str) -> None:
    assert script("paired.py").ratios([(ratio, 1.0)]).verdict() == verdict


def test_each_second_round_is_backwards(script: Any) -> None:
    in_turn = script("paired.py").in_turn
    assert [in_turn("ab", number) for number in range(3)] == [["a", "b"], ["b", "a"], ["a", "b"]]


SUMMARY = """\
================================================
MLPerf Results Summary
================================================
SUT name : PySUT
Scenario : SingleStream
Mode     : PerformanceOnly
90.0th percentile latency (ns) : 71250
Result is : VALID
QPS w/ loadgen overhead         : 14013.05
Mean latency (ns)               : 70842
50.00 percentile latency (ns)   : 68461
"""


def test_loadgens_summary_is_read_by_name(script: Any) -> None:
    summary = script("own.py").summary(SUMMARY)
    assert summary["Mean latency (ns)"] == 70842
    assert summary["50.00 percentile latency (ns)"] == 68461
    assert "Result is" not in summary


def test_loadgen_drives_a_request_and_its_figures_are_found(script: Any) -> None:
    pytest.importorskip("mlperf_loadgen", reason="mlcommons-loadgen is not installed: pip install 'edlab[loadgen]'")

    class Echo(Request):
        def set_input(self, prepared: Any) -> None:
            self.tensor = prepared

        def execute(self) -> None:
            pass

        def get_outputs(self) -> Any:
            return [self.tensor]

    pool = [np.full((1, 2), value, np.float32) for value in range(4)]
    figures = script("own.py").loadgen([Echo()], pool, 0.2)
    assert figures["mean_ms"] >= figures["callback_mean_ms"] > 0
    assert figures["median_ms"] > 0
    assert figures["ips"] > 0


class Clocked(Request):
    """Replaces OpenVINO's: its clock shows 9 ms for each of the queries that the phase runs untimed, then 1 ms."""

    COLD = 3  # edlab.agent.phases.loop

    def __init__(self) -> None:
        self._request, self._queries = self, 0

    def set_input(self, prepared: Any) -> None:
        pass

    def execute(self) -> None:
        self._queries += 1

    def get_outputs(self) -> list[np.ndarray]:
        return [np.empty(0)]

    @property
    def latency(self) -> float:
        return 9.0 if self._queries <= self.COLD else 1.0


def test_openvinos_clock_counts_the_queries_that_the_phase_times(script: Any) -> None:
    figures = script("own.py").openvino_clock([Clocked()], [np.zeros(1, np.float32)], 0.01)
    assert figures == {"mean_ms": 1.0, "median_ms": 1.0}


def figures_of(script: Any, *arguments: str) -> dict[str, float]:
    with script("slices.py").Program("vendor.py", arguments) as program:
        program.measure(0.1)
        figures: dict[str, float] = program.measure(0.1)
    return figures


def test_benchmark_apps_figures_are_in_full(script: Any, tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino")
    from openvino import opset13

    given = opset13.parameter([1, 3, 8, 8], np.float32)
    openvino.save_model(openvino.Model([opset13.relu(given)], [given], "relu"), tmp_path / "relu.xml")
    for in_flight in ("1", "2"):
        figures = figures_of(script, "benchmark_app", str(tmp_path / "relu.xml"), "1", in_flight)
        assert 0 < figures["median_ms"] < 1000
        assert figures["ips"] > 0
        assert round(figures["mean_ms"], 2) != figures["mean_ms"]


def test_litert_benchmarks_figures_are_in_full(script: Any) -> None:
    pytest.importorskip("ai_edge_litert")
    probe = Path(edlab.__file__).parent / "agent" / "probes" / "int8.tflite"
    figures = figures_of(script, "litert_benchmark", str(probe), "1", "1")
    assert figures["median_ms"] > 0
    assert round(figures["mean_ms"], 2) != figures["mean_ms"]


def test_a_program_that_ends_says_why(script: Any) -> None:
    with (
        script("slices.py").Program("vendor.py", ["no_such_program", "x", "1", "1"]) as program,
        pytest.raises(RuntimeError, match="no_such_program"),
    ):
        program.measure(0.1)


def pair(fidelity: Any, tool: Any, number: int, ratio: float) -> Any:
    figures = {name: 1.0 for metric in tool.metrics for name in (metric.ours, metric.theirs)}
    ours = dict.fromkeys(figures, ratio)
    return fidelity.Pair(
        fidelity.Case("digits_cnn", "fp32", "openvino"), tool.name, number, [ours] * 2, [figures] * 2, 0.0
    )


def test_only_a_figure_of_the_same_definition_can_fail(script: Any) -> None:
    fidelity = script("fidelity")
    bare = next(tool for tool in fidelity.TOOLS if tool.name == "bare loop")
    app = next(tool for tool in fidelity.TOOLS if tool.name == "benchmark_app, synchronous")
    assert fidelity.report([pair(fidelity, bare, 0, 1.0), pair(fidelity, app, 0, 1.3)])[1]
    text, good = fidelity.report([pair(fidelity, bare, 0, 1.04)])
    assert not good
    assert "FAILS" in text
    text, good = fidelity.report([pair(fidelity, bare, 0, 1.03)])  # 1.03 - 1 is a little more than 0.03
    assert good
    assert "within 3%" in text
    assert not fidelity.report([])[1]


def test_what_was_measured_before_a_run_was_cut_off_is_kept(script: Any, tmp_path: Path) -> None:
    fidelity = script("fidelity")
    first, cut, last = [pair(fidelity, fidelity.TOOLS[0], number, 1.0) for number in range(3)]
    file = tmp_path / "results.jsonl"
    fidelity.keep(file, first)
    fidelity.keep(file, cut)
    file.write_text(file.read_text()[:-20])
    fidelity.keep(file, last)
    assert list(fidelity.pairs([], 3, 1.0, file)) == [first, last]
