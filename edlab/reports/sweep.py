"""The summary of a sweep: what was compared, which row is best by each metric, as Markdown, as a table, as charts."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from edlab.comparison import best, direction, estimate, front, reliable, sorted_by
from edlab.comparison.names import ACCURACY, metric
from edlab.metrics import catalogue
from edlab.metrics.catalogue import Better
from edlab.predictions_file import Right, unknown
from edlab.record import RunRecord, as_text
from edlab.reports.pareto_plot import pareto_plot
from edlab.reports.rates_plot import Rate, rates_plot
from edlab.reports.sheet import Format
from edlab.reports.table import table
from edlab.wording import escape_markdown

_MOST_NAMED = 3  # values of a key in a title
_MOST_CHARACTERS = 4500  # of a description: MLflow's limit is 5000
_CHOSEN = "runs chosen by a sweeper"
_NAMES = ("model", "quantization", "converter", "device")

TABLE, LIST = "summary.json", "table.md"
TRADE_OFF, BARS = "accuracy_latency.png", "throughput_efficiency.png"


def title(choices: Mapping[str, Sequence[str]], model: str) -> str:
    """What a sweep compares: the values of each key with several, such as "digits_cnn: fp32, int8 × cpu, coral".

    `model` is the one of all rows, or empty.
    """
    parts = [_values(key, values) for key, values in choices.items() if len(values) > 1]
    fixed = "" if len(choices.get("model", ())) > 1 else model
    return ": ".join(filter(None, [fixed, " × ".join(parts)]))


def _values(key: str, values: Sequence[str]) -> str:
    shown = [Path(value).name for value in values] if key.endswith(".path") else values
    listed = ", ".join(shown) if len(values) <= _MOST_NAMED else f"{len(values)} values"
    return listed if key in _NAMES and len(values) <= _MOST_NAMED else f"{key} {listed}"


def describe(
    records: Sequence[RunRecord],
    choices: Mapping[str, Sequence[str]],
    command: Sequence[str],
    right: Right = unknown,
) -> str:
    """The description of a sweep's parent run, in Markdown; accuracies are compared as in `table`."""
    parts = [
        f"**Compared:** {_compared(choices)}; {_ends(records)}.",
        "\n".join(_best(records, right)),
        f"    {shlex.join(['edlab', *command])}",
        f"Charts, `{LIST}` and `{TABLE}` (a table) are in the artifacts; the rows are the child runs. "
        f"`edlab show {records[0].sweep_id}` prints this table, `edlab pull RUN` copies a row's model.",
    ]
    rows = table(records, right=right).write(Format.markdown)
    if len(rows) + sum(map(len, parts)) < _MOST_CHARACTERS:
        parts.insert(3, rows)
    return "\n\n".join(parts)


def begun(choices: Mapping[str, Sequence[str]], command: Sequence[str]) -> str:
    """The description of a sweep that has just started."""
    return (
        f"**Running, or ended without a summary.** Compared: {_compared(choices)}.\n\n"
        f"    {shlex.join(['edlab', *command])}"
    )


def _compared(choices: Mapping[str, Sequence[str]]) -> str:
    """The keys with several values."""
    swept = {key: ", ".join(values) for key, values in choices.items() if len(values) > 1}
    return " × ".join(f"`{key}` ({escape_markdown(values)})" for key, values in swept.items()) or _CHOSEN


def _ends(records: Sequence[RunRecord]) -> str:
    """How many rows ended in which way."""
    ends = [record.ending for record in records]
    counts = ", ".join(f"{ends.count(end)} {end}" for end in dict.fromkeys(sorted(ends)))
    return f"{len(records)} row{'s' if len(records) > 1 else ''}: {counts}"


def _best(records: Sequence[RunRecord], right: Right) -> Iterator[str]:
    """The best row by each headline metric, as a table; why there is none."""
    numbers = {record.uuid: number for number, record in enumerate(records, 1)}
    measured = [record for record in records if "stand_in" not in record.tags]
    ranked = {name: each for name in _headlines(records) if (each := best(measured, name, right))}
    if not ranked:
        yield "**No best row:** no row with a usable verdict has measured a metric."
        return
    columns = catalogue.columns()
    yield "| best by | row | value | 95 % interval | no difference shown to |"
    yield "|---|---|---|---|---|"
    for name, (winner, alike) in ranked.items():
        column, found = columns[name], estimate(winner, name)
        assert found is not None
        ends = [column.write(end) for end in (found.low, found.high) if end is not None]
        bounds, known = " to ".join(ends) or "missing", bool(ends)
        others = ", ".join(f"#{numbers[each.uuid]}" for each in alike) or ("–" if known else "unknown: no interval")
        way = "highest" if direction(name) is Better.higher else "lowest"
        row = f"#{numbers[winner.uuid]} {escape_markdown(winner.name)}"
        yield f"| {way} {column.title} | {row} | {column.write(found.value)} | {bounds} | {others} |"
    yield ""
    yield "Only rows that are VALID or DEGRADED, and only measured values."


def _headlines(records: Sequence[RunRecord]) -> tuple[str, ...]:
    """The six metrics of the rows, with the accuracy of their task, measured or emulated."""
    return catalogue.headlines(metric(ACCURACY, records))


def write_tables(
    records: Sequence[RunRecord], swept: Sequence[str], folder: Path, right: Right = unknown
) -> list[Path]:
    """Write the rows for a person and as a table that MLflow opens; return the files."""
    (folder / LIST).write_text(table(records, right=right).write(Format.markdown))
    (folder / TABLE).write_text(json.dumps(_frame(records, swept)))
    return [folder / LIST, folder / TABLE]


def draw(records: Sequence[RunRecord], heading: str, folder: Path, suffix: str = ".png") -> list[Path]:
    """Draw the charts for which there are values; return their files. It takes a second."""
    written = []
    trade_off, rates = ((folder / name).with_suffix(suffix) for name in (TRADE_OFF, BARS))
    accuracy, *_ = _headlines(records)
    names = _short_names(records)
    usable = reliable(records)
    if any(estimate(record, accuracy) and estimate(record, "latency_ms") for record in records):
        on_front = front(sorted_by(usable, "latency_ms"), ("latency_ms", accuracy))
        pareto_plot(records, on_front, "latency_ms", accuracy, trade_off, title=heading, names=names)
        written.append(trade_off)
    if bars := list(_bars(records, names)):
        rates_plot(bars, rates, title=heading)
        written.append(rates)
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
            record.ending,
            *(record.metrics.get(name) for name in metrics),
        ]
        for number, record in enumerate(records, 1)
    ]
    names = [key.removesuffix(".name") for key in params]
    return {"columns": ["row", "run_id", *names, "verdict", *metrics], "data": rows}


def _bars(records: Sequence[RunRecord], names: Sequence[str]) -> Iterator[Rate]:
    usable = {record.uuid for record in reliable(records)}
    for row, record in zip(names, records, strict=True):
        throughput, efficiency = (_with_origin(record, name) for name in ("throughput_ips", "efficiency_ips_per_w"))
        if throughput:
            yield Rate(row, throughput, efficiency, record.uuid in usable)


def _with_origin(record: RunRecord, name: str) -> tuple[float, str] | None:
    """A metric's value, and "", "estimated" or "emulated"; None if the row has none."""
    for prefix in ("", *catalogue.PREFIXES):
        if (value := record.metrics.get(prefix + name)) is not None:
            return value, prefix.removesuffix("_")
    return None


def _short_names(records: Sequence[RunRecord]) -> list[str]:
    """The number of each row, and its names that are not the same in all rows."""
    names = [[as_text(record.params.get(f"{name}.name", "")) for name in _NAMES] for record in records]
    differing = [index for index in range(len(_NAMES)) if len({each[index] for each in names}) > 1]
    return [" ".join([f"#{number}", *(each[index] for index in differing)]) for number, each in enumerate(names, 1)]
