"""ONNX files that onnx2torch cannot read."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from edlab.converters.onnx_to_torch import load_onnx
from edlab.errors import ConversionError


def test_an_unsupported_operator_is_named_with_the_opset_to_export_with(tmp_path: Path) -> None:
    """torch writes Shape for a free batch, which onnx2torch supports up to opset 15."""
    graph = helper.make_graph(
        [helper.make_node("Shape", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.INT64, [2])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), tmp_path / "net.onnx")
    with pytest.raises(ConversionError, match="onnx2torch does not support Shape of opset 19") as raised:
        load_onnx(str(tmp_path / "net.onnx"))
    assert "export the model with opset 17 or lower" in raised.value.hint
