"""Which layers take the time: the runtimes' own profilers, mapped to the model's layers."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

import pytest
from rich.console import Console
from workplace import Workplace

from edlab.agent.messages import LayerTime
from edlab.composition import compose_config, describe
from edlab.engine import explain
from edlab.errors import UnsupportedError
from edlab.metrics.profile import SourceLayer, attribute, with_modules
from edlab.record import RunRecord

PRODUCTS = {"0.0": 110592, "1.0": 294912, "2.block.0.0": 196608, "2.block.1.0": 55296, "2.block.2": 196608}

CHAIN = [
    SourceLayer("conv", "Conv", ["x", "w"], ["c"], 100),
    SourceLayer("clip", "Clip", ["c"], ["y"], 0),
    SourceLayer("gemm", "Gemm", ["y", "v"], ["z"], 20),
]


def test_a_fused_layer_that_is_named_by_its_last_output_has_the_work_of_its_product() -> None:
    rows = attribute(
        [LayerTime("y_nchwc", "Conv", 2.0, 2.5, sources=["y"]), LayerTime("gemm", "Gemm", 1.0, 1.0, sources=["gemm"])],
        CHAIN,
    )
    assert [(row.layers, row.macs) for row in rows] == [(["conv", "clip"], 100), (["gemm"], 20)]
    assert rows[0].gmacs_per_s == pytest.approx(100 / 2.0e-3 / 1e9)
    assert [row.share for row in rows] == pytest.approx([2 / 3, 1 / 3])


def test_a_layer_that_the_runtime_added_or_that_is_named_twice_counts_no_work() -> None:
    times = [
        LayerTime("reorder", "Reorder", 1.0, 1.0),
        *(LayerTime(name, "Conv", 1.0, 1.0, sources=["conv"]) for name in "ab"),
    ]
    assert [row.macs for row in attribute(times, CHAIN)] == [None, 100, None]


def test_modules_are_known_only_if_the_products_of_both_files_are_the_same() -> None:
    program = [SourceLayer("conv2d", "aten.conv2d", ["x"], ["conv2d"], 100, "features.0")]
    assert [layer.module for layer in with_modules(CHAIN[:2], program)] == ["features.0", ""]
    assert [layer.module for layer in with_modules(CHAIN, program)] == ["", "", ""]


def recorded(words: Sequence[str], runtime: str) -> RunRecord:
    """A run without a profile, with the settings of these overrides, whose model this runtime opened."""
    return RunRecord(
        name="net-int8-x-y",
        sweep_id="s",
        started_at="2025-01-01T12:00:00+00:00",
        params=describe(compose_config(words)),
        details={"runtime": {"runtime": runtime}},
    )


class MeasuredError(Exception):
    """Instead of the minutes that it takes."""


@pytest.fixture
def console(monkeypatch: pytest.MonkeyPatch) -> Console:
    def measure(*_: object) -> None:
        raise MeasuredError

    monkeypatch.setattr(explain, "run_again", measure)
    return Console(file=io.StringIO())


@pytest.mark.parametrize(
    ("words", "runtime", "reason"),
    [
        (["converter=litert"], "litert", "the Python interpreter of LiteRT has no profiler"),
        (["converter=ncnn"], "ncnn", "ncnn is built without its profiler"),
        (["converter=keras"], "keras", "the runtime keras does not report the time of each layer"),
        (["device=coral"], "edgetpu", "the Python interpreter of LiteRT has no profiler"),
        (["device=coral", "device.execution=emulated"], "litert", "the Python interpreter of LiteRT has no profiler"),
        (["device=cuda", "converter=onnxruntime"], "onnxruntime", "only the time to start a kernel on a GPU"),
    ],
)
def test_a_run_on_a_runtime_without_a_profiler_is_refused_before_it_is_measured_again(
    console: Console, words: Sequence[str], runtime: str, reason: str
) -> None:
    with pytest.raises(UnsupportedError, match=reason) as caught:
        explain.profile(recorded(words, runtime), [], 10, console, print)
    assert "runtimes with a profiler: onnxruntime, openvino, tensorrt, torch" in caught.value.hint


@pytest.mark.parametrize("overrides", [["converter.name=onnxruntime"], ["converter.name=torch"]])
def test_another_converter_may_give_a_run_a_runtime_with_a_profiler(console: Console, overrides: Sequence[str]) -> None:
    with pytest.raises(MeasuredError):
        explain.profile(recorded(["converter=litert"], "litert"), overrides, 10, console, print)


def test_each_runtime_says_where_the_time_goes_or_why_it_cannot(workplace: Workplace) -> None:
    done = workplace.run(
        "-m",
        "protocol.profile=true",
        "converter=onnxruntime,openvino,torch,litert",
        "device.threads=1",
        "dataset.images=64",
        timeout_s=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for number, record in enumerate(workplace.records()[:3]):
        profile = record.details["phases"]["profile"]
        macs = {module: row["macs"] for row in profile["rows"] for module in row["modules"] if row["macs"]}
        assert macs.items() >= PRODUCTS.items()
        assert sum(row["macs"] or 0 for row in profile["rows"]) == record.metrics["macs"] == profile["macs"]
        assert profile["latency_ms"] == record.metrics["latency_ms"]
        folder = sorted((workplace.folder / "mlruns" / "sweeps").iterdir())[-1]
        with open(folder / str(number) / "profile.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert sum(float(row["share_percent"]) for row in rows) == pytest.approx(100, abs=2)
        assert all(float(row["median_ms"]) >= 0 and row["place"] for row in rows)
    ran, *_, without = workplace.records()
    shown = workplace.edlab("profile", ran.run_id[:10])
    assert shown.returncode == 0, shown.stderr
    assert "GMAC/s" in shown.stdout
    assert "sum of the layers" in shown.stdout
    listed = workplace.edlab("profile", ran.run_id[:10], "--top", "3", "--format", "csv")
    assert len(list(csv.DictReader(listed.stdout.splitlines()))) == 3
    refused = workplace.edlab("profile", without.run_id[:10])
    assert refused.returncode == 1
    assert "profile not available: the Python interpreter of LiteRT has no profiler" in refused.stdout
    refused = workplace.edlab("profile", without.run_id[:10], "protocol.queries=21")
    assert refused.returncode == 2
    assert "runtimes with a profiler: onnxruntime, openvino" in refused.stderr
    again = workplace.edlab("profile", ran.run_id[:10], "protocol.queries=21", "--top", "2")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "the 2 slowest of" in again.stdout
    compared = workplace.edlab("compare", "--format", "csv")  # the repeat is not the latest sweep
    assert [row["run"] for row in csv.DictReader(compared.stdout.splitlines())][:1] == [ran.run_id]
    (repeated,) = workplace.records()
    assert repeated.params == ran.params | {"protocol.queries": 21}
    assert repeated.tags["artifact_sha256"] == ran.tags["artifact_sha256"]
    wrong = workplace.edlab("profile", ran.run_id[:10], "protocol=quick")
    assert wrong.returncode == 2
    assert "'protocol=quick' cannot be changed in a recorded run" in wrong.stderr
