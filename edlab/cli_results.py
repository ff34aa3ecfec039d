"""The commands that answer questions about recorded runs: compare, choose, pareto, check."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from edlab import durable
from edlab.errors import ConfigError, StorageError

if TYPE_CHECKING:
    from edlab.comparison import Comparison, Constraint, Finding
    from edlab.record import RunRecord
    from edlab.reports.sheet import Sheet
    from edlab.results import Results

FORMATS = ("table", "csv", "json", "markdown", "latex", "html")
_REGRESSION = 3  # exit code; 1 and 2 are errors of the command itself
_MOST_NAMED = 20  # runs with one problem

#: Options of `edlab choose`: the metric, and whether the value is a minimum.
_CONSTRAINTS = {
    "--min-accuracy": ("accuracy", True, "0.70: top-1 or mAP of at least 70 %%"),
    "--max-accuracy-drop": ("accuracy_drop", False, "0.01: at most one percentage point below the unconverted model"),
    "--max-latency-ms": ("latency_ms", False, "mean latency"),
    "--min-throughput-ips": ("throughput_ips", True, "inferences per second"),
    "--max-power-w": ("power_w", False, "power under load"),
    "--min-efficiency-ips-per-w": ("efficiency_ips_per_w", True, "inferences per second and watt"),
    "--max-size-mb": ("artifact_size_mb", False, "size of the converted files"),
}

_COMPARE = """\
examples:
  edlab compare                                       the latest sweep, against its first run
  edlab compare 20261127-1830 --baseline a1b2c3d4     a sweep, against one of its runs
  edlab compare --by device --sort latency_ms         a block for each device
  edlab compare a1b2c3d4 e5f6a7b8 --format markdown   two runs, to paste into a document"""
_CHOOSE = """\
examples:
  edlab choose --min-accuracy 0.70 --max-latency-ms 20 --maximize efficiency_ips_per_w
  edlab choose 20261127-1830 --max-accuracy-drop 0.01 --minimize latency_ms --verdict degraded

exit code: 0 a run was chosen; 1 no run meets all constraints; 2 the command is invalid"""
_PARETO = """\
examples:
  edlab pareto                                        accuracy against latency, of the latest sweep
  edlab pareto --x power_w --y throughput_ips --out front.svg"""
_CHECK = """\
A limit is a fraction of the baseline (latency_ms=5%) or an amount in the unit of the table (accuracy_drop=0.5: half a
percentage point). A worsening counts only if a difference is shown: its 95 % interval excludes no change.

examples:
  edlab check --baseline baseline/result.json --max-regression latency_ms=5% accuracy_drop=0.5
  edlab check 20261127-1830 --baseline 20261120-0900 --max-regression throughput_ips=5%

exit code: 0 all limits are kept; 3 one is exceeded, or could not be checked; 2 the command is invalid"""


def add_parsers(commands: Any) -> None:
    """Add the commands to the subparsers of `edlab`."""
    compare = about_runs(commands, "compare", "compare runs with a baseline: differences with intervals", _COMPARE)
    text = "what the others are compared with (default: the first run that was measured)"
    complete_runs(compare.add_argument("--baseline", metavar="RUN", help=text))
    compare.add_argument("--sort", metavar="METRIC", help="the best value of this metric first")
    compare.add_argument("--by", metavar="GROUP", help="a block for each value, for example of device or model")
    compare.set_defaults(action=_compare)

    choose = about_runs(commands, "choose", "choose a configuration under constraints", _CHOOSE)
    for option, (_, _, text) in _CONSTRAINTS.items():
        choose.add_argument(option, type=float, metavar="X", help=text)
    goal = choose.add_mutually_exclusive_group(required=True)
    goal.add_argument("--maximize", metavar="METRIC", help="the metric to maximize")
    goal.add_argument("--minimize", metavar="METRIC", help="the metric to minimize")
    verdicts = ("valid", "degraded", "any")
    choose.add_argument("--verdict", choices=verdicts, default="valid", help="the worst one accepted (default: valid)")
    choose.add_argument("--allow-estimates", action="store_true", help="use estimated power if it was not measured")
    choose.set_defaults(action=_choose)

    pareto = about_runs(commands, "pareto", "show the runs that no other run beats in two metrics", _PARETO)
    pareto.add_argument("--x", default="latency_ms", metavar="METRIC", help="default: latency_ms")
    pareto.add_argument("--y", default="accuracy", metavar="METRIC", help="default: the accuracy of the task")
    pareto.add_argument("--out", type=Path, metavar="FILE", help="draw it as PNG, SVG or PDF")
    pareto.set_defaults(action=_pareto)

    check = about_runs(commands, "check", "fail if runs are worse than a baseline, for CI", _CHECK)
    text = "a run or a result.json; or a sweep, whose runs are matched by name"
    complete_runs(check.add_argument("--baseline", required=True, metavar="RUN", help=text))
    text = "the largest worsening of a metric"
    check.add_argument("--max-regression", required=True, nargs="+", metavar="METRIC=LIMIT", help=text)
    text = "check latency, throughput and power of INVALID runs too"
    check.add_argument("--allow-invalid", action="store_true", help=text)
    check.set_defaults(action=_check)


def complete_runs(argument: argparse.Action) -> None:
    """Let a shell complete the ids of runs and sweeps."""

    def complete(prefix: str, **context: object) -> list[str]:
        from edlab import completion

        return completion.runs(prefix)

    argument.completer = complete  # type: ignore[attr-defined]


def add_format(parser: argparse.ArgumentParser, formats: Sequence[str] = FORMATS) -> None:
    """Add the option for the form of the output; the first of the formats is the default."""
    text = f"the form of the output (default: {formats[0]})"
    parser.add_argument("--format", choices=formats, default=formats[0], help=text)


def print_sheet(sheet: Sheet, form: str, console: Console) -> None:
    """Print the sheet in this form."""
    from edlab.reports.sheet import Format

    if form == Format.table:
        console.print(sheet)
    else:
        print(sheet.write(Format(form)), end="")  # noqa: T201  -- read by a program, not by a person


@contextmanager
def writing_output(place: Path) -> Iterator[None]:
    """Raise `StorageError` for any error of the file system."""
    try:
        yield
    except OSError as error:
        hint = "choose another --out"
        known = durable.storage_error(error, place, hint)
        raise known or StorageError(f"cannot write {place}: {error.strerror}", hint=hint) from error


def about_runs(
    commands: Any, name: str, text: str, examples: str, formats: Sequence[str] = FORMATS
) -> argparse.ArgumentParser:
    """A command about recorded runs, in one of these formats, of which the first is the default."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    runs = "runs, sweeps, result.json files, folders of sweeps, or 'all' (default: the latest sweep)"
    complete_runs(parser.add_argument("runs", nargs="*", metavar="RUN", help=runs))
    condition = "only runs that match MLflow's filter, for example \"params.`device.name` = 'cpu'\""
    parser.add_argument("--filter", default="", help=condition)
    add_format(parser, formats)
    return parser


def _compare(options: argparse.Namespace, console: Console) -> int:
    from edlab.comparison import compare, names, sorted_by
    from edlab.record import Status, as_text
    from edlab.reports.comparison import comparison_sheet
    from edlab.results import Results

    results = Results()
    records = results.find(options.runs, options.filter)
    baseline = results.one(options.baseline) if options.baseline else None
    key = names.group(options.by, records) if options.by else ""
    groups: dict[str, list[RunRecord]] = {}
    for record in records:
        groups.setdefault(as_text(record.params.get(key, "none")) if key else "", []).append(record)
    metrics = names.compared(records, options.sort or "")
    compared: dict[str, Comparison] = {}
    for name, members in groups.items():
        base = baseline or next((record for record in members if record.status is Status.ok), members[0])
        rows = members if base.uuid in {record.uuid for record in members} else [base, *members]
        ordered = sorted_by(rows, options.sort) if options.sort else rows
        compared[name] = compare(ordered, base, metrics, results.right)
    print_sheet(comparison_sheet(compared, key), options.format, console)
    report_problems(results)
    return 0


def _choose(options: argparse.Namespace, console: Console) -> int:
    from edlab.comparison import choose, names
    from edlab.record import VerdictState
    from edlab.reports.comparison import choice_sheet
    from edlab.results import Results

    results = Results()
    goal = options.maximize or options.minimize
    records = results.find(options.runs, options.filter, _needed(options, [goal, *_limits(options)]))
    constraints = _constraints(options, records)
    objective = names.objective(goal, bool(options.maximize), records)
    accepted = {
        "valid": {VerdictState.valid},
        "degraded": {VerdictState.valid, VerdictState.degraded},
        "any": set(VerdictState),
    }[options.verdict]
    right, estimates = results.right, options.allow_estimates
    choice = choose(records, constraints, objective, accepted, estimates=estimates, right=right)
    print_sheet(choice_sheet(records, constraints, choice), options.format, console)
    report_problems(results)
    return 0 if choice.best else 1


def _needed(options: argparse.Namespace, metrics: Sequence[str]) -> set[str] | None:
    """The metrics that a table about these needs; None for a form that programs read, which has all metrics."""
    from edlab.metrics import catalogue

    if options.format in ("csv", "json"):
        return None
    return catalogue.with_intervals([*metrics, *catalogue.accuracies(), "accuracy_drop"])


def _limits(options: argparse.Namespace) -> dict[str, tuple[str, float]]:
    """The option and the limit of each metric that is constrained."""
    values = {
        metric: (option, getattr(options, option.removeprefix("--").replace("-", "_")))
        for option, (metric, _, _) in _CONSTRAINTS.items()
    }
    return {metric: (option, limit) for metric, (option, limit) in values.items() if limit is not None}


def _constraints(options: argparse.Namespace, records: Sequence[RunRecord]) -> list[Constraint]:
    from edlab.comparison import Constraint, names

    found = []
    for metric, (option, limit) in _limits(options).items():
        if not math.isfinite(limit):
            raise ConfigError(f"{option} {limit} is not a number", hint="set a limit in the metric's unit")
        if metric.startswith(names.ACCURACY) and limit > 1:
            raise ConfigError(f"{option} {limit:g} is above 1", hint=f"write {limit:g} % as {limit / 100:g}")
        name = names.metric(metric, records) if metric == names.ACCURACY else metric
        found.append(Constraint(name, limit, _CONSTRAINTS[option][1]))
    return found


def _pareto(options: argparse.Namespace, console: Console) -> int:
    from edlab.comparison import front, names, reliable, sorted_by
    from edlab.reports.comparison import pareto_sheet
    from edlab.results import Results

    results = Results()
    found = results.find(options.runs, options.filter, _needed(options, [options.x, options.y]))
    x, y = (names.ranked(name, found) for name in (options.x, options.y))
    records = reliable(found)
    if not records:
        raise ConfigError("all runs failed or are INVALID", hint="`edlab compare` shows them with their verdicts")
    on_front = sorted_by(front(records, (x, y)), x)
    if not on_front:
        hint = "estimates do not count; `edlab compare` shows the metrics of each run"
        raise ConfigError(f"no run that is not INVALID has measured both {x} and {y}", hint=hint)
    print_sheet(pareto_sheet(records, on_front, x, y), options.format, console)
    report_problems(results)
    if options.out:
        from edlab.reports.pareto_plot import pareto_plot

        with writing_output(options.out):
            pareto_plot(records, on_front, x, y, options.out)
        console.print(f"written to {options.out}", markup=False, soft_wrap=True)
    return 0


def _check(options: argparse.Namespace, console: Console) -> int:
    from edlab.comparison import check, compare, names
    from edlab.reports.comparison import check_sheet
    from edlab.results import Results

    results = Results()
    records, baselines = results.find(options.runs, options.filter), results.find([options.baseline])
    limits = [names.limit(text, records) for text in options.max_regression]
    metrics = [limit.metric for limit in limits]
    findings: list[tuple[str, list[Finding]]] = []
    unchecked = {record.uuid for record in baselines}
    for record in (each for each in records if each.uuid not in unchecked):
        base = names.same_name(record, baselines)
        (baseline, row) = compare([base, record], base, metrics, results.right).rows
        found = check(row, baseline, limits, allow_invalid=options.allow_invalid)
        findings.append((f"{record.name} {record.run_id[:8]}".strip(), found))
    if not findings:
        raise ConfigError("no run to check: all are the baseline itself", hint="add the RUN or SWEEP to check")
    print_sheet(check_sheet(findings), options.format, console)
    report_problems(results)
    return 0 if all(finding.passed for _, found in findings for finding in found) else _REGRESSION


def report_problems(results: Results) -> None:
    """Print on standard error which runs, or which of their files, were not used, and why."""
    from edlab.terminal import PatientConsole

    console = PatientConsole(stderr=True)
    for problem, names in results.problems.items():
        more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
        text = f"{', '.join(names[:_MOST_NAMED])}{more}: {problem}"
        console.print(text, markup=False, highlight=False, soft_wrap=True)
