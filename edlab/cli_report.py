"""`edlab report`: recorded runs as one page of HTML, or its charts as pictures."""

from __future__ import annotations

import argparse
import csv
import math
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from edlab import __version__, durable
from edlab.cli_results import about_runs, report_problems, writing_output
from edlab.errors import ConfigError, EdlabError

if TYPE_CHECKING:
    from edlab.record import RunRecord
    from edlab.reports.report import Power
    from edlab.results import Results

_FORMATS = ("html", "png", "svg")  # the last two: the charts as pictures
_EXAMPLES = """\
examples:
  edlab report                                             the latest sweep, in report.html
  edlab report 20261127-1830 20261128-0900 --out both.html
  edlab report --published docs/examples/coral_published.csv
  edlab report --format svg --out figures                  the charts as pictures, in a folder"""
_POWER_RUNS = 4  # whose readings are shown
_POWER_POINTS = 1000  # of each
_TARGETS = 8  # whose environment is shown
_PROFILES = 8  # of the runs that have one


def add_parser(commands: Any) -> None:
    """Add the command to the subparsers of `edlab`."""
    text = "write a report with charts that opens without a network"
    parser = about_runs(commands, "report", text, _EXAMPLES, _FORMATS)
    out = "the file (default: report.html); with png or svg the folder (default: report)"
    parser.add_argument("--out", type=Path, metavar="PATH", help=out)
    published = "a CSV file of published figures to show as hollow marks: model, device, metric, value, source"
    parser.add_argument("--published", type=Path, metavar="CSV", help=published)
    parser.set_defaults(action=_report)


def _report(options: argparse.Namespace, console: Console) -> int:
    from edlab.reports.report import read_published
    from edlab.results import Results

    published = read_published(options.published) if options.published else []
    out = options.out or Path("report.html" if options.format == "html" else "report")
    _check(out, options.format)
    results = Results()
    records = results.find(options.runs, options.filter)
    report_problems(results)
    if options.format != "html":
        from edlab.reports.sweep import draw

        with writing_output(out):
            out.mkdir(parents=True, exist_ok=True)
            written = draw(records, _heading(records), out, f".{options.format}")
        if not written:
            raise ConfigError("no run has a value to draw", hint="`edlab report` writes a page with the reasons")
        for path in written:
            console.print(f"written to {path}", markup=False, soft_wrap=True)
        return 0
    from edlab.reports.report import Content, page

    html = page(
        Content(
            records,
            heading=_heading(records),
            created=f"edlab {__version__}, {time.strftime('%Y-%m-%d %H:%M %z')}",
            published=published,
            power=_power(results, records),
            complete=_complete(results, _one_per_target(records)[:_TARGETS]),
            profiled=_complete(results, [each for each in records if _has_profile(each)][:_PROFILES]),
            address=results.address,
            right=results.right,
        )
    )
    with writing_output(out):
        durable.write_text(out, html)
    count = "1 run" if len(records) == 1 else f"{len(records)} runs"
    console.print(f"{count} written to {out}: open it in a browser", markup=False, soft_wrap=True)
    return 0


def _check(out: Path, form: str) -> None:
    """Refuse a place that cannot be written, before the runs are read."""
    if form == "html" and out.is_dir():
        raise ConfigError(f"{out} is a folder", hint=f"write --out {out / 'report.html'}")
    if form != "html" and out.is_file():
        raise ConfigError(f"{out} is a file", hint=f"with --format {form}, --out is a folder")
    if form == "html" and not out.absolute().parent.is_dir():
        raise ConfigError(f"folder not found: {out.parent}", hint="create it, or choose another --out")


def _heading(records: Sequence[RunRecord]) -> str:
    sweeps = list(dict.fromkeys(record.sweep_id for record in records))
    if len(records) == 1:
        return f"{records[0].name} {records[0].run_id[:8]}".strip()
    return f"Sweep {sweeps[0]}" if len(sweeps) == 1 else f"{len(records)} runs of {len(sweeps)} sweeps"


def _one_per_target(records: Sequence[RunRecord]) -> list[RunRecord]:
    """A run for each device and machine, the measured ones first."""
    from edlab.comparison import machine

    ordered = sorted(records, key=lambda each: not each.metrics)
    targets = {(each.params.get("device.name"), machine(each)): each for each in reversed(ordered)}
    return list(reversed(targets.values()))


def _has_profile(record: RunRecord) -> bool:
    from edlab.record import Status

    return record.status is Status.ok and record.params.get("protocol.profile") is True


def _complete(results: Results, records: Sequence[RunRecord]) -> list[RunRecord]:
    """The runs with the details of their files; without those whose files were deleted."""
    found = []
    for record in records:
        try:
            found.append(results.complete(record))
        except EdlabError:
            continue
    return found


def _power(results: Results, records: Sequence[RunRecord]) -> dict[str, Power]:
    """The readings of a few runs with measured power, the most efficient first."""
    from edlab.reports.report import Power

    measured = [each for each in records if "power_readings" in each.metrics]
    ranked = sorted(measured, key=lambda each: -each.metrics.get("efficiency_ips_per_w", 0.0))
    found: dict[str, Power] = {}
    with tempfile.TemporaryDirectory() as folder:
        for record in ranked[:_POWER_RUNS]:
            try:
                text = results.file(record, "power_samples.csv", Path(folder)).read_text()
                read = [(int(row["time_ns"]), float(row["power_w"])) for row in csv.DictReader(text.splitlines())]
            except (EdlabError, OSError, KeyError, TypeError, ValueError):  # deleted, or damaged
                continue
            if rows := [(t_ns, watts) for t_ns, watts in read if math.isfinite(watts)]:
                kept = rows[:: -(-len(rows) // _POWER_POINTS)]
                found[record.uuid] = Power([(t_ns - rows[0][0]) / 1e9 for t_ns, _ in kept], [w for _, w in kept])
    return found
