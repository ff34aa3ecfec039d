"""A metric of a run as an estimate: its value, and its 95 % interval if it is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeVar

from edlab.metrics import catalogue
from edlab.metrics.catalogue import Better
from edlab.record import RunRecord

Key = TypeVar("Key")

EMULATED, ESTIMATED = "emulated_", "estimated_"


class Estimate(NamedTuple):
    """A value with its 95 % interval; `prefix` is that of a metric that was not measured on the target."""

    value: float
    low: float | None = None
    high: float | None = None
    prefix: str = ""

    @property
    def relative_half(self) -> float | None:
        """Half the width of the interval as a fraction of the value; None without an interval, or for the value 0."""
        if self.low is None or self.high is None or not self.value:
            return None
        return (self.high - self.low) / 2 / abs(self.value)

    def scaled(self, factor: float) -> Estimate:
        """The same in another unit."""
        low, high = (None if end is None else factor * end for end in (self.low, self.high))
        return Estimate(factor * self.value, low, high, self.prefix)


def estimate(record: RunRecord, name: str, *, estimates: bool = False) -> Estimate | None:
    """The metric of a run, measured on the target or on a stand-in; None if it is missing.

    With `estimates`, an estimate from the specification is used if nothing was measured. An exact metric has an
    interval without width.
    """
    metric = catalogue.find(name)
    for prefix in ("", EMULATED, *([ESTIMATED] if estimates else [])):
        value = record.metrics.get(prefix + name)
        if value is not None and metric and metric.exact:
            return Estimate(value, value, value, prefix)
        if value is not None:
            ends = metric.interval if metric and name == metric.names[0] else None
            low, high = (record.metrics.get(prefix + end) for end in ends) if ends else (None, None)
            return Estimate(value, low, high, prefix)
    return None


def comparable(found: Mapping[Key, Estimate]) -> dict[Key, Estimate]:
    """Without the values of stand-ins if others are the targets' own: a stand-in is another machine."""
    own = {key: each for key, each in found.items() if each.prefix != EMULATED}
    return own or dict(found)


def cost(value: float, better: Better | None) -> float:
    """A value to minimize: negated if higher is better. Without a direction, lower values come first."""
    return -value if better is Better.higher else value


def direction(name: str) -> Better | None:
    """Which values of the metric are better; None if that is unknown."""
    metric = catalogue.find(name)
    return metric.better if metric else None
