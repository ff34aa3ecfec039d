"""The comparison that ends a sweep: one row a run, what is estimated marked as such, hints below."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from edlab.record import RunRecord, Status, VerdictState

_VERDICT_STYLES = {VerdictState.valid: "green", VerdictState.degraded: "yellow", VerdictState.invalid: "red"}
_NONE = "–"


@dataclass(frozen=True)
class _Column:
    """A metric's column: its heading, its measured name, the name of its estimate, and how a value is written."""

    heading: str
    metric: str
    estimate: str = ""
    scale: float = 1.0
    form: str = ""  # empty: three significant digits


_METRICS = (
    _Column("top-1 %", "accuracy_top1", scale=100, form="{:.1f}"),
    _Column("drop", "accuracy_drop", scale=100, form="{:+.1f}"),
    _Column("ms", "latency_ms"),
    _Column("inf/s", "throughput_ips"),
    _Column("GFLOP/s", "flops_per_s", scale=1e-9),
    _Column("W", "power_w", "estimated_power_w"),
    _Column("inf/s/W", "efficiency_ips_per_w", "estimated_efficiency_ips_per_w"),
)
_NAMES = {"model": "model.name", "quant": "quantization.name", "converter": "converter.name", "device": "device.name"}


def table(records: Sequence[RunRecord]) -> RenderableType:
    """The rows of a sweep for the terminal, then what the marks mean and what to do about each failure.

    What all rows share stands above the table, so that it fits a narrow terminal.
    """
    headings = _varying(records)
    shared = [heading for heading in headings if len({_name(record, heading) for record in records}) == 1]
    kept = [heading for heading in headings if heading not in shared] or ["model"]
    rows = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0), collapse_padding=True)
    rows.add_column("#", justify="right")
    for heading in kept:
        rows.add_column(_short(heading), overflow="fold")
    for column in _METRICS:
        rows.add_column(column.heading, justify="right", no_wrap=True)
    rows.add_column("verdict", overflow="fold")
    for number, record in enumerate(records, 1):
        names = [escape(_name(record, heading)) for heading in kept]
        rows.add_row(str(number), *names, *(_cell(record, column) for column in _METRICS), _end(record))
    title = ", ".join(f"{_short(heading)} {_name(records[0], heading)}" for heading in shared if heading not in kept)
    return Group(*([f"[bold]{escape(title)}[/]"] if title else []), rows, *_notes(records))


def markdown(records: Sequence[RunRecord]) -> str:
    """The same rows as a Markdown table."""
    headings = [*_varying(records), *(column.heading for column in _METRICS), "verdict"]
    lines = [headings, ["---"] * len(headings)]
    for record in records:
        verdict = str(record.verdict.state) if record.verdict else f"{record.status} at {record.step}"
        names = [_name(record, heading) for heading in _varying(records)]
        lines.append([*names, *(_cell(record, column) for column in _METRICS), verdict])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _varying(records: Sequence[RunRecord]) -> list[str]:
    """The headings that name a run, and the parameters in which the rows of this sweep differ besides them."""
    keys = sorted({key for record in records for key in record.params} - set(_NAMES.values()))
    differing = [key for key in keys if len({str(record.params.get(key)) for record in records}) > 1]
    settings = [key for key in differing if key.startswith(("quantization.calibration.", "device.threads"))]
    settings += [key for key in ("quantization.granularity", "quantization.activations") if key in differing]
    return [*_NAMES, *settings]


def _name(record: RunRecord, heading: str) -> str:
    return str(record.params.get(_NAMES.get(heading, heading), _NONE))


def _short(heading: str) -> str:
    return heading.rpartition(".")[2]


def _cell(record: RunRecord, column: _Column) -> str:
    if column.metric in record.metrics:
        return _write(record.metrics[column.metric] * column.scale, column.form)
    if column.estimate in record.metrics:
        return "~" + _write(record.metrics[column.estimate] * column.scale, column.form)
    return _NONE


def _write(value: float, form: str) -> str:
    if form:
        return form.format(value)
    decimals = 2 - math.floor(math.log10(abs(value))) if value else 0
    return f"{value:,.{max(0, decimals)}f}"


def _end(record: RunRecord) -> str:
    if record.status is not Status.ok:
        return f"[red]{record.status.upper()}[/]" + (f" at {record.step}" if record.step else "")
    if record.verdict is None:
        return _NONE
    return f"[{_VERDICT_STYLES[record.verdict.state]}]{record.verdict.state}[/]"


def _notes(records: Sequence[RunRecord]) -> list[str]:
    """Below the table: what ~ means, why rows did not end well, and why verdicts are not VALID, with the mends."""
    notes = []
    if sources := sorted({r.tags.get("power_source", "") for r in records if "estimated_power_w" in r.metrics}):
        notes.append(f"[dim]~ estimated, not measured: {escape('; '.join(sources))}[/]")
    for number, record in enumerate(records, 1):
        if record.status is not Status.ok:
            notes.append(f"#{number} {escape(record.reason)}")
            notes += [f"   [cyan]{escape(record.hint)}[/]"] if record.hint else []
    notes += [
        f"[yellow]{code}[/] (#{', #'.join(map(str, numbers))}) {escape(advice)}"
        for (code, advice), numbers in _verdict_reasons(records).items()
    ]
    return ["", *notes] if notes else []


def _verdict_reasons(records: Sequence[RunRecord]) -> dict[tuple[str, str], list[int]]:
    """Each reason with its advice, and the rows that it holds for."""
    rows: dict[tuple[str, str], list[int]] = {}
    for number, record in enumerate(records, 1):
        for reason in record.verdict.reasons if record.verdict else ():
            rows.setdefault((reason.code, reason.advice), []).append(number)
    return rows
