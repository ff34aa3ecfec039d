"""The table at the end of a sweep: one row per run, estimates marked as such, hints below."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from edlab.metrics import catalogue
from edlab.metrics.catalogue import Column
from edlab.record import RunRecord, Status, VerdictState, as_text
from edlab.reports.notes import notes

_VERDICT_STYLES = {VerdictState.valid: "green", VerdictState.degraded: "yellow", VerdictState.invalid: "red"}
_STATUS_STYLES = {
    Status.running: "cyan", Status.skipped: "yellow", Status.failed: "red", Status.interrupted: "red",
}  # fmt: skip
_NONE = "–"
_OPERATIONS = "flops_per_s"
_POWER = "power_w"
_IN_USE = "model.input."  # derived from other parameters, which have columns if they differ

# The mark of a value that was not measured on the target, by the prefix of its metric's name.
_MARKS = {"": "", "estimated_": "~", "emulated_": "≈"}


_SETTING = "batch x in flight"  # the setting of the throughput
_SETTING_LINES = "batch x\nin flight"  # for the terminal's column
_NAMES = {"model": "model.name", "quant": "quantization.name", "converter": "converter.name", "device": "device.name"}


def _columns(records: Sequence[RunRecord]) -> dict[str, Column]:
    """The metrics' columns by name.

    Integer operations are not floating-point operations, so the heading is OP. The heading of power has what the watts
    include, if that is the same in all rows; otherwise a note has it for each row.
    """
    columns = {
        name: column
        for name, column in catalogue.columns().items()
        if not column.optional or any(_cell(record, name, column) != _NONE for record in records)
    }
    if any(str(record.params.get("quantization.precision", "")).startswith("int") for record in records):
        columns[_OPERATIONS] = dataclasses.replace(columns[_OPERATIONS], heading="GOP\n/s")
    boundaries = {record.tags.get("power_boundary") for record in records if _POWER in record.metrics}
    if len(boundaries) == 1 and (boundary := boundaries.pop()):
        columns[_POWER] = dataclasses.replace(columns[_POWER], heading=f"W\n{boundary}")
    return columns


def table(records: Sequence[RunRecord]) -> RenderableType:
    """The rows of a sweep for the terminal, then the meaning of the marks and the fix for each failure.

    Values that all rows share are above the table, so that it fits a narrow terminal. In a narrow terminal names wrap;
    metrics, settings and verdicts do not.
    """
    headings = _headings(records)
    shared = {heading: values.pop() for heading in headings if len(values := _values(records, heading)) == 1}
    kept = [heading for heading in headings if heading not in shared] or ["model"]
    rows = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0), collapse_padding=True)
    rows.add_column("#", justify="right")
    for heading in kept:
        figure = heading == _SETTING
        rows.add_column(_SETTING_LINES if figure else _short(heading), overflow="fold", no_wrap=figure)
    columns = _columns(records)
    for column in columns.values():
        rows.add_column(column.heading, justify="right", no_wrap=True)
    rows.add_column("verdict", no_wrap=True)
    for number, record in enumerate(records, 1):
        names = [escape(_name(record, heading)) for heading in kept]
        rows.add_row(str(number), *names, *_cells(record, columns), _styled_end(record))
    title = ", ".join(f"{_short(heading)} {value}" for heading, value in shared.items() if heading not in kept)
    parts: list[RenderableType] = [Text(title, "bold"), rows] if title else [rows]
    below = [
        Padding(Text(note.text, note.style), (0, 0, 0, note.indent), expand=False) for note in notes(records, columns)
    ]
    return Group(*parts, "", *below) if below else Group(*parts)


def listing(records: Sequence[RunRecord]) -> RenderableType:
    """Runs grouped by sweep, with the ids for `edlab show` and `edlab pull`."""
    rows = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0), collapse_padding=True)
    rows.add_column("run", no_wrap=True)
    rows.add_column("name", overflow="fold")
    columns = {name: column for name, column in _columns(records).items() if column.listed}
    for column in columns.values():
        rows.add_column(column.heading, justify="right", no_wrap=True)
    rows.add_column("verdict", no_wrap=True)
    for sweep_id, runs in itertools.groupby(records, key=lambda record: record.sweep_id):
        rows.add_row("", Text(f"sweep {sweep_id}", "dim"))
        for record in runs:
            rows.add_row(record.run_id[:8], escape(record.name), *_cells(record, columns), _styled_end(record))
    return rows


def markdown(records: Sequence[RunRecord]) -> str:
    """The rows and notes in Markdown."""
    headings = _headings(records)
    titles = [_short(heading) for heading in headings]
    columns = _columns(records)
    titles = [
        "#",
        *titles,
        *(column.title for column in columns.values()),
        "verdict",
    ]
    lines = [titles, ["---"] * len(titles)]
    for number, record in enumerate(records, 1):
        names = [_name(record, heading).replace("|", "\\|") for heading in headings]
        lines.append([str(number), *names, *_cells(record, columns), _end(record)])
    rows = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    below = "\n".join(f"{' ' * note.indent}- {note.text}" for note in notes(records, columns))
    return f"{rows}\n\n{below}\n" if below else f"{rows}\n"


def _headings(records: Sequence[RunRecord]) -> list[str]:
    """The four names of a run, and other parameters that distinguish rows of this sweep.

    A setting distinguishes rows if it differs between rows with the same name in its group: the precision of int8 and
    fp32 rows needs no column, but different calibrations of two int8 rows do.
    """
    keys = list(dict.fromkeys(key for record in records for key in record.params if not key.startswith(_IN_USE)))
    names = [key for key in keys if key.endswith(".name") and key not in _NAMES.values()]
    return [
        *_NAMES,
        *(key for key in names if _differs(records, key, within="")),
        *(key for key in keys if not key.endswith(".name") and _differs(records, key, f"{key.partition('.')[0]}.name")),
        *([_SETTING] if any(_setting(record) != _NONE for record in records) else []),
    ]


def _values(records: Sequence[RunRecord], heading: str) -> set[str]:
    """The values of the rows under a heading; a row without a throughput does not count for its setting."""
    values = {_name(record, heading) for record in records}
    return values - {_NONE} if heading == _SETTING else values


def _differs(records: Sequence[RunRecord], key: str, within: str) -> bool:
    """Whether rows of one value of `within` have several values of `key`; rows without it are ignored."""
    values: dict[str, set[str]] = {}
    for record in records:
        if key in record.params:
            values.setdefault(str(record.params.get(within)), set()).add(as_text(record.params[key]))
    return any(len(found) > 1 for found in values.values())


def _setting(record: RunRecord) -> str:
    """The batch and the requests in flight of the throughput, as "64 x 2"."""
    for prefix in _MARKS:
        batch = record.metrics.get(f"{prefix}throughput_batch")
        in_flight = record.metrics.get(f"{prefix}throughput_in_flight")
        if batch is not None and in_flight is not None:
            return f"{batch:.0f} x {in_flight:.0f}"
    return _NONE


def _name(record: RunRecord, heading: str) -> str:
    if heading == _SETTING:
        return _setting(record)
    return as_text(record.params.get(_NAMES.get(heading, heading), _NONE))


def _short(heading: str) -> str:
    return heading.removesuffix(".name").rpartition(".")[2]


def _cells(record: RunRecord, columns: Mapping[str, Column]) -> list[str]:
    return [_cell(record, name, column) for name, column in columns.items()]


def _cell(record: RunRecord, name: str, column: Column) -> str:
    for prefix, mark in _MARKS.items():
        if (value := record.metrics.get(prefix + name)) is not None:
            return mark + column.write(value)
    return _NONE


def _end(record: RunRecord) -> str:
    if record.status is not Status.ok:
        return record.status.upper()
    return str(record.verdict.state) if record.verdict else _NONE


def _styled_end(record: RunRecord) -> Text:
    if record.status is not Status.ok:
        return Text(_end(record), _STATUS_STYLES[record.status])
    return Text(_end(record), _VERDICT_STYLES[record.verdict.state] if record.verdict else "")
