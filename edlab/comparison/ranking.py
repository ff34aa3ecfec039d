"""Which runs are best: by one metric, with those not shown to be worse, and in accuracy and latency together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from edlab.comparison import names
from edlab.comparison.compare import between
from edlab.comparison.estimates import Estimate, comparable, cost, direction, estimate
from edlab.comparison.pareto import front
from edlab.predictions_file import Right, unknown
from edlab.record import RunRecord, Status, VerdictState

_FEWEST = 3  # rows with a front worth marking


def reliable(records: Sequence[RunRecord]) -> list[RunRecord]:
    """The runs whose numbers may be ranked: those that ended well and are not INVALID."""
    invalid = VerdictState.invalid
    return [each for each in records if each.status is Status.ok and each.verdict and each.verdict.state is not invalid]


def sorted_by(records: Sequence[RunRecord], name: str) -> list[RunRecord]:
    """The runs with the best value of a metric first (the lowest, if no value is better), those without it last."""
    known = {record.uuid: found for record in records if (found := estimate(record, name, estimates=True))}
    better = direction(name)

    def rank(record: RunRecord) -> tuple[bool, float]:
        found = known.get(record.uuid)
        return found is None, cost(found.value, better) if found else 0.0

    return sorted(records, key=rank)


def winners(records: Sequence[RunRecord], metrics: Iterable[str], right: Right = unknown) -> dict[str, set[str]]:
    """For each metric, the runs (uuid) with the best value or one that is not shown to be worse.

    Empty for a metric in which no run is shown to be worse. Accuracies are compared image by image, as far as `right`
    knows the runs.
    """
    found = {}
    for name in metrics:
        values = _values(records, name)
        if ranked := _best(records, name, values, right):
            winner, alike = ranked
            if len(values) > 1 + len(alike):
                found[name] = {winner.uuid, *(record.uuid for record in alike)}
    return found


def best(records: Sequence[RunRecord], name: str, right: Right = unknown) -> tuple[RunRecord, list[RunRecord]] | None:
    """The reliable run with the best value of a metric, and the others that are not shown to be worse, in their order.

    None if no reliable run has measured it, or if no value of the metric is better. `right` as for `winners`.
    """
    return _best(records, name, _values(records, name), right)


def _best(
    records: Sequence[RunRecord], name: str, found: Mapping[str, Estimate], right: Right
) -> tuple[RunRecord, list[RunRecord]] | None:
    if direction(name) is None or not found:
        return None
    rows = [record for record in records if record.uuid in found]
    winner = sorted_by(rows, name)[0]

    def is_alike(record: RunRecord) -> bool:
        if record is winner:
            return False
        change = between(name, record, winner, found[record.uuid], found[winner.uuid], right)
        return change is None or not change.shown

    return winner, [record for record in rows if is_alike(record)]


def trade_off(records: Sequence[RunRecord]) -> list[RunRecord]:
    """The runs on the Pareto front of accuracy and latency, the fastest first; none of fewer than three runs."""
    rows = reliable(records)
    if len(rows) < _FEWEST:
        return []
    return sorted_by(front(rows, (names.metric(names.ACCURACY, rows), "latency_ms")), "latency_ms")


def _values(records: Sequence[RunRecord], name: str) -> dict[str, Estimate]:
    """The values of a metric that may be ranked, by the run's uuid."""
    return comparable({record.uuid: each for record in reliable(records) if (each := estimate(record, name))})
