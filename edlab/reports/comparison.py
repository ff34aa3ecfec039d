"""The sheets of `edlab compare`, `choose`, `pareto` and `check`."""

from __future__ import annotations

import decimal
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edlab.comparison import (
    Change,
    Choice,
    Compared,
    Comparison,
    Constraint,
    Estimate,
    Finding,
    Loosening,
    differing,
    direction,
    estimate,
    shared,
)
from edlab.metrics import catalogue
from edlab.metrics.catalogue import Better, Section
from edlab.record import RunRecord, VerdictState
from edlab.reports.sheet import Cell, Heading, Note, Sheet
from edlab.reports.table import ID, MARKS, NAMES, cell_text, data, end_cell, metric_headings, setting_text, short

_MOST_ROWS = 100  # of a choice, whose first rows are the answer
_SPARE = ("flops_per_s", "accuracy_drop")  # they follow from others
_SHARED = (*NAMES.values(), "dataset.name", "protocol.name")


def comparison_sheet(groups: Mapping[str, Comparison], by: str = "") -> Sheet:
    """The runs of each group against the baseline of the group, with a line for its value of the setting `by`."""
    records = [row.run for comparison in groups.values() for row in comparison.rows]
    metrics = next(iter(groups.values())).metrics
    keys = [key for key in _distinctive(records) if key != by]
    shown = [name for name in metrics if any(name in row.estimates for each in groups.values() for row in each.rows)]
    sheet = Sheet([Heading("run"), *(Heading(short(key), is_name=True) for key in keys)])
    for name, text in metric_headings(shown, records).items():
        sheet.headings.append(Heading(text, is_number=True, is_spare=name in _SPARE))
    sheet.headings.append(Heading("verdict"))
    sheet.title = ", ".join(f"{short(key)} {value}" for key, value in shared(records, _SHARED).items() if value)
    for name, comparison in groups.items():
        sheet.rows += [name] if name else []
        for row in comparison.rows:
            names = _names(row.run, keys)
            is_baseline = row.run.uuid == comparison.baseline.uuid
            cells = [_cell(row, metric, is_baseline) for metric in shown]
            sheet.rows.append([Cell(row.run.run_id[:ID], "dim"), *names, *cells, end_cell(row.run)])
            sheet.data.append(data(row.run, [*([by] if by else []), *keys]) | _changes(row, comparison))
    sheet.notes = list(_notes(list(groups.values())))
    return sheet


def _distinctive(records: Sequence[RunRecord]) -> list[str]:
    """The keys that distinguish these runs; the model if all are alike."""
    keys = dict.fromkeys([*NAMES.values(), *differing(records)])
    return [key for key in keys if key not in shared(records, [key])] or ["model.name"]


def _names(record: RunRecord, keys: Sequence[str], style: str = "") -> list[Cell]:
    return [Cell(setting_text(record.params.get(key, "–")), style) for key in keys]


def _cell(row: Compared, name: str, is_baseline: bool) -> Cell:
    found = row.estimates.get(name)
    if found is None:
        return Cell("–")
    text = _value(name, found)
    if is_baseline:
        return Cell(text, below="baseline")
    if change := row.changes.get(name):
        return Cell(text, below=change_text(name, change), below_style=_style(name, change))
    obstacle = row.obstacle(name)
    return Cell(text, below=obstacle.code if obstacle else "–")


def _value(name: str, found: Estimate) -> str:
    """The value with half its interval: in the unit of an accuracy, as a percentage of other metrics."""
    column = catalogue.column(name)
    text = MARKS[found.prefix] + column.write(found.value)
    if found.low is None or found.high is None or found.low == found.high:
        return text
    if _is_accuracy(name):
        return f"{text} ±{column.scale * (found.high - found.low) / 2:.1f}"
    return f"{text} ±{found.relative_half or 0:.1%}"


def change_text(name: str, change: Change | None) -> str:
    """The ratio or difference, and half its interval; without an interval with a question mark."""
    if change is None:
        return "no ratio: a value is not above 0"
    scale = catalogue.column(name).scale
    number = f"{scale * change.value:+.1f}" if _is_accuracy(name) else f"{change.value:#.3g}".rstrip(".") + "x"
    if change.low is None or change.high is None:
        return f"{number} ?"
    if change.low == change.high:  # exact
        return number if change.shown else "equal"
    half = (change.high - change.low) / 2
    interval = f"±{scale * half:.1f}" if _is_accuracy(name) else f"±{half / change.value:.1%}"
    return f"{number} {interval}" if change.shown else f"no diff. {interval}"


def _style(name: str, change: Change) -> str:
    better = direction(name)
    if not change.shown or better is None:
        return "dim"
    return "green" if (change.value > change.neutral) is (better is Better.higher) else "red"


def _changes(row: Compared, comparison: Comparison) -> dict[str, Any]:
    """The changes for programs."""
    found: dict[str, Any] = {"baseline": comparison.baseline.run_id}
    for name, change in row.changes.items():
        kind = "difference" if change.neutral == 0 else "ratio"
        found |= {
            f"{kind}_{name}": change.value,
            f"{kind}_{name}_ci95_low": change.low,
            f"{kind}_{name}_ci95_high": change.high,
            f"difference_shown_{name}": change.shown if change.low is not None else None,
        }
    if row.obstacles:
        found["not_comparable"] = ", ".join(obstacle.code for obstacle in row.obstacles)
    return found


def _notes(comparisons: Sequence[Comparison]) -> Iterator[Note]:
    changes = [change for each in comparisons for row in each.rows for change in row.changes.values()]
    if changes:
        yield Note("second line: ratio to the baseline, of accuracies the difference, with its 95 % interval", "dim")
    if any(change.low is not None and not change.shown for change in changes):
        yield Note("no diff.: no difference shown, because the interval contains 1 (of a difference: 0)", "dim")
    if any(change.low is None for change in changes):
        yield Note("? without an interval: one of the two runs has none", "dim")
    for base in {each.baseline.uuid: each.baseline for each in comparisons}.values():
        if base.ending not in (VerdictState.valid, VerdictState.degraded):
            text = f"the baseline {base.run_id[:ID] or base.name} is {base.ending}: choose another with --baseline"
            yield Note(text, "yellow")
    obstacles: dict[str, str] = {}
    for comparison in comparisons:
        for row in comparison.rows:
            obstacles |= {each.code: each.message for each in row.obstacles}
    for code, message in obstacles.items():
        yield Note(f"{code}: not compared, because {message}", "yellow")
    runs = [row.run for each in comparisons for row in each.rows]
    if changes and any("latency_runs" not in run.metrics for run in runs):
        text = "the intervals exclude differences between processes: set protocol.repeats=5 to include them"
        yield Note(text, "dim")


def choice_sheet(records: Sequence[RunRecord], constraints: Sequence[Constraint], choice: Choice) -> Sheet:
    """The best run first, then those not shown to be worse, then those shown to be worse, then what is ruled out."""
    objective = choice.objective.metric
    keys = _distinctive(records)
    sheet = Sheet([Heading("choice"), Heading("run"), *(Heading(short(key), is_name=True) for key in keys)])
    shown = list(dict.fromkeys([objective, *(each.metric for each in constraints)]))
    if "model.name" in keys and not set(shown) & {*catalogue.accuracies()}:  # a drop is against the same model
        shown += [name for name in catalogue.accuracies() if any(estimate(each, name) for each in records)]
    sheet.headings += [Heading(text, is_number=True) for text in metric_headings(shown, records).values()]
    sheet.headings += [Heading("verdict"), Heading("why", is_text=True)]
    goal = f"best {objective}"
    sheet.title = f"{goal} with {' and '.join(map(str, constraints))}" if constraints else goal

    def add(label: str, record: RunRecord, why: str, style: str = "") -> None:
        sheet.data.append({"choice": label, "why": why} | data(record, keys))
        if len(sheet.rows) < _MOST_ROWS:
            names = _names(record, keys, style)
            values = [_plain(record, name, style) for name in shown]
            cells = [Cell(label, style), Cell(record.run_id[:ID], style), *names, *values, end_cell(record)]
            sheet.rows.append([*cells, Cell(why, style)])

    if choice.best:
        add("best", choice.best, "", "bold green")
    for runner_up in choice.runners_up:
        add("as good", runner_up.run, f"not shown to be worse ({change_text(objective, runner_up.change)})")
    for runner_up in choice.worse:
        add("worse", runner_up.run, change_text(objective, runner_up.change), "dim")
    for record in records:
        if reasons := choice.ruled_out.get(record.uuid):
            add("ruled out", record, "; ".join(reasons), "dim")
    if others := len(sheet.data) - len(sheet.rows):
        sheet.notes.append(Note(f"{others} more runs: --format csv or json has all", "dim"))
    if not choice.best:
        sheet.notes.append(Note("no run meets all constraints", "yellow"))
        if states := Counter(each.ending for each in choice.unreliable):
            counts = " and ".join(f"{count} {state}" for state, count in sorted(states.items()))
            option = "degraded" if VerdictState.degraded in states else "any"
            text = f"{counts} were not considered: `edlab show RUN` states why; --verdict {option} accepts more"
            sheet.notes.append(Note(text, "cyan"))
    if loose := choice.loosening:
        name = loose.run.run_id[:ID] or loose.run.name
        sign = ">=" if loose.constraint.is_minimum else "<="
        value = f"{objective} {catalogue.column(objective).write(loose.value)}"
        text = f"with {loose.constraint.metric} {sign} {_allowing(loose)} the choice would be {name} ({value})"
        sheet.notes.append(Note(text, "cyan"))
    return sheet


def _allowing(loose: Loosening) -> str:
    """The limit with four digits, rounded so that it allows the run."""
    rounding = decimal.ROUND_FLOOR if loose.constraint.is_minimum else decimal.ROUND_CEILING
    rounded = decimal.Context(prec=4, rounding=rounding).create_decimal_from_float(loose.limit)
    return f"{float(rounded):.4g}" if rounded else "0"


def pareto_sheet(records: Sequence[RunRecord], on_front: Sequence[RunRecord], x: str, y: str) -> Sheet:
    """The runs on the front, in the order of `x`."""
    keys = _distinctive(records)
    sheet = Sheet([Heading("run"), *(Heading(short(key), is_name=True) for key in keys)])
    sheet.headings += [
        *(Heading(text, is_number=True) for text in metric_headings((x, y), records).values()),
        Heading("verdict"),
    ]
    sheet.title = f"Pareto front of {x} and {y}: {len(on_front)} of {len(records)} runs that may be ranked"
    for record in on_front:
        names = _names(record, keys)
        values = [_plain(record, name) for name in (x, y)]
        sheet.rows.append([Cell(record.run_id[:ID], "dim"), *names, *values, end_cell(record)])
        sheet.data.append(data(record, keys))
    return sheet


def check_sheet(findings: Sequence[tuple[str, Sequence[Finding]]]) -> Sheet:
    """One row for each limit of each run, by the run's name."""
    numbers = [Heading(text, is_number=True) for text in ("change", "worse by", "allowed")]
    sheet = Sheet([Heading("run", is_name=True), Heading("metric"), *numbers, Heading("result", is_text=True)])
    for name, found in findings:
        for finding in found:
            sheet.rows.append([Cell(name), Cell(finding.limit.metric), *_finding_cells(finding)])
            sheet.data.append(
                {
                    "run": name,
                    "metric": finding.limit.metric,
                    "worsening": finding.worsening,
                    "allowed": finding.limit.amount,
                    "is_fraction": finding.limit.is_fraction,
                    "passed": finding.passed,
                    "problem": finding.problem,
                }
            )
    return sheet


def _finding_cells(finding: Finding) -> list[Cell]:
    limit = finding.limit
    allowed = Cell(_amount(limit.metric, limit.amount, limit.is_fraction))
    if finding.change is None or finding.worsening is None:
        return [Cell("–"), Cell("–"), allowed, Cell(finding.problem, "red")]
    is_within = finding.worsening <= limit.amount
    passed = Cell("ok", "green") if is_within else Cell("ok: no difference is shown", "yellow")
    result = passed if finding.passed else Cell("REGRESSION", "bold red")
    worsening = Cell(_amount(limit.metric, finding.worsening, limit.is_fraction))
    return [Cell(change_text(limit.metric, finding.change)), worsening, allowed, result]


def _amount(name: str, amount: float, is_fraction: bool) -> str:
    return f"{amount:.1%}" if is_fraction else f"{catalogue.column(name).scale * amount:.4g}"


def _plain(record: RunRecord, name: str, style: str = "") -> Cell:
    return Cell(cell_text(record, name, catalogue.column(name)), style)


def _is_accuracy(name: str) -> bool:
    metric = catalogue.find(name)
    return bool(metric and metric.section is Section.accuracy)
