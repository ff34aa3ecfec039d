"""Runs against one baseline: every metric that can be compared, as a ratio or a difference with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from edlab import metrics
from edlab.comparison.changes import Change, change_of
from edlab.comparison.estimates import Estimate, estimate
from edlab.comparison.obstacles import Obstacle, obstacles
from edlab.metrics import catalogue
from edlab.predictions_file import Right, unknown
from edlab.record import RunRecord

_ROUNDING = 1e-9  # of a sum


@dataclass(frozen=True)
class Compared:
    """A run, and its changes from the baseline by metric; the baseline itself has none."""

    run: RunRecord
    estimates: dict[str, Estimate] = field(default_factory=dict)
    changes: dict[str, Change] = field(default_factory=dict)
    obstacles: tuple[Obstacle, ...] = ()

    def obstacle(self, name: str) -> Obstacle | None:
        """Why this metric is not compared; None if nothing prevents it."""
        metric = catalogue.find(name)
        return next((each for each in self.obstacles if metric and metric.section in each.sections), None)


@dataclass(frozen=True)
class Comparison:
    """Runs with the same metrics against one baseline, which is among them."""

    baseline: RunRecord
    metrics: tuple[str, ...]
    rows: list[Compared]


def compare(
    records: Sequence[RunRecord],
    baseline: RunRecord,
    names: Sequence[str],
    right: Right = unknown,
    *,
    estimates: bool = False,
) -> Comparison:
    """Compare the named metrics of the runs with those of the baseline.

    Metrics of accuracy are compared as differences, image by image if both runs recorded which images are right;
    all others as ratios. A metric that an obstacle makes incomparable has no change.
    """
    rows = [_compared(record, baseline, names, right, estimates) for record in records]
    return Comparison(baseline, tuple(names), rows)


def _compared(record: RunRecord, baseline: RunRecord, names: Sequence[str], right: Right, estimates: bool) -> Compared:
    found = {name: each for name in names if (each := estimate(record, name, estimates=estimates))}
    if record.uuid == baseline.uuid:
        return Compared(record, found)
    row = Compared(record, found, {}, tuple(obstacles(record, baseline)))
    for name, mine in found.items():
        theirs = estimate(baseline, name, estimates=estimates)
        if theirs is None or row.obstacle(name) or mine.prefix != theirs.prefix:
            continue
        if change := between(name, record, baseline, mine, theirs, right):
            row.changes[name] = change
    return row


def between(
    name: str, record: RunRecord, baseline: RunRecord, mine: Estimate, theirs: Estimate, right: Right
) -> Change | None:
    """The change of a metric of two runs; of an accuracy image by image, if both scored the same images.

    None if it is a ratio and one of the values is not above 0.
    """
    scored = {each.tags.get("scored_digest") for each in (record, baseline)}
    same_images = len(scored) == 1 and None not in scored
    is_paired = name == "accuracy_top1" or (name == "accuracy_drop" and _same_reference(record, baseline))
    ours, others = (right(record), right(baseline)) if is_paired and same_images else (None, None)
    if ours is None or others is None or len(ours) != len(others):
        return change_of(name, mine, theirs)
    value, low, high = metrics.paired_difference(ours, others)
    return Change(value, low, high, 0.0) if name == "accuracy_top1" else Change(-value, -high, -low, 0.0)


def _same_reference(*records: RunRecord) -> bool:
    """Whether the drops are from one accuracy of the unconverted model: then they differ as the accuracies do."""
    found = [(estimate(each, "accuracy_top1"), estimate(each, "accuracy_drop")) for each in records]
    references = [top1.value + drop.value for top1, drop in found if top1 and drop]
    return len(references) == len(records) and max(references) - min(references) < _ROUNDING
