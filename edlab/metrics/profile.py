"""The time of each layer, next to the work that the layer does: pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from edlab.agent.messages import LayerTime


class SourceLayer(NamedTuple):
    """One operation of a model file in float32, from which a runtime's layers come."""

    name: str  # in the file
    operator: str
    inputs: list[str]  # names of the values that it reads; of a torch program, the nodes
    outputs: list[str]  # names of the values that it computes
    macs: int  # multiply-accumulates for one image
    module: str = ""  # path of the torch module it belongs to; empty: unknown


class ProfileRow(NamedTuple):
    """What a runtime timed as one unit, and the layers of the model that it computes."""

    name: str  # the runtime's own
    operator: str  # as the runtime names it
    kernel: str  # implementation; empty: unknown
    place: str  # device or execution provider; empty: unknown
    precision: str  # of the arithmetic; empty: unknown
    ms: float  # median of one query
    mean_ms: float  # of one query, with interruptions by other programs
    share: float  # of the sum of all layers, 0..1
    layers: list[str]  # of the model file; empty: the runtime added it, or its names are unknown there
    modules: list[str]  # the torch modules of these layers
    macs: int | None  # of these layers; None without any
    gmacs_per_s: float | None  # None without multiply-accumulates


def attribute(times: Sequence[LayerTime], layers: Sequence[SourceLayer]) -> list[ProfileRow]:
    """The rows of a profile, in the order of execution; each layer of the model belongs to one row at most."""
    named = {name: layer for layer in layers for name in (*layer.outputs, layer.name)}
    direct = [_unique([named[source] for source in time.sources if source in named]) for time in times]
    taken = {layer.name for found in direct for layer in found}
    total_ms = sum(time.ms for time in times)
    claimed: set[str] = set()
    rows = []
    for time, found in zip(times, direct, strict=True):
        if not any(layer.macs for layer in found):
            found = _unique([*_fused_before(found, named, taken), *found])
        own = [layer for layer in found if layer.name not in claimed]
        claimed |= {layer.name for layer in own}
        macs = sum(layer.macs for layer in own) if own else None
        rows.append(
            ProfileRow(
                name=time.name,
                operator=time.operator,
                kernel=time.kernel,
                place=time.place,
                precision=time.precision,
                ms=time.ms,
                mean_ms=time.mean_ms,
                share=time.ms / total_ms if total_ms else 0.0,
                layers=[layer.name for layer in own],
                modules=list(dict.fromkeys(layer.module for layer in own if layer.module)),
                macs=macs,
                gmacs_per_s=macs / time.ms / 1e6 if macs and time.ms else None,
            )
        )
    return rows


def _fused_before(found: Sequence[SourceLayer], named: dict[str, SourceLayer], taken: set[str]) -> list[SourceLayer]:
    """The layers before these that no other row names, if there is a product among them: they were fused.

    A runtime may name a fused layer by its last output alone.
    """
    before: list[SourceLayer] = []
    waiting = list(found)
    while waiting:
        for value in waiting.pop().inputs:
            layer = named.get(value)
            if layer and layer.name not in taken and layer not in before:
                before.insert(0, layer)
                if not layer.macs:
                    waiting.append(layer)
    return before if any(layer.macs for layer in before) else []


def _unique(layers: Sequence[SourceLayer]) -> list[SourceLayer]:
    return list({layer.name: layer for layer in layers}.values())


def with_modules(layers: Sequence[SourceLayer], program: Sequence[SourceLayer]) -> list[SourceLayer]:
    """The layers of an exported file with the torch modules of the program that it was exported from.

    Exporters rename operations, but keep the order and the cost of the products; if they did not, nothing is known.
    """
    here = [layer for layer in layers if layer.macs]
    there = [layer for layer in program if layer.macs]
    if [layer.macs for layer in here] != [layer.macs for layer in there]:
        return list(layers)
    modules = {layer.name: other.module for layer, other in zip(here, there, strict=True)}
    return [layer._replace(module=modules.get(layer.name, layer.module)) for layer in layers]
