"""Whether a run is worse than its baseline by more than is allowed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from edlab.comparison.changes import Change
from edlab.comparison.compare import Compared
from edlab.comparison.estimates import cost, direction
from edlab.comparison.obstacles import SPEED
from edlab.metrics import catalogue
from edlab.record import VerdictState


class Limit(NamedTuple):
    """The largest allowed worsening of a metric: a fraction of the baseline, or an amount in the metric's own unit."""

    metric: str
    amount: float
    is_fraction: bool


class Finding(NamedTuple):
    """The result for one limit. `problem` is why it could not be checked; then it has not passed either."""

    limit: Limit
    change: Change | None
    worsening: float | None  # in the limit's unit; negative if the run is better
    problem: str = ""

    @property
    def passed(self) -> bool:
        """Whether the limit is kept: the worsening is within it, or no difference is shown."""
        if self.change is None or self.worsening is None:
            return False
        has_interval = self.change.low is not None
        return self.worsening <= self.limit.amount or (has_interval and not self.change.shown)


def check(row: Compared, baseline: Compared, limits: Sequence[Limit], *, allow_invalid: bool = False) -> list[Finding]:
    """One finding for each limit, of a compared run.

    Speed and power of an INVALID run cannot be checked, unless that is allowed.
    """
    return [_finding(row, baseline, limit, allow_invalid) for limit in limits]


def _finding(row: Compared, baseline: Compared, limit: Limit, allow_invalid: bool) -> Finding:
    name = limit.metric
    if not allow_invalid and (problem := _invalid(row, baseline, name)):
        return Finding(limit, None, None, problem)
    change = row.changes.get(name)
    if change is None:
        return Finding(limit, None, None, _problem(row, baseline, name))
    base, now = baseline.estimates[name].value, row.estimates[name].value
    worsening = cost(now - base, direction(name))
    if not limit.is_fraction:
        return Finding(limit, change, worsening)
    if not base:
        return Finding(limit, None, None, "the baseline is 0: set the limit as an amount")
    return Finding(limit, change, worsening / abs(base))


def _invalid(row: Compared, baseline: Compared, name: str) -> str:
    """Why the metric of an INVALID run is not checked; empty if it may be."""
    metric = catalogue.find(name)
    if metric and metric.section not in SPEED:
        return ""
    for side, which in ((row, "the run"), (baseline, "the baseline")):
        verdict = side.run.verdict
        if verdict and verdict.state is VerdictState.invalid:
            return f"{which} is INVALID: {', '.join(verdict.invalidating)}"
    return ""


def _problem(row: Compared, baseline: Compared, name: str) -> str:
    for side, which in ((row, "the run"), (baseline, "the baseline")):
        if name not in side.estimates:
            return f"missing in {which}: {side.run.missing.get(name, 'it was not measured')}"
    if obstacle := row.obstacle(name):
        return f"{obstacle.code}: {obstacle.message}"
    return "measured in one of the runs, and emulated in the other"
