"""ONNX files that onnx2torch cannot read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
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


def test_a_constant_that_is_written_to_is_copied_in_each_run(tmp_path: Path) -> None:
    """onnx2torch adds to zeros in place; the zeros do not depend on the input."""
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["t"]), helper.make_node("Sum", ["x", "t"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
    )
    path = tmp_path / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    module, example = load_onnx(str(path))
    (expected,) = onnxruntime.InferenceSession(path).run(None, {"x": example.numpy()})
    for _ in range(2):
        np.testing.assert_allclose(module(example).numpy(), expected, atol=1e-6)


def test_a_module_takes_an_image_with_channels_last_in_memory(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["t"]), helper.make_node("Flatten", ["t"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 48])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "net.onnx")
    module, example = load_onnx(str(tmp_path / "net.onnx"))
    assert module(example.to(memory_format=torch.channels_last)).equal(example.flatten(1))
