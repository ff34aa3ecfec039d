"""The table at the end of a sweep: one row per run, estimates marked as such, hints below."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from edlab.metrics import catalogue
from edlab.metrics.catalogue import Column
from edlab.record import RunRecord, Status, VerdictState, as_text

_VERDICT_STYLES = {VerdictState.valid: "green", VerdictState.degraded: "yellow", VerdictState.invalid: "red"}
_STATUS_STYLES = {
    Status.running: "cyan", Status.skipped: "yellow", Status.failed: "red", Status.interrupted: "red",
}  # fmt: skip
_NONE = "–"
_OPERATIONS = "flops_per_s"
_IN_USE = "model.input."  # derived from other parameters, which have columns if they differ

_SKEWED = 0.1  # a mean that differs by more from the median is not the latency of a usual query
# The mark of a value that was not measured on the target, by the prefix of its metric's name.
_MARKS = {"": "", "estimated_": "~", "emulated_": "≈"}


@dataclass(frozen=True)
class _Note:
    """A line below the table, and its indentation."""

    text: str
    style: str = ""
    indent: int = 0


_BOUNDARIES = {  # power_boundary -> what the watts include
    "rail": "one supply rail",
    "module": "the compute module or card",
    "package": "the processor package",
    "board_dc": "the input of the board",
    "usb": "the USB port",
    "wall_ac": "the wall socket",
}
_SETTING = "batch x in flight"  # the setting of the throughput
_SETTING_LINES = "batch x\nin flight"  # for the terminal's column
_NAMES = {"model": "model.name", "quant": "quantization.name", "converter": "converter.name", "device": "device.name"}


def _columns(records: Sequence[RunRecord]) -> dict[str, Column]:
    """The metrics' columns by name. Integer operations are not floating-point operations, so the heading is OP."""
    columns = {
        name: column
        for name, column in catalogue.columns().items()
        if not column.optional or any(_cell(record, name, column) != _NONE for record in records)
    }
    if any(str(record.params.get("quantization.precision", "")).startswith("int") for record in records):
        columns[_OPERATIONS] = dataclasses.replace(columns[_OPERATIONS], heading="GOP\n/s")
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
    notes = [Padding(Text(note.text, note.style), (0, 0, 0, note.indent), expand=False) for note in _notes(records)]
    return Group(*parts, "", *notes) if notes else Group(*parts)


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
        *(column.heading.replace("\n", " ").replace(" /", "/") for column in columns.values()),
        "verdict",
    ]
    lines = [titles, ["---"] * len(titles)]
    for number, record in enumerate(records, 1):
        names = [_name(record, heading).replace("|", "\\|") for heading in headings]
        lines.append([str(number), *names, *_cells(record, columns), _end(record)])
    rows = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    notes = "\n".join(f"{' ' * note.indent}- {note.text}" for note in _notes(records))
    return f"{rows}\n\n{notes}\n" if notes else f"{rows}\n"


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


def _notes(records: Sequence[RunRecord]) -> Iterator[_Note]:
    """The notes below the table: the meaning of marks, why rows failed, why verdicts are not VALID, and the fixes."""
    estimated = [record for record in records if "estimated_power_w" in record.metrics]
    if estimated:
        sources = "; ".join(sorted({record.tags.get("power_source", "the specification") for record in estimated}))
        yield _Note(f"~ estimated, not measured: {sources}", "dim")
    if any(name.startswith("emulated_") for record in records for name in record.metrics):
        yield _Note("≈ measured on a stand-in for the device", "dim")
    for reason, numbers in _unrecorded(records).items():
        yield _Note(f"not in MLflow yet ({_rows(numbers, records)}): {reason}", "yellow")
    for entry, numbers in _rebuilt(records).items():
        yield _Note(f"damaged in the cache and rebuilt ({_rows(numbers, records)}): {entry}", "dim")
    yield from _uncertainty(records)
    yield from _medians(records)
    yield from _boundaries(records)
    for kernels, numbers in _int8_kernels(records).items():
        yield _Note(f"int8 kernels ({_rows(numbers, records)}): {kernels}", "dim")
    for reason, numbers in _batch_one_only(records).items():
        yield _Note(f"batch 1 only ({_rows(numbers, records)}): {reason}", "dim")
    untrained = [n for n, record in enumerate(records, 1) if record.tags.get("weights") == "untrained"]
    if untrained and not all(records[n - 1].verdict for n in untrained):  # else the verdict reports it
        yield _Note(f"untrained_weights ({_rows(untrained, records)}): the weights are random", "yellow")
    for (where, reason, hint), numbers in _failures(records).items():
        yield _Note(f"{_rows(numbers, records)}{where}: {reason}")
        if hint:
            yield _Note(hint, "cyan", indent=3)
        converted = [records[n - 1].run_id[:8] for n in numbers if "artifact_sha256" in records[n - 1].tags]
        if kept := list(filter(None, converted)):  # an unrecorded run has no id
            run = kept[0] if len(kept) == 1 else f"RUN, with RUN one of {', '.join(kept)}"
            yield _Note(f"the converted model is saved: edlab pull {run}", "dim", indent=3)
    for (advice, affected), codes in _verdict_reasons(records).items():
        yield _Note(f"{', '.join(codes)} ({_rows(affected, records)}): {advice}", "yellow")


def _unrecorded(records: Sequence[RunRecord]) -> dict[str, list[int]]:
    """Why rows are not in MLflow yet, and which rows."""
    rows: dict[str, list[int]] = {}
    for number, record in enumerate(records, 1):
        if record.unrecorded:
            rows.setdefault(record.unrecorded, []).append(number)
    return rows


def _rebuilt(records: Sequence[RunRecord]) -> dict[str, list[int]]:
    """The damaged entries of the cache, and the rows that found them."""
    rows: dict[str, list[int]] = {}
    for number, record in enumerate(records, 1):
        for entry in record.details.get("cache_dropped", ()):
            rows.setdefault(entry, []).append(number)
    return rows


def _uncertainty(records: Sequence[RunRecord]) -> Iterator[_Note]:
    """What the interval includes, and what it does not."""
    single = [n for n, record in enumerate(records, 1) if "latency_uncertainty" in _measured(record)]
    repeated = [n for n in single if "latency_run_spread" in _measured(records[n - 1])]
    if repeated:
        yield _Note(f"± 95 % interval over repeats in new processes ({_rows(repeated, records)})", "dim")
    if len(repeated) < len(single):
        yield _Note(
            "± 95 % interval within one run, without the differences between processes: protocol.repeats=5 "
            "measures them",
            "dim",
        )


def _medians(records: Sequence[RunRecord]) -> Iterator[_Note]:
    """The median latency of rows whose mean is far from it, because of slow queries or of bursts of other load."""
    latency = catalogue.columns()["latency_ms"]
    medians = [
        f"#{number} {latency.write(median)}"
        for number, record in enumerate(records, 1)
        if (median := record.metrics.get("latency_p50_ms"))
        if abs(record.metrics["latency_ms"] / median - 1) > _SKEWED
    ]
    if medians:
        yield _Note(f"ms is the mean, which slow queries raise; the median is {', '.join(medians)}", "dim")


def _measured(record: RunRecord) -> set[str]:
    """The names of a record's measured metrics, emulated or not."""
    return {name.removeprefix("emulated_") for name in record.metrics}


def _boundaries(records: Sequence[RunRecord]) -> Iterator[_Note]:
    """What the measured watts include, by row if rows differ."""
    rows: dict[str, list[int]] = {}
    for number, record in enumerate(records, 1):
        if "power_w" in record.metrics and (boundary := record.tags.get("power_boundary")):
            rows.setdefault(boundary, []).append(number)
    for boundary, numbers in rows.items():
        which = "" if len(rows) == 1 else f" ({_rows(numbers, records)})"
        included = f"{_BOUNDARIES[boundary]} ({boundary})" if boundary in _BOUNDARIES else boundary
        yield _Note(f"W{which}: measured at {included}", "dim")
    if len(rows) > 1:
        yield _Note("W and inf/s/W are not comparable between rows whose watts include different parts", "yellow")


def _int8_kernels(records: Sequence[RunRecord]) -> dict[str, list[int]]:
    """The kernels of int8 rows, and the rows of each."""
    rows: dict[str, list[int]] = {}
    for number, record in enumerate(records, 1):
        if kernels := record.tags.get("int8_kernels"):
            arithmetic = record.tags.get("int8_arithmetic")
            rows.setdefault(f"{kernels}, {arithmetic}" if arithmetic else kernels, []).append(number)
    return rows


def _batch_one_only(records: Sequence[RunRecord]) -> dict[str, list[int]]:
    """Why rows could not try a larger batch, and the rows of each reason; only if other rows could."""
    larger = any(_setting(record)[:2] not in ("1 ", _NONE) for record in records)
    rows: dict[str, list[int]] = {}
    for number, record in enumerate(records, 1):
        if larger and (reason := record.tags.get("batch_one_only")):
            rows.setdefault(reason, []).append(number)
    return rows


def _rows(numbers: Sequence[int], records: Sequence[RunRecord]) -> str:
    return "all rows" if len(numbers) == len(records) > 1 else ", ".join(f"#{number}" for number in numbers)


def _failures(records: Sequence[RunRecord]) -> dict[tuple[str, str, str], list[int]]:
    """Where and why rows failed, the fix, and the rows of each."""
    rows: dict[tuple[str, str, str], list[int]] = {}
    for number, record in enumerate(records, 1):
        if record.status not in (Status.ok, Status.running):
            where = f" at {record.stage}" if record.stage else ""
            rows.setdefault((where, record.reason, record.hint), []).append(number)
    return rows


def _verdict_reasons(records: Sequence[RunRecord]) -> dict[tuple[str, tuple[int, ...]], list[str]]:
    """Each advice with its rows, and the codes that have it there."""
    rows: dict[tuple[str, str], list[int]] = {}
    for number, record in enumerate(records, 1):
        for reason in record.verdict.reasons if record.verdict else ():
            rows.setdefault((reason.code, reason.advice), []).append(number)
    codes: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for (code, advice), numbers in rows.items():
        codes.setdefault((advice, tuple(numbers)), []).append(code)
    return codes
