"""The trained parameters of an ONNX graph."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

# Operator -> positions of constants that are not trained parameters: scales, zero points, running statistics, sizes.
_NOT_TRAINED = {
    "BatchNormalization": (3, 4),
    "Clip": (1, 2),
    "ConvInteger": (2, 3),
    "DequantizeLinear": (1, 2),
    "DynamicQuantizeMatMul": (2, 3),
    "MatMulBnb4": (2,),
    "MatMulInteger": (2, 3),
    "MatMulIntegerToFloat": (2, 3, 4, 5),
    "MatMulNBits": (2, 3, 4),
    "Pad": (1, 2),
    "QAttention": (3, 4, 6, 7),
    "QGemm": (1, 2, 4, 5, 7, 8),
    "QLinearAdd": (1, 2, 4, 5, 6, 7),
    "QLinearConv": (1, 2, 4, 5, 6, 7),
    "QLinearMatMul": (1, 2, 4, 5, 6, 7),
    "QLinearMul": (1, 2, 4, 5, 6, 7),
    "QuantizeLinear": (1, 2),
    "Resize": (1, 2, 3),
}
# Operators of com.microsoft with a scale and a zero point for each operand, and no trained constants.
_ACTIVATIONS = (
    "QLinearAveragePool", "QLinearConcat", "QLinearGlobalAveragePool", "QLinearLeakyRelu", "QLinearReduceMean",
    "QLinearSigmoid", "QLinearSoftmax",
)  # fmt: skip
# Operator -> position of its bias, the only trained parameter that is a 32-bit integer.
_INTEGER_BIAS = {"DequantizeLinear": 0, "QGemm": 6, "QLinearConv": 8}
# Operator -> position of weights of 4 bits, packed into larger elements: there are K x N of them.
_PACKED = {"MatMulBnb4": 1, "MatMulNBits": 1}


def count_parameters(model: Any) -> int:
    """Elements of the constants that the model computes with, each counted once.

    Floating-point and quantized constants count, unless they are scalars or are used as scales, zero points, running
    statistics or sizes of an operator.
    """
    import onnx

    tensor = onnx.TensorProto
    constants = dict(_constants(model.graph))
    used: dict[str, int] = {}
    excluded: set[str] = set()
    for node in _nodes(model.graph):
        for position, name in enumerate(node.input):
            if name not in constants:
                continue
            data_type, dims = constants[name]
            if node.op_type in _ACTIVATIONS or position in _NOT_TRAINED.get(node.op_type, ()):
                excluded.add(name)
            elif _PACKED.get(node.op_type) == position:
                sizes = {item.name: item.i for item in node.attribute}
                used[name] = sizes["K"] * sizes["N"]
            elif data_type in (tensor.INT64, tensor.BOOL, tensor.STRING) or not dims:
                continue
            elif data_type != tensor.INT32 or _INTEGER_BIAS.get(node.op_type) == position:
                used[name] = prod(dims)
    return sum(count for name, count in used.items() if name not in excluded)


def _nodes(graph: Any) -> Iterator[Any]:
    """Those of the graph and of the graphs inside its nodes."""
    for node in graph.node:
        yield node
        for inner in _inner(node):
            yield from _nodes(inner)


def _constants(graph: Any) -> Iterator[tuple[str, tuple[int, tuple[int, ...]]]]:
    """The element type and the shape of each initializer and of each Constant node's tensor, by name."""
    for weight in graph.initializer:
        yield weight.name, (weight.data_type, tuple(weight.dims))
    for weight in graph.sparse_initializer:
        yield weight.values.name, (weight.values.data_type, tuple(weight.dims))
    for node in graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    yield node.output[0], (attribute.t.data_type, tuple(attribute.t.dims))
        for inner in _inner(node):
            yield from _constants(inner)


def _inner(node: Any) -> Iterator[Any]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs
