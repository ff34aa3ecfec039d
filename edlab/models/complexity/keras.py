"""Multiply-accumulates and parameters of a Keras model, from the TensorFlow operators that it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any

from edlab.models.complexity.keras_operators import FORMULAS, FREE
from edlab.models.complexity.unknown import cannot_be_counted
from edlab.source import Complexity

_METHOD = "tensorflow operators"
# Keras' names of weights that are statistics: of BatchNormalization, Normalization and SpectralNormalization.
_STATISTICS = ("moving_mean", "moving_variance", "mean", "variance", "count", "vector_u")


def count_keras(network: Any, shape: Sequence[int] | None = None) -> Complexity:
    """MACs of one image, and elements of all weights except running statistics, trained or frozen.

    One inference runs operator by operator: the operators of custom layers are counted too, and loops as often as
    they run. `shape`: of the input, for the dimensions that are free in the network.
    """
    import tensorflow as tf

    parameters = sum(prod(weight.shape) for weight in network.weights if weight.name not in _STATISTICS)
    free = (1, *(shape or network.input_shape)[1:])
    lengths = [own or given for own, given in zip(network.input_shape, free, strict=True)]
    run = _Run()
    try:
        images = tf.zeros(lengths, network.inputs[0].dtype)
        with _each_operator(run.add):
            outputs = network(images, training=False)
    except Exception as error:  # a layer may raise anything
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]
        return Complexity(
            macs=None, parameters=parameters, method=_METHOD, note=f"cannot be counted by running it: {reason}"
        )
    macs = run.macs_of(tf.nest.flatten(outputs))
    note = cannot_be_counted(run.unknown) if run.unknown else ""
    return Complexity(macs=None if note else macs // lengths[0], parameters=parameters, method=_METHOD, note=note)


class _Run:
    """The operators of one inference: their costs, and how they are connected, by TensorFlow's tensor numbers."""

    def __init__(self) -> None:
        self.unknown: set[str] = set()
        self._operators: list[tuple[int, list[int], list[int]]] = []  # MACs, inputs, outputs

    def add(self, operator: str | bytes, inputs: Any, attributes: Sequence[Any] | None, outputs: Any, *_: Any) -> None:
        """TensorFlow's callback; attributes are names and values in turn."""
        name = operator.decode() if isinstance(operator, bytes) else operator
        macs: int | None = 0
        if name in FORMULAS:
            before, after = ([tensor.shape.as_list() for tensor in tensors] for tensors in (inputs, outputs))
            macs = FORMULAS[name](before, after, dict(zip(*[iter(attributes or ())] * 2, strict=True)))
        if macs is None or name not in FREE | FORMULAS.keys():
            self.unknown.add(name)
        self._operators.append(
            (macs or 0, [_id_of(tensor) for tensor in inputs], [_id_of(tensor) for tensor in outputs])
        )

    def macs_of(self, outputs: Sequence[Any]) -> int:
        """MACs of the operators that these outputs need.

        Keras runs the first step of a recurrent layer twice, only to learn its output; a converter removes it.
        """
        needed, total = {_id_of(tensor) for tensor in outputs}, 0
        for macs, sources, results in reversed(self._operators):
            if not needed.isdisjoint(results):
                needed.update(sources)
                total += macs
        return total


def _id_of(tensor: Any) -> int:
    """TensorFlow's number of a tensor, which is unique; 0 for anything that is not a tensor of data."""
    return getattr(tensor, "_id", 0)


@contextmanager
def _each_operator(callback: Callable[..., None]) -> Iterator[None]:
    """Reports every operator that TensorFlow runs, including those inside compiled functions."""
    import tensorflow as tf
    from tensorflow.python.framework import op_callbacks  # the basis of tf.debugging.experimental

    eagerly = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    op_callbacks.add_op_callback(callback)
    try:
        yield
    finally:
        op_callbacks.remove_op_callback(callback)
        tf.config.run_functions_eagerly(eagerly)
