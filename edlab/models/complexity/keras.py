"""Multiply-accumulates and parameters of a live Keras model."""

from __future__ import annotations

from math import prod
from typing import Any

from edlab.source import Complexity


def count_keras(network: Any) -> Complexity:
    """MACs from the shapes of kernels and outputs, layer by layer; trainable parameters."""
    return Complexity(
        macs=sum(_keras_layer(layer) for layer in _layers(network)),
        parameters=sum(prod(weight.shape) for weight in network.trainable_weights),
        method="keras layer shapes",
    )


def _layers(network: Any) -> list[Any]:
    return [inner for layer in network.layers for inner in (_layers(layer) if hasattr(layer, "layers") else [layer])]


def _keras_layer(layer: Any) -> int:
    """Every element of a kernel meets every position of the output once (of the input, for a transposed one)."""
    kernels = [weight for weight in layer.weights if weight.name.endswith("kernel")]
    if not kernels:
        return 0
    shape = layer.input.shape if "Transpose" in type(layer).__name__ else layer.output.shape
    return int(prod(shape[1:-1]) * sum(prod(kernel.shape) for kernel in kernels))
