"""Comparing recorded runs: which metrics may be compared, differences with intervals, the Pareto front, a choice."""

from edlab.comparison import names
from edlab.comparison.changes import Change, difference, ratio
from edlab.comparison.choose import Choice, Constraint, choose
from edlab.comparison.compare import Compared, Comparison, compare
from edlab.comparison.estimates import Estimate, cost, direction, estimate, is_better
from edlab.comparison.obstacles import Obstacle, obstacles
from edlab.comparison.pareto import front
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
    "Obstacle",
    "check",
    "choose",
    "compare",
    "cost",
    "difference",
    "differing",
    "direction",
    "estimate",
    "front",
    "is_better",
    "names",
    "obstacles",
    "ratio",
    "shared",
]
