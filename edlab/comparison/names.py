"""What a user names in a question about runs: metrics, groups of settings, limits. Raises `ConfigError` for others."""

from __future__ import annotations

import re
from collections.abc import Sequence

from edlab.comparison.choose import Objective
from edlab.comparison.estimates import direction
from edlab.comparison.regressions import Limit
from edlab.errors import ConfigError
from edlab.metrics import catalogue
from edlab.metrics.catalogue import PREFIXES, Better
from edlab.record import RunRecord
from edlab.registry import did_you_mean

ACCURACY = "accuracy"  # stands for the accuracy metric of the task
_EXAMPLE = "docs/metrics.md lists the metrics, for example latency_ms"


def metric(name: str, records: Sequence[RunRecord]) -> str:
    """The metric of this name, which at least one run must have."""
    if name == ACCURACY:
        return next((each for each in catalogue.accuracies() if _has(records, each)), "accuracy_top1")
    if _has(records, name):
        return name
    reasons = {record.missing[name] for record in records if name in record.missing}
    why = f": {reasons.pop()}" if len(reasons) == 1 else ""
    names = sorted({each for record in records for each in record.metrics} | {*catalogue.names()})
    raise ConfigError(f"no run has the metric '{name}'{why}", hint=f"{did_you_mean(name, names)}{_EXAMPLE}")


def compared(records: Sequence[RunRecord], further: str = "") -> list[str]:
    """The metrics of a comparison: the accuracies of the runs' tasks, the drop, the other headlines, and one more."""
    accuracies = [name for name in catalogue.accuracies() if _has(records, name)]
    first, *others = catalogue.headlines()
    names = [*(accuracies or [first]), "accuracy_drop", *others]
    return list(dict.fromkeys([*names, metric(further, records)] if further else names))


def objective(name: str, maximize: bool, records: Sequence[RunRecord]) -> Objective:
    """The metric to optimize, whose better values must lie in that direction if one is known."""
    found = metric(name, records)
    better, stated = Better.higher if maximize else Better.lower, direction(found)
    if stated not in (better, None):
        option, action = ("--minimize", "maximize") if maximize else ("--maximize", "minimize")
        raise ConfigError(f"cannot {action} {found}: {stated.value} is better", hint=f"use {option} {found}")
    return Objective(found, better)


def ranked(name: str, records: Sequence[RunRecord]) -> str:
    """The metric of this name, of which it must be known whether higher or lower values are better."""
    found = metric(name, records)
    if direction(found) is None:
        raise ConfigError(
            f"no value of {found} is better: it cannot be ranked",
            hint=f"`edlab choose` ranks it with --maximize or --minimize; {_EXAMPLE}",
        )
    return found


def group(name: str, records: Sequence[RunRecord]) -> str:
    """The parameter of a group (`device`) or a key (`device.threads`)."""
    keys = {key for record in records for key in record.params}
    for key in (f"{name}.name", name):
        if key in keys:
            return key
    groups = sorted(key.removesuffix(".name") for key in keys if re.fullmatch(r"\w+\.name", key))
    raise ConfigError(f"no run has '{name}'", hint=f"{did_you_mean(name, groups)}groups: {', '.join(groups)}")


def limit(text: str, records: Sequence[RunRecord]) -> Limit:
    """A limit such as latency_ms=5% or accuracy_drop=0.5, which is in the unit of the table."""
    matched = re.fullmatch(r"(\w+)=(\d+(?:\.\d+)?)(%?)", text)
    if not matched:
        raise ConfigError(f"invalid limit '{text}'", hint="write METRIC=5% or METRIC=0.5, for example latency_ms=5%")
    name, number, percent = matched.groups()
    if catalogue.find(name) is None:
        metric(name, records)
    if direction(name) is None:
        raise ConfigError(f"no value of {name} is better: it has no regression", hint=_EXAMPLE)
    scale = 100 if percent else catalogue.column(name).scale
    return Limit(name, float(number) / scale, bool(percent))


def same_name(record: RunRecord, baselines: Sequence[RunRecord]) -> RunRecord:
    """The baseline of a run: the only one, or the one with the run's name."""
    if len(baselines) == 1:
        return baselines[0]
    named = [each for each in baselines if each.name == record.name]
    if len(named) != 1:
        count = "no run" if not named else f"{len(named)} runs"
        raise ConfigError(f"the baseline has {count} named {record.name}", hint="choose one run as --baseline")
    return named[0]


def _has(records: Sequence[RunRecord], name: str) -> bool:
    return any(prefix + name in record.metrics for record in records for prefix in ("", *PREFIXES))
