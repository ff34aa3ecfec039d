"""The Pareto front: the runs that no other run beats in all metrics."""

from __future__ import annotations

from collections.abc import Sequence

from edlab.comparison.estimates import cost, estimate
from edlab.record import RunRecord


def front(records: Sequence[RunRecord], metrics: Sequence[str], *, estimates: bool = False) -> list[RunRecord]:
    """The runs that no other one dominates: that is at least as good in all metrics and better in one.

    Runs without one of the metrics are neither on the front nor compared.
    """
    points = {index: _costs(record, metrics, estimates) for index, record in enumerate(records)}
    known = {index: costs for index, costs in points.items() if costs is not None}
    return [
        records[index]
        for index, costs in known.items()
        if not any(_dominates(other, costs) for key, other in known.items() if key != index)
    ]


def _costs(record: RunRecord, metrics: Sequence[str], estimates: bool) -> tuple[float, ...] | None:
    """The costs of the values; None if one is missing."""
    costs = []
    for name in metrics:
        found = estimate(record, name, estimates=estimates)
        if found is None:
            return None
        costs.append(cost(name, found.value))
    return tuple(costs)


def _dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(mine <= theirs for mine, theirs in zip(one, other, strict=True))
