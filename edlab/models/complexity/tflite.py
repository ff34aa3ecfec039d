"""Multiply-accumulates and parameters of a TFLite graph, from the shapes that the file holds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import Any

from edlab.source import Complexity

PRODUCTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL")


def count_tflite(products: Iterable[tuple[str, Sequence[Any]]], constants: Iterable[Any], types: Any) -> Complexity:
    """`products` are operators by name with their first input, weight and output; `constants` tensors with data."""
    return Complexity(
        macs=sum(_macs(name, *(list(tensor.shape) for tensor in tensors)) for name, tensors in products),
        parameters=_parameters(constants, types),
        method="tflite shapes",
    )


def _macs(name: str, first: list[int], weight: list[int], output: list[int]) -> int:
    """Kernels are (out, height, width, in), (1, height, width, out) where depthwise, and (out, in) of matrices."""
    if name == "BATCH_MATMUL":
        return prod(output) * first[-1]
    per_output = prod(weight[1:3]) if name == "DEPTHWISE_CONV_2D" else prod(weight[1:])
    return prod(output) * per_output


def _parameters(constants: Iterable[Any], types: Any) -> int:
    """Elements of the constants that are computed with; the plain integers among them are shapes and axes."""
    return sum(
        prod(tensor.shape)
        for tensor in constants
        if tensor.type in (types.FLOAT32, types.FLOAT16) or (tensor.quantization and _length(tensor.quantization.scale))
    )


def _length(values: Sequence[float] | None) -> int:
    return 0 if values is None else len(values)
