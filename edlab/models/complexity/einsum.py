"""Multiply-accumulates of an einsum, whose notation torch, NumPy, ONNX and TensorFlow share."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod


def einsum_macs(equation: str, shapes: Sequence[Sequence[int]]) -> int | None:
    """MACs of an einsum whose operands are combined from left to right; None for an equation that is not understood.

    Two operands cost the product of the lengths of all their indices. Indices that only one of them has, and that
    nothing else needs, are summed before; operands that are multiplied without a sum are elementwise, and free.
    """
    inputs, arrow, output = equation.replace(" ", "").partition("->")
    terms = _without_ellipsis(inputs.split(","), shapes)
    if len(terms) != len(shapes) or any(len(term) != len(shape) for term, shape in zip(terms, shapes, strict=True)):
        return None
    lengths: dict[str, int] = {}
    for term, shape in zip(terms, shapes, strict=True):
        for index, length in zip(term, shape, strict=True):
            lengths[index] = max(length, lengths.get(index, 1))  # a length of 1 is broadcast
    letters = "".join(terms)
    batch = "".join(sorted({index for index in letters if index.isdigit()}))
    if arrow:
        output = output.replace("...", batch)
    else:
        output = batch + "".join(index for index in letters if letters.count(index) == 1 and not index.isdigit())
    total, left = 0, set(terms[0])
    for position, term in enumerate(terms[1:], start=1):
        right, needed = set(term), set(output).union(*terms[position + 1 :])
        left, right = left & (right | needed), right & (left | needed)
        if (left & right) - needed:
            total += prod(lengths[index] for index in left | right)
        left = (left | right) & needed
    return total


def _without_ellipsis(terms: Sequence[str], shapes: Sequence[Sequence[int]]) -> list[str]:
    """The equation with dots replaced by digits; the last dimension that they stand for is 0."""
    written = []
    for term, shape in zip(terms, shapes, strict=False):
        hidden = len(shape) - len(term.replace("...", ""))
        written.append(term.replace("...", "".join(str(digit) for digit in reversed(range(max(hidden, 0))))))
    return written
