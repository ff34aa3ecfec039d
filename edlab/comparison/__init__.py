"""Comparing recorded runs: which metrics may be compared, differences with intervals, the Pareto front, a choice."""

from edlab.comparison import names
from edlab.comparison.changes import Change, change_of, difference, ratio
from edlab.comparison.choose import Choice, Constraint, Loosening, Objective, choose
from edlab.comparison.compare import Compared, Comparison, compare
from edlab.comparison.estimates import Estimate, comparable, direction, estimate
from edlab.comparison.obstacles import Obstacle, machine, obstacles
from edlab.comparison.pareto import front
from edlab.comparison.ranking import best, reliable, sorted_by, trade_off, winners
from edlab.comparison.regressions import Finding, Limit, check
from edlab.comparison.settings import differing, shared

__all__ = [
    "Change",
    "Choice",
    "Compared",
    "Comparison",
    "Constraint",
    "Estimate",
    "Finding",
    "Limit",
    "Loosening",
    "Objective",
    "Obstacle",
    "best",
    "change_of",
    "check",
    "choose",
    "comparable",
    "compare",
    "difference",
    "differing",
    "direction",
    "estimate",
    "front",
    "machine",
    "names",
    "obstacles",
    "ratio",
    "reliable",
    "shared",
    "sorted_by",
    "trade_off",
    "winners",
]
