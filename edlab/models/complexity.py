"""Multiply-accumulates and parameters of live networks. Those of files are counted where the files are read."""

from __future__ import annotations

import copy
from math import prod
from typing import TYPE_CHECKING, Any

from edlab.source import Complexity

if TYPE_CHECKING:
    import torch


def count_torch(module: torch.nn.Module, example: torch.Tensor, *, cross_check: bool = True) -> Complexity:
    """MACs of one forward pass (convolutions and matrix products) and elements of all parameters.

    PyTorch counts floating-point operations as they are dispatched; a MAC is two of them.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(example)
    return Complexity(
        macs=counter.get_total_flops() // 2,
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        method="torch.utils.flop_counter",
        thop_macs=_thop(module, example) if cross_check else None,
    )


def _thop(module: torch.nn.Module, example: torch.Tensor) -> int | None:
    """thop's count, which includes batch norm and leaves out layers it does not know. It never decides anything."""
    import thop

    try:
        macs, _ = thop.profile(copy.deepcopy(module), inputs=(example,), verbose=False)  # it leaves buffers behind
    except Exception as error:
        print(f"thop cannot count this model: {type(error).__name__}: {error}")  # noqa: T201  (goes to the log)
        return None
    return int(macs)


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
