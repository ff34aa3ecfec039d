"""Where quantization adds noise: from the noise of each value of a graph to the layers that add it. Pure functions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from edlab.metrics.profile import SourceLayer


class LayerNoise(NamedTuple):
    """The quantization noise at one layer, relative to the float32 graph on the same images."""

    name: str  # as `quantization.exclude` needs it
    operator: str
    sqnr_db: float | None  # signal to quantization noise at its output; None: no noise
    input_sqnr_db: float | None  # at the noisiest of its inputs; None: no noise
    module: str  # path of its torch module; empty: unknown
    product: bool  # it has weights, or multiplies matrices
    added: float  # noise power / signal power that this layer adds: at its output minus at its input, not below 0


def layer_noise(layers: Sequence[SourceLayer], noise: Mapping[str, float], ends: Sequence[str]) -> list[LayerNoise]:
    """The layers that end at a quantized value, the one that adds most noise first.

    `layers` are those of the float32 graph; `noise` is noise power / signal power by value; `ends` are the values
    that the quantized graph quantizes. A layer is a product with the operations up to the next quantized value.
    """
    makers = {value: layer for layer in layers for value in layer.outputs}
    uses = Counter(value for layer in layers for value in layer.inputs)
    found: dict[str, LayerNoise] = {}
    for end in ends:
        if end in makers and end in noise:
            head = _head(end, makers, uses, set(ends))
            before = max((noise[value] for value in head.inputs if value in noise), default=0.0)
            added = max(0.0, noise[end] - before)
            found[head.name] = LayerNoise(
                head.name, head.operator, decibels(noise[end]), decibels(before), head.module, bool(head.macs), added
            )
    return sorted(found.values(), key=lambda layer: -layer.added)


def _head(end: str, makers: Mapping[str, SourceLayer], uses: Mapping[str, int], ends: set[str]) -> SourceLayer:
    """The product whose result this value is, through operations with one input; else the operation that makes it."""
    head = makers[end]
    while not head.macs:
        before = [value for value in head.inputs if value in makers]
        if len(before) != 1 or before[0] in ends or uses[before[0]] > 1:
            return makers[end]
        head = makers[before[0]]
    return head


def decibels(noise: float) -> float | None:
    """The signal-to-noise ratio in dB of noise power / signal power; None without noise."""
    return -10 * math.log10(noise) if noise > 0 else None
