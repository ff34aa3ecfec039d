"""A metric of a run as an estimate: its value, and its 95 % interval if it is known."""

from __future__ import annotations

from typing import NamedTuple

from edlab.metrics import catalogue
from edlab.metrics.catalogue import Better
from edlab.record import RunRecord

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


def estimate(record: RunRecord, name: str, *, estimates: bool = False) -> Estimate | None:
    """The metric of a run, measured on the target or on a stand-in; None if it is missing.

    With `estimates`, an estimate from the specification is used if nothing was measured.
    """
    metric = catalogue.find(name)
    for prefix in ("", EMULATED, *([ESTIMATED] if estimates else [])):
        value = record.metrics.get(prefix + name)
        if value is not None:
            ends = metric.interval if metric and name == metric.names[0] else None
            low, high = (record.metrics.get(prefix + end) for end in ends) if ends else (None, None)
            return Estimate(value, low, high, prefix)
    return None


def is_better(name: str, value: float, other: float) -> bool:
    """Whether `value` of a metric is better than `other`; lower is better for a metric without a direction."""
    return cost(name, value) < cost(name, other)


def cost(name: str, value: float) -> float:
    """The value of a metric, negated if higher is better: the lowest cost is the best."""
    return -value if direction(name) is Better.higher else value


def direction(name: str) -> Better:
    """Which values of the metric are better: lower, if the catalogue does not state it."""
    metric = catalogue.find(name)
    return (metric.better if metric else None) or Better.lower
