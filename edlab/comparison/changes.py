"""The change of a metric from a baseline: a ratio or a difference, with its 95 % interval.

Both are from the intervals of the two estimates, by the method of variance estimates recovery (MOVER; Zou and Donner,
Construction of confidence limits about effect measures, Statistics in Medicine 27, 2008). The intervals of edlab's
metrics contain the dependence of neighbouring queries, and the differences between processes if there are repeats;
resampling single queries would ignore both, and give intervals that are too narrow.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from edlab.comparison.estimates import Estimate
from edlab.metrics import catalogue
from edlab.metrics.catalogue import Section


class Change(NamedTuple):
    """A ratio to the baseline (neutral: 1) or a difference from it (neutral: 0), with its 95 % interval.

    Without an interval nothing is shown about the difference.
    """

    value: float
    low: float | None
    high: float | None
    neutral: float

    @property
    def shown(self) -> bool:
        """Whether a difference is shown: the interval does not contain the neutral value."""
        return self.low is not None and self.high is not None and not self.low <= self.neutral <= self.high


def change_of(name: str, run: Estimate, baseline: Estimate) -> Change | None:
    """The change of a metric: a difference for those of accuracy, else a ratio; None if there is no ratio."""
    metric = catalogue.find(name)
    if metric and metric.section is Section.accuracy:
        return difference(run, baseline)
    return ratio(run, baseline)


def ratio(run: Estimate, baseline: Estimate) -> Change | None:
    """The run's value over the baseline's; None if one of them is not above 0."""
    if run.value <= 0 or baseline.value <= 0:
        return None
    logs = _recovered(_log(run), _log(baseline))
    low, high = (None if end is None else math.exp(end) for end in (logs.low, logs.high))
    return Change(math.exp(logs.value), low, high, 1.0)


def difference(run: Estimate, baseline: Estimate) -> Change:
    """The run's value minus the baseline's, of two independent estimates."""
    return _recovered(run, baseline)


def _recovered(run: Estimate, baseline: Estimate) -> Change:
    value = run.value - baseline.value
    if run.low is None or run.high is None or baseline.low is None or baseline.high is None:
        return Change(value, None, None, 0.0)
    below = math.hypot(run.value - run.low, baseline.high - baseline.value)
    above = math.hypot(run.high - run.value, baseline.value - baseline.low)
    return Change(value, value - below, value + above, 0.0)


def _log(estimate: Estimate) -> Estimate:
    """The logarithms of a positive estimate; an interval down to 0 has no lower end there."""
    low = None if estimate.low is None else math.log(estimate.low) if estimate.low > 0 else -math.inf
    return Estimate(math.log(estimate.value), low, None if estimate.high is None else math.log(estimate.high))
