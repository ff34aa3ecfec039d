"""Multiply-accumulates and parameters of an ONNX graph, from the shapes that ONNX infers."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from edlab.source import Complexity

# Operator -> position of the weights among its inputs.
_PRODUCTS = {
    "Conv": 1,
    "ConvInteger": 1,
    "ConvTranspose": 1,
    "Gemm": 1,
    "MatMul": 1,
    "MatMulInteger": 1,
    "QLinearConv": 3,
    "QLinearMatMul": 3,
}
# Operator -> positions of initializers that are no trained parameters: scales, zero points, running statistics.
_NOT_TRAINED = {
    "QuantizeLinear": (1, 2),
    "DequantizeLinear": (1, 2),
    "QLinearConv": (1, 2, 4, 5, 6, 7),
    "QLinearMatMul": (1, 2, 4, 5, 6, 7),
    "BatchNormalization": (3, 4),
}


def infer_shapes(model: Any, name: str, shape: Sequence[int]) -> dict[str, tuple[int | None, ...]]:
    """The shapes of all tensors at batch 1, as far as ONNX infers them."""
    import onnx

    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    (source,) = (value for value in fixed.graph.input if value.name == name)
    for dimension, length in zip(source.type.tensor_type.shape.dim, shape, strict=True):
        dimension.dim_value = length
    for value in fixed.graph.output:  # a symbolic batch there would contradict
        value.type.tensor_type.ClearField("shape")
    graph = onnx.shape_inference.infer_shapes(fixed, data_prop=True).graph
    shapes: dict[str, tuple[int | None, ...]] = {
        value.name: tuple(dimension.dim_value or None for dimension in value.type.tensor_type.shape.dim)
        for value in (*graph.value_info, *graph.input, *graph.output)
    }
    return shapes | {weight.name: tuple(weight.dims) for weight in graph.initializer}


def _macs(model: Any, shapes: dict[str, tuple[int | None, ...]]) -> tuple[int | None, str]:
    """The sum, or None and why, where the shape of one product is not known: a sum without it would be wrong."""
    total = 0
    for node in model.graph.node:
        if node.op_type not in _PRODUCTS:
            continue
        weight, output = shapes.get(node.input[_PRODUCTS[node.op_type]], ()), shapes.get(node.output[0], ())
        source = shapes.get(node.input[0], ())
        if not weight or not output or not source or None in (*weight, *output, *source):
            return None, f"the shapes of the ONNX node '{node.name}' ({node.op_type}) cannot be inferred"
        if node.op_type == "ConvTranspose":
            total += prod(source[2:]) * prod(weight)  # type: ignore[arg-type]
        elif "Conv" in node.op_type:
            total += prod(output[2:]) * prod(weight)  # type: ignore[arg-type]
        else:
            transposed = any(item.name == "transA" and item.i for item in node.attribute)
            total += prod(output) * (source[0] if transposed else source[-1])  # type: ignore[arg-type,operator]
    return total, ""


def _parameters(model: Any) -> int:
    import onnx

    excluded = {
        node.input[position]
        for node in model.graph.node
        for position in _NOT_TRAINED.get(node.op_type, ())
        if position < len(node.input)
    }
    return sum(
        prod(weight.dims)
        for weight in model.graph.initializer
        if weight.name not in excluded and weight.data_type not in (onnx.TensorProto.INT64, onnx.TensorProto.BOOL)
    )


def count_onnx(model: Any, shapes: dict[str, tuple[int | None, ...]]) -> Complexity:
    """The complexity of a graph. `shapes` are those of `infer_shapes`."""
    macs, note = _macs(model, shapes)
    return Complexity(macs=macs, parameters=_parameters(model), method="onnx shapes", note=note)
