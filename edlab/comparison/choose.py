"""The configuration to take under constraints: the best run, those not shown to be worse, and what rules out others."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from edlab.comparison.changes import Change
from edlab.comparison.compare import between
from edlab.comparison.estimates import Estimate, comparable, cost, estimate
from edlab.metrics import catalogue
from edlab.metrics.catalogue import Better
from edlab.predictions_file import Right, unknown
from edlab.record import RunRecord, Status, VerdictState

_REASON = 60  # characters of a failure


class Constraint(NamedTuple):
    """A limit of a metric: the value itself is allowed."""

    metric: str
    limit: float
    is_minimum: bool

    def allows(self, value: float) -> bool:
        """Whether the value meets it."""
        return value >= self.limit if self.is_minimum else value <= self.limit

    def __str__(self) -> str:
        return f"{self.metric} {'>=' if self.is_minimum else '<='} {self.limit:g}"


class Objective(NamedTuple):
    """A metric, and which of its values are better."""

    metric: str
    better: Better


class RunnerUp(NamedTuple):
    """A run that is allowed, and how its objective differs from that of the best; None if that has no ratio."""

    run: RunRecord
    change: Change | None


class Loosening(NamedTuple):
    """A constraint without which another run would be the best, and the limit at which that run is allowed."""

    constraint: Constraint
    limit: float
    run: RunRecord
    value: float  # of the objective


@dataclass
class Choice:
    """The best run, if any is allowed."""

    objective: Objective
    best: RunRecord | None = None
    value: Estimate | None = None  # of the objective
    runners_up: list[RunnerUp] = field(default_factory=list)  # not shown to be worse
    worse: list[RunnerUp] = field(default_factory=list)  # allowed, and shown to be worse
    ruled_out: dict[str, list[str]] = field(default_factory=dict)  # by the run's uuid: all reasons
    unreliable: list[RunRecord] = field(default_factory=list)  # those of them whose verdict is not accepted
    loosening: Loosening | None = None


def choose(
    records: Sequence[RunRecord],
    constraints: Sequence[Constraint],
    objective: Objective,
    verdicts: Collection[VerdictState] = (VerdictState.valid,),
    *,
    estimates: bool = False,
    right: Right = unknown,
) -> Choice:
    """The run with the best objective among those that meet all constraints and have one of these verdicts.

    With `estimates`, estimates from a specification count as values. Values of stand-ins count only if no run has its
    target's own. `right` has which images a run predicted right, so that accuracies are compared image by image.
    """

    def value(record: RunRecord, name: str) -> Estimate | None:
        return estimate(record, name, estimates=estimates)

    choice = Choice(objective, unreliable=[each for each in records if _is_unreliable(each, verdicts)])
    names = dict.fromkeys([objective.metric, *(constraint.metric for constraint in constraints)])
    unusable = {record.uuid: list(_unusable(record, verdicts)) for record in records}
    usable = [record for record in records if not unusable[record.uuid]]
    on_stand_in = {name: _on_stand_in(usable, name) for name in names}
    candidates: dict[str, tuple[RunRecord, list[Constraint]]] = {}  # those with all metrics, and what they violate
    for record in records:
        reasons = unusable[record.uuid]
        if record.status is Status.ok:
            reasons += [_missing(record, name) for name in names if value(record, name) is None]
            reasons += [f"{name} is that of a stand-in" for name in names if record.uuid in on_stand_in[name]]
        if reasons:
            choice.ruled_out[record.uuid] = reasons
            continue
        violated = [each for each in constraints if not each.allows(_known(value(record, each.metric)).value)]
        candidates[record.uuid] = (record, violated)
        if violated:
            choice.ruled_out[record.uuid] = [_violation(_known(value(record, each.metric)), each) for each in violated]
    allowed = [record for record, violated in candidates.values() if not violated]
    values = {record.uuid: _known(value(record, objective.metric)) for record in allowed}
    ranked = sorted(allowed, key=lambda record: cost(values[record.uuid].value, objective.better))
    if ranked:
        choice.best, choice.value = ranked[0], values[ranked[0].uuid]
        for record in ranked[1:]:
            change = between(objective.metric, record, choice.best, values[record.uuid], choice.value, right)
            found = choice.worse if change and change.shown else choice.runners_up
            found.append(RunnerUp(record, change))
    choice.loosening = _loosening(choice, candidates.values(), objective, estimates)
    return choice


def _unusable(record: RunRecord, verdicts: Collection[VerdictState]) -> Iterator[str]:
    if record.status is not Status.ok:
        reason = textwrap.shorten(record.reason, _REASON, placeholder=" ...")
        yield f"{record.ending}: {reason}" if reason else record.ending
    elif _is_unreliable(record, verdicts):
        yield f"its verdict is {record.ending}"


def _is_unreliable(record: RunRecord, verdicts: Collection[VerdictState]) -> bool:
    """Whether the run was measured, but its verdict is not accepted."""
    return record.status is Status.ok and record.verdict is not None and record.verdict.state not in verdicts


def _on_stand_in(records: Sequence[RunRecord], name: str) -> set[str]:
    """The runs (uuid) whose value is that of a stand-in, while other runs have their target's own."""
    found = {record.uuid: each for record in records if (each := estimate(record, name))}
    return found.keys() - comparable(found).keys()


def _missing(record: RunRecord, name: str) -> str:
    reason = record.missing.get(name, "it was not measured")
    return f"{name} is missing: {textwrap.shorten(reason, _REASON, placeholder=' ...')}"


def _loosening(
    choice: Choice, candidates: Collection[tuple[RunRecord, list[Constraint]]], objective: Objective, estimates: bool
) -> Loosening | None:
    """Of the runs that violate one constraint only, and would be the best without it, the best one."""
    found: Loosening | None = None
    for record, violated in candidates:
        if len(violated) != 1:
            continue
        value = _known(estimate(record, objective.metric, estimates=estimates)).value
        best = found.value if found else choice.value.value if choice.value else None
        if best is None or cost(value, objective.better) < cost(best, objective.better):
            limit = _known(estimate(record, violated[0].metric, estimates=estimates)).value
            found = Loosening(violated[0], limit, record, value)
    return found


def _violation(found: Estimate, constraint: Constraint) -> str:
    """The value and the limit, in the unit of the column."""
    column = catalogue.column(constraint.metric)
    value, limit = column.write(found.value), column.write(constraint.limit)
    return f"{column.title} is {value}, {'below' if constraint.is_minimum else 'above'} {limit}"


def _known(found: Estimate | None) -> Estimate:
    assert found is not None
    return found
