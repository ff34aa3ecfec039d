"""The table at the end of a sweep: one row per run, estimates marked as such, hints below."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from edlab.comparison import differing, names, sorted_by, trade_off, winners
from edlab.metrics import catalogue
from edlab.metrics.catalogue import Column
from edlab.predictions_file import Right, unknown
from edlab.record import RunRecord, Status, VerdictState, as_text
from edlab.reports.notes import notes
from edlab.reports.sheet import Cell, Heading, Note, Sheet

_VERDICT_STYLES = {VerdictState.valid: "green", VerdictState.degraded: "yellow", VerdictState.invalid: "red"}
_STATUS_STYLES = {
    Status.running: "cyan", Status.skipped: "yellow", Status.failed: "red", Status.interrupted: "red",
}  # fmt: skip
_NONE = "–"
_OPERATIONS = "flops_per_s"
_POWER = "power_w"

# The mark of a value that was not measured on the target, by the prefix of its metric's name.
_EMULATED = "≈"
MARKS = {"": "", "estimated_": "~", "emulated_": _EMULATED}


ID = 8  # characters of a run's id, which edlab's commands accept
_BEST = "*"
_ON_FRONT = "◆ "
_LONGEST_LIST = 32  # characters
_SETTING = "batch x in flight"  # the setting of the throughput
_SETTING_LINES = "batch x\nin flight"  # for the terminal's column
NAMES = {"model": "model.name", "quant": "quantization.name", "converter": "converter.name", "device": "device.name"}


def columns_of(records: Sequence[RunRecord]) -> dict[str, Column]:
    """The columns of the metrics by name, for these runs.

    Integer operations are not floating-point operations, so the heading is OP. The heading of power has what the watts
    include, if that is the same in all rows; otherwise a note has it for each row.
    """
    found = {
        name: column
        for name, column in catalogue.columns().items()
        if not column.optional or any(cell_text(record, name, column) != _NONE for record in records)
    }
    if any(str(record.params.get("quantization.precision", "")).startswith("int") for record in records):
        found[_OPERATIONS] = dataclasses.replace(found[_OPERATIONS], heading="GOP\n/s")
    boundaries = {record.tags.get("power_boundary") for record in records if _POWER in record.metrics}
    if len(boundaries) == 1 and (boundary := boundaries.pop()):
        found[_POWER] = dataclasses.replace(found[_POWER], heading=f"W\n{boundary}")
    return found


def metric_headings(names: Sequence[str], records: Sequence[RunRecord]) -> dict[str, str]:
    """The heading of the column of each metric, for these runs."""
    columns = columns_of(records)
    return {name: columns.get(name, catalogue.column(name)).heading for name in names}


def table(records: Sequence[RunRecord], sort: str = "", right: Right = unknown) -> Sheet:
    """The rows of a sweep, then the meaning of the marks and the fix for each failure.

    With `sort`, the best value of that metric is first. Marks of accuracies are from a comparison image by image, as
    far as `right` knows the runs. Values that all rows share are in the title, so that the table
    fits a narrow terminal.
    """
    records = sorted_by(records, names.metric(sort, records)) if sort else records
    headings = _headings(records)
    shared = {heading: values.pop() for heading in headings if len(values := _values(records, heading)) == 1}
    kept = [heading for heading in headings if heading not in shared] or ["model"]
    columns = columns_of(records)
    with_ids = any(record.run_id for record in records)
    best, front = winners(records, columns, right), {record.uuid for record in trade_off(records)}
    sheet = Sheet([Heading("#", is_number=True), *([Heading("run")] if with_ids else []), *map(_heading, kept)])
    for name, column in columns.items():
        sheet.headings.append(Heading(column.heading, is_number=True, is_spare=name == _OPERATIONS))
    sheet.headings.append(Heading("verdict"))
    sheet.title = ", ".join(f"{short(heading)} {value}" for heading, value in shared.items() if heading not in kept)
    for number, record in enumerate(records, 1):
        mark = _ON_FRONT if record.uuid in front else ""
        ids = [Cell(record.run_id[:ID], "dim")] if with_ids else []
        settings = [Cell(_name(record, heading)) for heading in kept]
        sheet.rows.append([Cell(f"{mark}{number}"), *ids, *settings, *_cells(record, columns, best), end_cell(record)])
        sheet.data.append(data(record, headings))
    sheet.notes = [*notes(records, columns), *_marks(records, best, front)]
    return sheet


def _heading(name: str) -> Heading:
    return Heading(_SETTING_LINES, is_spare=True) if name == _SETTING else Heading(short(name), is_name=True)


def listing(records: Sequence[RunRecord], sort: str = "") -> Sheet:
    """Runs grouped by sweep, with the ids for `edlab show` and `edlab pull`; sorted by a metric they are one group."""
    columns = {name: column for name, column in columns_of(records).items() if column.listed}
    sheet = Sheet([Heading("run"), Heading("name", is_name=True)])
    sheet.headings += [Heading(column.heading, is_number=True) for column in columns.values()] + [Heading("verdict")]
    groups = itertools.groupby(records, key=lambda record: record.sweep_id)
    for sweep_id, runs in [("", sorted_by(records, names.metric(sort, records)))] if sort else groups:
        sheet.rows += [f"sweep {sweep_id}"] if sweep_id else []
        for record in runs:
            cells = [Cell(record.run_id[:ID]), Cell(record.name), *_cells(record, columns), end_cell(record)]
            sheet.rows.append(cells)
            sheet.data.append(data(record, list(NAMES)))
    return sheet


def data(record: RunRecord, headings: Sequence[str] = tuple(NAMES)) -> dict[str, Any]:
    """A run for programs: how it ended, the settings under these headings, and all metrics by their names."""
    keys = [NAMES.get(heading, heading) for heading in headings if heading != _SETTING]
    facts = {
        "run": record.run_id,
        "name": record.name,
        "sweep": record.sweep_id,
        "started_at": record.started_at,
        "status": str(record.status),
        "verdict": str(record.verdict.state) if record.verdict else "",
        "reasons": ", ".join(reason.code for reason in record.verdict.reasons) if record.verdict else "",
        "failure": record.reason,
    }
    ranks = _ranks()
    metrics = sorted(record.metrics, key=lambda name: ranks.get(name, len(ranks)))
    return facts | {key: record.params.get(key) for key in keys} | {name: record.metrics[name] for name in metrics}


@functools.cache
def _ranks() -> dict[str, int]:
    """The place of each metric: the headlines, then the catalogue's order."""
    order = [name for metric in catalogue.CATALOGUE for name in metric.names]
    return {name: rank for rank, name in enumerate([*catalogue.headlines(), *order])}


def _marks(records: Sequence[RunRecord], best: Mapping[str, set[str]], front: set[str]) -> Iterator[Note]:
    """The meaning of the marks of the best values and of the Pareto front."""
    if best:
        emulated = any(name.startswith("emulated_") for record in records for name in record.metrics)
        also = f", nor do {_EMULATED} values next to measured ones" if emulated else ""
        text = f"the best of its column, or not shown to be worse (INVALID rows do not count{also})"
        yield Note(f"{_BEST} {text}", "dim")
    if front:
        text = "on the Pareto front: no other row has a better accuracy and a lower latency"
        yield Note(f"{_ON_FRONT.strip()} {text}", "dim")


def _headings(records: Sequence[RunRecord]) -> list[str]:
    """The four names of a run, and other parameters that distinguish rows of this sweep.

    A setting distinguishes rows if it differs between rows with the same name in its group: the precision of int8 and
    fp32 rows needs no column, but different calibrations of two int8 rows do.
    """
    keys = [key for key in differing(records) if key not in NAMES.values()]
    setting = [_SETTING] if any(_setting(record) != _NONE for record in records) else []
    return [*NAMES, *sorted(keys, key=lambda key: not key.endswith(".name")), *setting]


def _values(records: Sequence[RunRecord], heading: str) -> set[str]:
    """The values of the rows under a heading; a row without a throughput does not count for its setting."""
    values = {_name(record, heading) for record in records}
    return values - {_NONE} if heading == _SETTING else values


def _setting(record: RunRecord) -> str:
    """The batch and the requests in flight of the throughput, as "64 x 2"."""
    for prefix in MARKS:
        batch = record.metrics.get(f"{prefix}throughput_batch")
        in_flight = record.metrics.get(f"{prefix}throughput_in_flight")
        if batch is not None and in_flight is not None:
            return f"{batch:.0f} x {in_flight:.0f}"
    return _NONE


def _name(record: RunRecord, heading: str) -> str:
    if heading == _SETTING:
        return _setting(record)
    return setting_text(record.params.get(NAMES.get(heading, heading), _NONE))


def setting_text(value: Any) -> str:
    """The value of a setting for a column; of a long list its length, since the column would fill the terminal."""
    text = as_text(value)
    return f"{len(value)} values" if isinstance(value, list) and len(text) > _LONGEST_LIST else text


def short(heading: str) -> str:
    return heading.removesuffix(".name").rpartition(".")[2]


def _cells(
    record: RunRecord, columns: Mapping[str, Column], best: Mapping[str, set[str]] = MappingProxyType({})
) -> list[Cell]:
    cells = []
    for name, column in columns.items():
        is_best = record.uuid in best.get(name, ())
        mark = _BEST if is_best else " " if best.get(name) else ""
        cells.append(Cell(cell_text(record, name, column) + mark, "bold" if is_best else ""))
    return cells


def cell_text(record: RunRecord, name: str, column: Column) -> str:
    """The value of a metric with the mark of its origin; a dash if the run has none."""
    for prefix, mark in MARKS.items():
        if (value := record.metrics.get(prefix + name)) is not None:
            return mark + column.write(value)
    return _NONE


def end_cell(record: RunRecord) -> Cell:
    """How the run ended, in the colour of its verdict or status."""
    if record.status is not Status.ok:
        return Cell(record.ending, _STATUS_STYLES[record.status])
    return Cell(record.ending or _NONE, _VERDICT_STYLES[record.verdict.state] if record.verdict else "")
