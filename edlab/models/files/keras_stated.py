"""What a Keras model states about its input: its type, its first layers; and layers that are in training mode."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from edlab.models.files.base import training_mode
from edlab.models.files.stated import Affine, Stated, raw_pixels
from edlab.source import Reason

# At inference they do not change the values of pixels, except for resizing.
_PASSING = frozenset(
    ("InputLayer", "Identity", "Resizing", "CenterCrop", "Cast", "Activation", "Dropout", "GaussianNoise")
)
_AUGMENTING = ("Random", "Auto")  # prefixes of layers that do nothing at inference
_ARITHMETIC = {"TrueDivide": "divide", "Divide": "divide", "Multiply": "multiply", "Subtract": "subtract", "Add": "add"}


def stated(network: Any) -> Stated:
    """Rescaling, Normalization and arithmetic with constants, at the beginning of a functional model."""
    if "uint8" in str(network.inputs[0].dtype):
        return raw_pixels("the input's type, uint8: pixels as 0..255")
    affine = Affine()
    _follow(network, affine)
    taken = affine.takes()
    return Stated(taken.values, taken.note.replace("the graph's first operators", "the model's first layers"))


def reasons(network: Any) -> tuple[Reason, ...]:
    """Layers that are called with training=True, whatever the caller sets: for example Monte Carlo dropout."""
    training = [
        operation.name
        for operation, node in _calls(network)
        if node.arguments.kwargs.get("training") is True
        and ("Dropout" in type(operation).__name__ or "Normalization" in type(operation).__name__
             or "Noise" in type(operation).__name__)
    ]  # fmt: skip
    return (training_mode(training),) if training else ()


def _operations(network: Any) -> list[Any]:
    """The operations of a functional or sequential model, in the order in which they run; none for other models."""
    functional = getattr(network, "_functional", None) or network
    return list(getattr(functional, "operations", ()))


def _calls(network: Any) -> Iterator[tuple[Any, Any]]:
    for operation in _operations(network):
        yield from ((operation, node) for node in operation._inbound_nodes)
        if hasattr(operation, "layers"):
            yield from _calls(operation)


def _follow(network: Any, affine: Affine) -> bool:
    """Add to `affine` what the first operations do; whether the whole network consists of such operations."""
    functional = getattr(network, "_functional", None) or network
    operations = _operations(network)
    (tensor,) = functional.inputs if operations and len(functional.inputs) == 1 else (None,)
    while tensor is not None:
        if any(tensor is output for output in functional.outputs):
            return True
        uses = [
            (operation, node)
            for operation in operations
            for node in operation._inbound_nodes
            if any(tensor is given for given in node.input_tensors)
        ]
        if len(uses) != 1 or not _apply(uses[0][0], uses[0][1], affine):
            return False
        (tensor,) = uses[0][1].outputs if len(uses[0][1].outputs) == 1 else (None,)
    return False


def _apply(operation: Any, node: Any, affine: Affine) -> bool:
    kind = type(operation).__name__
    if hasattr(operation, "layers"):
        return _follow(operation, affine)
    if kind in _PASSING or kind.startswith(_AUGMENTING):
        return kind != "Activation" or getattr(operation.activation, "__name__", "") == "linear"
    if kind == "Rescaling":
        return affine.rescale(np.asarray(operation.scale), np.asarray(operation.offset), kind)
    if kind == "Normalization" and not operation.invert and operation.mean is not None:
        mean, variance = np.asarray(operation.mean), np.asarray(operation.variance)
        return affine.subtract(mean, kind) and affine.divide(np.maximum(np.sqrt(variance), 1e-7), kind)
    if kind == "BatchNormalization" and operation.moving_mean.shape == (3,):
        affine.subtract(np.asarray(operation.moving_mean), kind)
        affine.divide(np.sqrt(np.asarray(operation.moving_variance) + operation.epsilon), kind)
        return False  # what follows it is learned
    if kind in _ARITHMETIC and len(node.arguments.args) == 2:
        first, second = node.arguments.args
        swapped = first is not node.input_tensors[0]
        if not (swapped and _ARITHMETIC[kind] in ("divide", "subtract")):
            return bool(getattr(affine, _ARITHMETIC[kind])(first if swapped else second, kind))
    return False
