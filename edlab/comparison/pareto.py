"""The Pareto front: the runs that no other run beats in all metrics."""

from __future__ import annotations

from collections.abc import Sequence

from edlab.comparison.estimates import comparable, cost, direction, estimate
from edlab.record import RunRecord


def front(records: Sequence[RunRecord], metrics: Sequence[str], *, estimates: bool = False) -> list[RunRecord]:
    """The runs that no other one dominates: that is at least as good in all metrics and better in one.

    Runs without one of the metrics are neither on the front nor compared, and neither are runs on a stand-in next to
    runs on their targets.
    """
    points = _points(records, metrics, estimates)
    return [
        records[index]
        for index, costs in points.items()
        if not any(_dominates(other, costs) for key, other in points.items() if key != index)
    ]


def _points(records: Sequence[RunRecord], metrics: Sequence[str], estimates: bool) -> dict[int, tuple[float, ...]]:
    """The costs of each run, by its index."""
    columns = []
    for name in metrics:
        values = {index: estimate(record, name, estimates=estimates) for index, record in enumerate(records)}
        known = comparable({index: value for index, value in values.items() if value})
        columns.append({index: cost(value.value, direction(name)) for index, value in known.items()})
    shared = [index for index in range(len(records)) if all(index in column for column in columns)]
    return {index: tuple(column[index] for column in columns) for index in shared}


def _dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(mine <= theirs for mine, theirs in zip(one, other, strict=True))
