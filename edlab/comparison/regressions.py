"""Whether a run is worse than its baseline by more than is allowed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from edlab.comparison.changes import Change
from edlab.comparison.compare import Compared
from edlab.comparison.estimates import cost


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


def check(row: Compared, baseline: Compared, limits: Sequence[Limit]) -> list[Finding]:
    """One finding for each limit, of a compared run."""
    return [_finding(row, baseline, limit) for limit in limits]


def _finding(row: Compared, baseline: Compared, limit: Limit) -> Finding:
    name = limit.metric
    change = row.changes.get(name)
    if change is None:
        return Finding(limit, None, None, _problem(row, baseline, name))
    base, now = baseline.estimates[name].value, row.estimates[name].value
    if not limit.is_fraction:
        return Finding(limit, change, cost(name, now - base))
    if not base:
        return Finding(limit, None, None, "the baseline is 0: set the limit as an amount")
    return Finding(limit, change, cost(name, now / base - 1))


def _problem(row: Compared, baseline: Compared, name: str) -> str:
    for side, which in ((row, "the run"), (baseline, "the baseline")):
        if name not in side.estimates:
            return f"missing in {which}: {side.run.missing.get(name, 'it was not measured')}"
    if obstacle := row.obstacle(name):
        return f"{obstacle.code}: {obstacle.message}"
    return "measured in one of the runs, and emulated in the other"
