"""The summary of a sweep: what was compared, which row is best by each metric, as Markdown, as a table, as charts."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edlab.metrics import catalogue
from edlab.record import RunRecord, Status, VerdictState, as_text
from edlab.reports import plots
from edlab.reports.table import markdown

_LOWEST = ("latency_ms", "power_w")  # the metrics of which less is better
_INTERVALS = {  # metric -> the metrics with the bounds of its 95 % interval
    "accuracy_top1": ("accuracy_ci95_low", "accuracy_ci95_high"),
    "accuracy_map": ("accuracy_ci95_low", "accuracy_ci95_high"),
    "latency_ms": ("latency_ci95_low_ms", "latency_ci95_high_ms"),
    "power_w": ("power_ci95_low_w", "power_ci95_high_w"),
    "efficiency_ips_per_w": ("efficiency_ci95_low_ips_per_w", "efficiency_ci95_high_ips_per_w"),
}
_MOST_NAMED = 3  # values of a key in a title
_MOST_CHARACTERS = 4500  # of a description: MLflow's limit is 5000
_NAMES = ("model", "quantization", "converter", "device")

TABLE, LIST = "summary.json", "table.md"
TRADE_OFF, BARS = "accuracy_latency.png", "throughput_efficiency.png"


def title(choices: Mapping[str, Sequence[str]], model: str) -> str:
    """What a sweep compares: the values of each key with several, such as "digits_cnn: fp32, int8 × cpu, coral"."""
    parts = [_values(key, values) for key, values in choices.items() if len(values) > 1]
    fixed = "" if len(choices.get("model", ())) > 1 else model
    return ": ".join(filter(None, [fixed, " × ".join(parts)]))


def _values(key: str, values: Sequence[str]) -> str:
    listed = ", ".join(values) if len(values) <= _MOST_NAMED else f"{len(values)} values"
    return listed if key in _NAMES and len(values) <= _MOST_NAMED else f"{key} {listed}"


def describe(records: Sequence[RunRecord], choices: Mapping[str, Sequence[str]], command: Sequence[str]) -> str:
    """The description of a sweep's parent run, in Markdown."""
    compared = [f"`{key}` ({', '.join(values)})" for key, values in choices.items() if len(values) > 1]
    parts = [
        f"**Compared:** {' × '.join(compared) or 'runs chosen by a sweeper'}; {_ends(records)}.",
        "\n".join(_best(records)),
        f"    {shlex.join(['edlab', *command])}",
        f"Charts, `{LIST}` and `{TABLE}` (a table) are in the artifacts; the rows are the child runs. "
        f"`edlab show {records[0].sweep_id}` prints this table, `edlab pull RUN` copies a row's model.",
    ]
    rows = markdown(records)
    if len(rows) + sum(map(len, parts)) < _MOST_CHARACTERS:
        parts.insert(3, rows)
    return "\n\n".join(parts)


def begun(choices: Mapping[str, Sequence[str]], command: Sequence[str]) -> str:
    """The description of a sweep that has just started."""
    compared = [f"`{key}` ({', '.join(values)})" for key, values in choices.items() if len(values) > 1]
    return (
        f"**Running, or ended without a summary.** Compared: {' × '.join(compared) or 'runs chosen by a sweeper'}.\n\n"
        f"    {shlex.join(['edlab', *command])}"
    )


def _ends(records: Sequence[RunRecord]) -> str:
    """How many rows ended in which way."""
    ends = [str(record.verdict.state) if record.verdict else record.status.upper() for record in records]
    counts = ", ".join(f"{ends.count(end)} {end}" for end in dict.fromkeys(sorted(ends)))
    return f"{len(records)} row{'s' if len(records) > 1 else ''}: {counts}"


@dataclass(frozen=True)
class Best:
    """The best row by a metric: its number from 1, its value, and the others that are not shown to be worse."""

    metric: str
    number: int
    value: float
    interval: tuple[float, float] | None
    alike: tuple[int, ...]  # rows with the same value, or with an interval that overlaps


def best(records: Sequence[RunRecord], metric: str) -> Best | None:
    """The best row by a metric; None if no row that may be used has measured it."""
    values = {
        number: record.metrics[metric]
        for number, record in enumerate(records, 1)
        if is_usable(record) and metric in record.metrics
    }
    if not values:
        return None
    choose: Callable[..., int] = min if metric in _LOWEST else max
    winner = choose(values, key=values.__getitem__)
    own = interval(records[winner - 1], metric)

    def is_alike(number: int) -> bool:
        other = interval(records[number - 1], metric)
        overlaps = own and other and own[0] <= other[1] and other[0] <= own[1]
        return values[number] == values[winner] or bool(overlaps)

    alike = tuple(number for number in values if number != winner and is_alike(number))
    return Best(metric, winner, values[winner], own, alike)


def is_usable(record: RunRecord) -> bool:
    """Whether the figures of a row may be compared."""
    judged = record.verdict if record.status is Status.ok else None
    return judged is not None and judged.state is not VerdictState.invalid


def interval(record: RunRecord, metric: str) -> tuple[float, float] | None:
    """The 95 % interval of a row's metric; None if it has none."""
    low, high = _INTERVALS.get(metric, ("", ""))
    return (record.metrics[low], record.metrics[high]) if {low, high} <= record.metrics.keys() else None


def _best(records: Sequence[RunRecord]) -> Iterator[str]:
    """The best row by each headline metric, as a table; why there is none."""
    found = [each for name in _headlines(records) if (each := best(records, name))]
    if not found:
        yield "**No best row:** no row with a usable verdict has measured a metric."
        return
    columns = catalogue.columns()
    yield "| best by | row | value | 95 % interval | no difference shown to |"
    yield "|---|---|---|---|---|"
    for each in found:
        column, name = columns[each.metric], records[each.number - 1].name
        bounds = " to ".join(column.write(bound) for bound in each.interval) if each.interval else "missing"
        alike = ", ".join(f"#{number}" for number in each.alike) or ("–" if each.interval else "unknown: no interval")
        way = "lowest" if each.metric in _LOWEST else "highest"
        yield f"| {way} {column.title} | #{each.number} {name} | {column.write(each.value)} | {bounds} | {alike} |"
    yield ""
    yield (
        "Only rows that are VALID or DEGRADED, and only measured values. Rows whose 95 % intervals overlap may have "
        "changed places by chance."
    )


def _headlines(records: Sequence[RunRecord]) -> tuple[str, ...]:
    recorded = {name for record in records for name in record.metrics}
    return catalogue.headlines(next((name for name in catalogue.accuracies() if name in recorded), "accuracy_top1"))


def write_tables(records: Sequence[RunRecord], swept: Sequence[str], folder: Path) -> list[Path]:
    """Write the rows for a person and as a table that MLflow opens; return the files."""
    (folder / LIST).write_text(markdown(records))
    (folder / TABLE).write_text(json.dumps(_frame(records, swept)))
    return [folder / LIST, folder / TABLE]


def draw(records: Sequence[RunRecord], heading: str, folder: Path) -> list[Path]:
    """Draw the charts for which there are values; return their files. It takes a second."""
    written = []
    accuracy, *_ = _headlines(records)
    names = _short_names(records)
    if points := list(_points(records, names, accuracy)):
        label = catalogue.columns()[accuracy].label
        plots.trade_off_plot(points, folder / TRADE_OFF, title=heading, accuracy=label)
        written.append(folder / TRADE_OFF)
    if bars := list(_bars(records, names)):
        plots.rates_plot(bars, folder / BARS, title=heading)
        written.append(folder / BARS)
    return written


def _frame(records: Sequence[RunRecord], swept: Sequence[str]) -> dict[str, list[object]]:
    """The rows as `mlflow.log_table` writes them: the names, what differs, the verdict and the six metrics."""
    params = [*(f"{name}.name" for name in _NAMES), *(key for key in swept if "." in key)]
    six = _headlines(records)
    metrics = [
        prefix + name
        for name in six
        for prefix in ("", *catalogue.PREFIXES)
        if any(prefix + name in record.metrics for record in records)
    ]
    rows: list[object] = [
        [
            number,
            record.run_id,
            *(as_text(record.params.get(key, "")) for key in params),
            str(record.verdict.state) if record.verdict else record.status.upper(),
            *(record.metrics.get(name) for name in metrics),
        ]
        for number, record in enumerate(records, 1)
    ]
    names = [key.removesuffix(".name") for key in params]
    return {"columns": ["row", "run_id", *names, "verdict", *metrics], "data": rows}


def _points(records: Sequence[RunRecord], names: Sequence[str], accuracy: str) -> Iterator[plots.Point]:
    for name, record in zip(names, records, strict=True):
        if {accuracy, "latency_ms"} <= record.metrics.keys():
            yield plots.Point(
                name,
                record.metrics["latency_ms"],
                record.metrics[accuracy],
                interval(record, "latency_ms"),
                interval(record, accuracy),
                is_usable(record),
            )


def _bars(records: Sequence[RunRecord], names: Sequence[str]) -> Iterator[plots.Rate]:
    for row, record in zip(names, records, strict=True):
        throughput, efficiency = (_with_origin(record, name) for name in ("throughput_ips", "efficiency_ips_per_w"))
        if throughput:
            yield plots.Rate(row, throughput, efficiency, is_usable(record))


def _with_origin(record: RunRecord, metric: str) -> tuple[float, str] | None:
    """A metric's value, and "", "estimated" or "emulated"; None if the row has none."""
    for prefix in ("", *catalogue.PREFIXES):
        if (value := record.metrics.get(prefix + metric)) is not None:
            return value, prefix.removesuffix("_")
    return None


def _short_names(records: Sequence[RunRecord]) -> list[str]:
    """The number of each row, and its names that are not the same in all rows."""
    names = [[as_text(record.params.get(f"{name}.name", "")) for name in _NAMES] for record in records]
    differing = [index for index in range(len(_NAMES)) if len({each[index] for each in names}) > 1]
    return [" ".join([f"#{number}", *(each[index] for index in differing)]) for number, each in enumerate(names, 1)]
