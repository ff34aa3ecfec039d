"""Where quantization hurts: the noise of each layer, and the override that leaves the worst in floating point."""

from __future__ import annotations

import json
import re
import shlex

import pytest
from workplace import Workplace

from edlab.composition import compose_config
from edlab.metrics.layer_noise import layer_noise
from edlab.metrics.profile import SourceLayer
from edlab.record import RunRecord

# The last product of digits_cnn, as each converter names it.
LAST = {"onnxruntime": "/7/Gemm", "openvino": "/7/Gemm/WithoutBiases", "litert": "serving_default_output_0_output;"}

GRAPH = [
    SourceLayer("conv", "Conv", ["x"], ["c"], 1),
    SourceLayer("relu", "Relu", ["c"], ["r"], 0),
    SourceLayer("gemm", "Gemm", ["r"], ["g"], 1),
    SourceLayer("add", "Add", ["g", "r"], ["a"], 0),
]


def test_a_layer_is_a_product_with_what_follows_it_up_to_the_next_quantized_value() -> None:
    found = layer_noise(GRAPH, {"x": 0.001, "c": 0.5, "r": 0.01, "g": 0.1, "a": 0.02}, ["x", "r", "g", "a"])
    assert [(layer.name, layer.product) for layer in found] == [("gemm", True), ("conv", True), ("add", False)]
    assert [layer.added for layer in found] == pytest.approx([0.09, 0.009, 0.0])
    assert [layer.sqnr_db for layer in found] == pytest.approx([10.0, 20.0, 16.9897], abs=1e-3)
    assert [layer.input_sqnr_db for layer in found] == pytest.approx([20.0, 30.0, 10.0])


@pytest.fixture
def runs(workplace: Workplace) -> dict[str, RunRecord]:
    """A quantized run of each converter."""
    done = workplace.run("-m", f"converter={','.join(LAST)}", "quantization=int8", "dataset.images=64")
    assert done.returncode == 0, done.stdout + done.stderr
    return {str(record.params["converter.name"]): record for record in workplace.records()}


def test_each_converter_shows_the_worst_layers_and_leaves_them_in_float(
    workplace: Workplace, runs: dict[str, RunRecord]
) -> None:
    for converter, record in runs.items():
        done = workplace.edlab("explain-accuracy", record.run_id[:10], "--worst", "30")
        assert done.returncode == 0, done.stdout + done.stderr
        rows = re.findall(
            r"^ *([\d.]+) +(?:[\d.]+|no noise) +[\d.e-]+ % +\d+% +\w+ +(\S+) *$", done.stdout, re.MULTILINE
        )
        noise = {name: float(sqnr) for sqnr, name in rows}
        # The last layer's noise is that of the outputs, which the conversion's check measured in another way.
        assert noise[LAST[converter]] == pytest.approx(record.details["conversion_check"]["sqnr_db"], abs=1.0)
        printed = next(line for line in done.stdout.splitlines() if "quantization.exclude=" in line)
        (override,) = shlex.split(printed)
        assert 3 <= len(compose_config([override]).quantization.exclude) <= 5
    tried = workplace.edlab("explain-accuracy", runs["openvino"].run_id[:10], "--worst", "3", "--try")
    assert tried.returncode == 0, tried.stdout + tried.stderr
    assert re.search(r"accuracy regained: (no diff\.|[+-][\d.]+) ±[\d.]+ points", tried.stdout)
    assert re.search(r"latency paid: (no diff\. ±|[\d.]+x ±|unknown, because a run is INVALID)", tried.stdout)
    assert re.search(r"\b3 values\b", tried.stdout)  # the column of quantization.exclude
    (row,) = workplace.records()
    assert len(row.params["quantization.exclude"]) == 3
    assert row.metrics["sqnr_db"] > runs["openvino"].metrics["sqnr_db"] + 1
    assert row.metrics["int8_weights_fraction"] < runs["openvino"].metrics["int8_weights_fraction"]
    listed = workplace.edlab("explain-accuracy", runs["openvino"].run_id[:10], "--worst", "2", "--format", "json")
    assert listed.returncode == 0, listed.stderr
    assert [layer["sqnr_db"] > 0 for layer in json.loads(listed.stdout)["rows"]] == [True, True]
    assert "quantization.exclude=" in listed.stderr
    refused = workplace.edlab("explain-accuracy", runs["litert"].run_id[:10], "quantization.precision=fp16")
    assert refused.returncode == 2
    assert "not available: the file on this machine is fp16" in refused.stderr
