"""ONNX files as torch modules: what onnx2torch cannot read is rewritten or named, and outputs stay the same."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from edlab.artifact import StepReport
from edlab.converters import litert
from edlab.converters.onnx_to_torch import Opened, load_onnx
from edlab.errors import ConversionError

pytestmark = pytest.mark.skipif(find_spec("onnx2torch") is None, reason="onnx2torch is not installed")

SHAPE = [1, 4, 6, 6]
WEIGHTS = {
    "axes": np.array([2, 3]), "doubled": np.array([1, 1, 2, 2], np.float32), "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
    "flat": np.array([1, -1]), "scale": np.array([1, 2, 3, 4], np.float32),
    "bias": np.zeros(4, np.float32), "kernel": np.ones((4, 4, 1, 1), np.float32), "channels": np.array([0, 1]),
}  # fmt: skip
NEWER = {  # what torch's exporters write above opset 17, and a definition that depends on types
    "axes": [("ReduceMean", ["x", "axes"], ["y"], {"keepdims": 0, "noop_with_empty_axes": 0})],
    "axes_of_a_node": [("Constant", [], ["a"], {"value_ints": [1]}), ("ReduceMax", ["x", "a"], ["y"], {})],
    "resize": [("Resize", ["x", "", "doubled"], ["y"], {"mode": "linear", "antialias": 0})],
    "split": [("Split", ["x"], ["a", "b"], {"axis": 1, "num_outputs": 2}), ("Sub", ["a", "b"], ["y"], {})],
    "pad": [("Pad", ["x", "pads"], ["y"], {"mode": "reflect"})],
    "shape": [("Shape", ["x"], ["s"], {}), ("Reshape", ["x", "s"], ["y"], {})],
    "allowzero": [("Reshape", ["x", "flat"], ["y"], {"allowzero": 1})],
    "gelu": [("Constant", [], ["c"], {"value_float": 2.0}), ("Mul", ["x", "c"], ["t"], {}), ("Gelu", ["t"], ["y"], {})],
    "mish": [("Mish", ["x"], ["y"], {})],
    "group_norm": [("GroupNormalization", ["x", "scale", "bias"], ["y"], {"num_groups": 2})],
}
Node = tuple[str, Sequence[str], Sequence[str], dict[str, Any]]


def make(path: Path, nodes: Sequence[Node], opset: int = 21, shape: Sequence[Any] = SHAPE) -> Path:
    """A file with these nodes from x to y; it does not state the shape of y."""
    used = {name for _, inputs, _, _ in nodes for name in inputs}
    graph = helper.make_graph(
        [helper.make_node(kind, inputs, outputs, **attributes) for kind, inputs, outputs, attributes in nodes],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in WEIGHTS.items() if name in used],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
    return path


def check(path: Path) -> Opened:
    """Open a file and compare its outputs with onnxruntime's, for both orders of the channels in memory."""
    opened = load_onnx(str(path))
    (expected,) = onnxruntime.InferenceSession(path).run(None, {"x": opened.example.numpy()})
    for order in (torch.contiguous_format, torch.channels_last):
        found = opened.module(opened.example.to(memory_format=order))
        np.testing.assert_allclose(found.detach().numpy(), expected, atol=1e-5)
    return opened


@pytest.mark.parametrize("nodes", NEWER.values(), ids=NEWER)
def test_a_newer_opset_is_lowered(tmp_path: Path, nodes: list[Node]) -> None:
    changes = check(make(tmp_path / "net.onnx", nodes)).changes
    assert (changes["opset"], changes["lowered_to_opset"]) == (21, 17)


def test_operators_are_replaced_by_their_definition_and_that_is_reported(tmp_path: Path) -> None:
    assert check(make(tmp_path / "net.onnx", NEWER["gelu"])).changes["expanded_operators"] == ["Gelu"]
    old = make(tmp_path / "net.onnx", [("MeanVarianceNormalization", ["x"], ["y"], {})], opset=13)
    assert check(old).changes == {"expanded_operators": ["MeanVarianceNormalization"]}


def test_names_that_readers_would_invent_are_given(tmp_path: Path) -> None:
    """onnx2torch calls the second Constant without a name Constant_1, whether or not there is another one."""
    path = make(tmp_path / "net.onnx", NEWER["gelu"])
    model = onnx.load(path)
    model.graph.node[0].name = "/Constant_1"
    onnx.save(model, path)
    check(path)


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([("Resize", ["x", "", "doubled"], ["y"], {"mode": "linear", "antialias": 1})], "attribute: antialias"),
        ([("Split", ["x"], ["a", "b", "y"], {"axis": 1, "num_outputs": 3})], "Split.*not evenly splittable"),
        ([("Shape", ["x"], ["s"], {}), ("ReduceMean", ["x", "s"], ["y"], {})], "ReduceMean.* has input size 2"),
        ([("Col2Im", ["x", "channels", "channels"], ["y"], {})], "No Op registered for Col2Im"),
        ([("AffineGrid", ["x", "channels"], ["y"], {})], "No Op registered for AffineGrid"),
    ],
)
def test_what_an_older_opset_cannot_express_is_named(tmp_path: Path, nodes: list[Node], message: str) -> None:
    with pytest.raises(ConversionError, match=f"needs opset 17 or lower; the model has opset 21.*{message}") as raised:
        load_onnx(str(make(tmp_path / "net.onnx", nodes)))
    assert "opset_version=17 or lower" in raised.value.hint


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([("Det", ["x"], ["y"], {})], "onnx2torch does not support Det of opset 11"),
        ([("Pad", ["x", "pads"], ["y"], {"mode": "wrap"})], "onnx2torch cannot read the model: wrap mode"),
    ],
)
def test_what_onnx2torch_cannot_read_is_named(tmp_path: Path, nodes: list[Node], message: str) -> None:
    with pytest.raises(ConversionError, match=message) as raised:
        load_onnx(str(make(tmp_path / "net.onnx", nodes)))
    assert "converter=onnxruntime" in raised.value.hint


def test_a_constant_that_is_written_to_is_copied_in_each_run(tmp_path: Path) -> None:
    """onnx2torch adds to zeros in place; the zeros do not depend on the input."""
    check(make(tmp_path / "net.onnx", [("Relu", ["x"], ["t"], {}), ("Sum", ["x", "t"], ["y"], {})], opset=13))


def test_an_image_with_channels_last_in_memory_is_flattened(tmp_path: Path) -> None:
    check(make(tmp_path / "net.onnx", [("Relu", ["x"], ["t"], {}), ("Flatten", ["t"], ["y"], {})], opset=17))


def test_an_identity_of_weights_is_the_weights(tmp_path: Path) -> None:
    """torch's exporter writes equal weights once."""
    nodes: list[Node] = [("Identity", ["bias"], ["b"], {}), ("Conv", ["x", "kernel", "b"], ["y"], {})]
    check(make(tmp_path / "net.onnx", nodes, opset=17))


def test_the_step_reports_what_was_changed_and_leaves_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(litert, "_export", lambda *_: None)
    path = make(tmp_path / "net.onnx", NEWER["axes"])
    before = path.read_bytes()
    litert.onnx_to_tflite([str(path)], str(tmp_path / "net.tflite"), {}, None)
    assert StepReport.read(tmp_path).details == {"opset": 21, "lowered_to_opset": 17}
    assert path.read_bytes() == before
