"""The notes below a table: the meaning of its marks, why values are missing, why rows failed, and what to change."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from edlab.metrics import catalogue
from edlab.metrics.catalogue import Column
from edlab.record import RunRecord, Status
from edlab.reports.sheet import Note

_INVALID = "!"  # the mark of a reason that makes its row INVALID
_SKEWED = 0.1  # a mean that differs by more from the median is not the latency of a usual query
_BOUNDARIES = {  # power_boundary -> what the watts include
    "rail": "one supply rail",
    "module": "the compute module or card",
    "package": "the processor package",
    "board_dc": "the input of the board",
    "usb": "the USB port",
    "wall_ac": "the wall socket",
}

_Key = TypeVar("_Key", bound=Hashable)


def notes(records: Sequence[RunRecord], columns: Mapping[str, Column]) -> Iterator[Note]:
    """All notes on a table of these rows, with these columns by the name of their metric."""
    if untrained := [n for n, record in enumerate(records, 1) if record.tags.get("weights") == "untrained"]:
        yield Note(f"UNTRAINED ({_rows(untrained, records)}): the weights are random", "yellow")
    yield from _marks(records)
    for reason, numbers in _group(records, _unrecorded).items():
        yield Note(f"not in MLflow yet ({_rows(numbers, records)}): {reason}", "yellow")
    for entry, numbers in _group(records, _rebuilt).items():
        yield Note(f"damaged in the cache and rebuilt ({_rows(numbers, records)}): {entry}", "dim")
    yield from _missing(records, columns)
    yield from _uncertainty(records)
    yield from _medians(records)
    yield from _boundaries(records)
    for sources, numbers in _group(records, _other_sources).items():
        yield Note(f"also recorded ({_rows(numbers, records)}): {sources}; see `edlab show RUN`", "dim")
    yield from _sampling_costs(records)
    for kernels, numbers in _group(records, _int8_kernels).items():
        yield Note(f"int8 kernels ({_rows(numbers, records)}): {kernels}", "dim")
    larger = any((_metric(record, "throughput_batch") or 1) > 1 for record in records)
    for reason, numbers in _group(records, _batch_one_only).items():
        if larger or any(_fixed_by_file(records[n - 1]) for n in numbers):
            yield Note(f"batch 1 only ({_rows(numbers, records)}): {reason}", "dim")
    yield from _failures(records)
    yield from _verdicts(records)


def _group(records: Sequence[RunRecord], keys: Callable[[RunRecord], Iterable[_Key]]) -> dict[_Key, list[int]]:
    """The numbers of the rows that have each key, counted from 1."""
    rows: dict[_Key, list[int]] = {}
    for number, record in enumerate(records, 1):
        for key in keys(record):
            rows.setdefault(key, []).append(number)
    return rows


def _rows(numbers: Sequence[int], records: Sequence[RunRecord]) -> str:
    return "all rows" if len(numbers) == len(records) > 1 else ", ".join(f"#{number}" for number in numbers)


def _marks(records: Sequence[RunRecord]) -> Iterator[Note]:
    estimated = [record for record in records if "estimated_power_w" in record.metrics]
    if estimated:
        sources = "; ".join(sorted({record.tags.get("power_source", "the specification") for record in estimated}))
        yield Note(f"~ estimated, not measured: {sources}", "dim")
    if any(name.startswith("emulated_") for record in records for name in record.metrics):
        yield Note("≈ measured on a stand-in for the device", "dim")


def _unrecorded(record: RunRecord) -> Iterator[str]:
    if record.unrecorded:
        yield record.unrecorded


def _rebuilt(record: RunRecord) -> Iterator[str]:
    yield from record.details.get("cache_dropped", ())


def _missing(records: Sequence[RunRecord], columns: Mapping[str, Column]) -> Iterator[Note]:
    """Why rows that succeeded have no value in a column."""

    def missing(record: RunRecord) -> Iterator[tuple[str, str]]:
        available = _available(record) | {name.removeprefix("estimated_") for name in record.metrics}
        for name, column in columns.items():
            if record.status is Status.ok and name not in available and name in record.missing:
                yield record.missing[name], column.title

    headings: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for (reason, heading), numbers in _group(records, missing).items():
        headings.setdefault((reason, tuple(numbers)), []).append(heading)
    for (reason, affected), names in headings.items():
        yield Note(f"missing {', '.join(names)} ({_rows(affected, records)}): {reason}", "dim")


def _uncertainty(records: Sequence[RunRecord]) -> Iterator[Note]:
    """What the interval covers, and what it does not."""
    single = [n for n, record in enumerate(records, 1) if "latency_uncertainty" in _available(record)]
    repeated = [n for n in single if "latency_run_spread" in _available(records[n - 1])]
    if repeated:
        yield Note(f"± 95 % interval over repeats in fresh processes ({_rows(repeated, records)})", "dim")
    if len(repeated) < len(single):
        yield Note(
            "± 95 % interval within one run; the difference between processes is not in it: set protocol.repeats=5 to "
            "measure it",
            "dim",
        )


def _medians(records: Sequence[RunRecord]) -> Iterator[Note]:
    """The median latency of rows whose mean is far from it, because of slow queries or of bursts of other load."""
    latency = catalogue.columns()["latency_ms"]
    medians = [
        f"#{number} {latency.write(median)}"
        for number, record in enumerate(records, 1)
        if (median := _metric(record, "latency_p50_ms")) and (mean := _metric(record, "latency_ms"))
        if abs(mean / median - 1) > _SKEWED
    ]
    if medians:
        yield Note(f"ms is the mean, which includes slow queries; median: {', '.join(medians)}", "dim")


def _available(record: RunRecord) -> set[str]:
    """The names of a record's metrics, emulated or not."""
    return {name.removeprefix("emulated_") for name in record.metrics}


def _metric(record: RunRecord, name: str) -> float | None:
    """The value of a metric that was measured, on the target or on a stand-in."""
    return record.metrics.get(name, record.metrics.get(f"emulated_{name}"))


def _boundaries(records: Sequence[RunRecord]) -> Iterator[Note]:
    """What the measured watts include, by row if rows differ."""
    rows = _group(records, _boundary)
    for boundary, numbers in rows.items():
        which = "" if len(rows) == 1 else f" ({_rows(numbers, records)})"
        included = f"{_BOUNDARIES[boundary]} ({boundary})" if boundary in _BOUNDARIES else boundary
        yield Note(f"W{which}: measured at {included}{_power_interval(records, numbers)}", "dim")
    if len(rows) > 1:
        yield Note("W and inf/s/W are not comparable between rows whose watts include different parts", "yellow")


def _power_interval(records: Sequence[RunRecord], numbers: Sequence[int]) -> str:
    """Half the widest 95 % interval of these rows' watts, for the end of a note; empty if they have none."""
    halves = []
    for metrics in (records[number - 1].metrics for number in numbers):
        if {"power_ci95_low_w", "power_ci95_high_w"} <= metrics.keys():
            halves.append((metrics["power_ci95_high_w"] - metrics["power_ci95_low_w"]) / 2 / metrics["power_w"])
    if not halves:
        return ""
    unknown = any(records[number - 1].tags.get("power_accuracy") == "not stated" for number in numbers)
    without = ", without the instrument's accuracy, which is not stated" if unknown else ""
    return f", ± {math.ceil(1000 * max(halves)) / 1000:.1%} or less (95 % interval{without})"


def _sampling_costs(records: Sequence[RunRecord]) -> Iterator[Note]:
    """What reading each power source costs its target."""

    def cost(record: RunRecord) -> Iterator[str]:
        values, kinds = record.metrics, {"a query": "latency", "an inference at full load": "throughput"}
        parts = [
            f"{what} {values[f'sampling_{kind}_cost']:+.1%} "
            f"({values[f'sampling_{kind}_cost_ci95_low']:+.1%} to {values[f'sampling_{kind}_cost_ci95_high']:+.1%})"
            for what, kind in kinds.items()
            if f"sampling_{kind}_cost" in values
        ]
        if parts:
            source = record.tags.get("power_source", "the power source")
            load = record.tags.get("sampling_cost_with", "the first model on this target")
            yield f"reading {source} costs {', '.join(parts)}, measured with {load}"

    for text, numbers in _group(records, cost).items():
        yield Note(f"{text} ({_rows(numbers, records)})", "dim")


def _other_sources(record: RunRecord) -> Iterator[str]:
    """The power sources next to the one of the power metrics."""
    if others := record.details.get("power_sources"):
        yield ", ".join(f"{other['source']} ({other['boundary']})" for other in others)


def _boundary(record: RunRecord) -> Iterator[str]:
    if "power_w" in record.metrics and (boundary := record.tags.get("power_boundary")):
        yield boundary


def _int8_kernels(record: RunRecord) -> Iterator[str]:
    if kernels := record.tags.get("int8_kernels"):
        arithmetic = record.tags.get("int8_arithmetic")
        yield f"{kernels}, {arithmetic}" if arithmetic else kernels


def _batch_one_only(record: RunRecord) -> Iterator[str]:
    if reason := record.tags.get("batch_one_only"):
        yield reason


def _fixed_by_file(record: RunRecord) -> bool:
    """Whether the model's file has a fixed batch, which the user can change even if no row has a larger one."""
    return bool(record.details.get("source", {}).get("fixed_batch"))


def _failures(records: Sequence[RunRecord]) -> Iterator[Note]:
    """Where and why rows failed, the fix, and how to get the models that were converted."""

    def failure(record: RunRecord) -> Iterator[tuple[str, str, str]]:
        if record.status not in (Status.ok, Status.running):
            yield f" at {record.stage}" if record.stage else "", record.reason, record.hint

    for (where, reason, hint), numbers in _group(records, failure).items():
        yield Note(f"{_rows(numbers, records)}{where}: {reason}")
        if hint:
            yield Note(hint, "cyan", indent=3)
        for what, runs in _saved([records[n - 1] for n in numbers]).items():
            run = runs[0] if len(runs) == 1 else f"RUN, with RUN one of {', '.join(runs)}"
            yield Note(f"{what} is saved: edlab pull {run}", "dim", indent=3)


def _saved(records: Iterable[RunRecord]) -> dict[str, list[str]]:
    """The ids of the runs that have a file of their conversion, by what that is; an unrecorded run has no id."""
    runs: dict[str, list[str]] = {}
    for record in records:
        if "artifact_sha256" in record.tags and record.run_id:
            name = record.details.get("intermediate")
            what = f"the intermediate file {name}" if name else "the converted model"
            runs.setdefault(what, []).append(record.run_id[:8])
    return runs


def _verdicts(records: Sequence[RunRecord]) -> Iterator[Note]:
    """Each advice once, after the codes of the reasons that have it, with their rows; those of INVALID rows first."""

    def advice_and_code(record: RunRecord) -> Iterator[tuple[str, str]]:
        for reason in record.verdict.reasons if record.verdict else ():
            yield reason.advice, reason.code + (_INVALID if reason.invalid else "")

    codes: dict[str, dict[tuple[int, ...], list[str]]] = {}
    for (advice, code), numbers in _group(records, advice_and_code).items():
        codes.setdefault(advice, {}).setdefault(tuple(numbers), []).append(code)
    marked = [advice for advice, by_rows in codes.items() if any(map(_any_invalid, by_rows.values()))]
    if marked:
        yield Note(f"{_INVALID} makes a row INVALID; the other reasons make it DEGRADED", "dim")
    for advice in dict.fromkeys([*marked, *codes]):
        by_rows = codes[advice]
        named = [f"{', '.join(found)} ({_rows(numbers, records)})" for numbers, found in by_rows.items()]
        yield Note(f"{', '.join(named)}: {advice}", "yellow")


def _any_invalid(codes: Sequence[str]) -> bool:
    return any(code.endswith(_INVALID) for code in codes)
