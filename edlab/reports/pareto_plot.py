"""The plot of two metrics of several runs, with the Pareto front."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edlab.comparison import Estimate, direction, estimate
from edlab.comparison.estimates import EMULATED
from edlab.errors import ConfigError
from edlab.metrics import catalogue
from edlab.record import RunRecord, VerdictState
from edlab.reports.plots import empty_figure, label

# Okabe and Ito's colours for colour-blind readers.
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_SHAPES = "os^vD"
_DPI = 130
_MOST_LABELS = 40  # in a legend


def pareto_plot(
    records: Sequence[RunRecord],
    on_front: Sequence[RunRecord],
    x: str,
    y: str,
    path: Path,
    *,
    title: str = "",
    names: Sequence[str] = (),
) -> None:
    """Draw two metrics of the runs with their 95 % intervals, and a line through those on the Pareto front.

    `names` are the labels of the runs, by default their names and ids. INVALID runs are hollow. Of many runs, only
    those on the front have a label. The suffix of `path` is the format. Raises `ConfigError` for one that cannot be
    drawn.
    """
    labels = names or [f"{record.name} {record.run_id[:8]}".strip() for record in records]
    labelled = dict(zip((record.uuid for record in records), labels, strict=True))
    if len(records) > _MOST_LABELS:
        labelled = {record.uuid: labelled[record.uuid] for record in on_front[:_MOST_LABELS]}
    picture = empty_figure(9, title, legend_in=3.2, height=max(3.8, 0.8 + 0.17 * len(labelled)))
    if path.suffix.removeprefix(".").lower() not in picture.canvas.get_supported_filetypes():
        raise ConfigError(f"cannot draw '{path.name}'", hint="use a file name that ends with .png, .svg or .pdf")
    axes = picture.subplots()
    others = [(_scaled(record, x), _scaled(record, y)) for record in records if record.uuid not in labelled]
    if dots := [(across.value, up.value) for across, up in others if across and up]:
        axes.plot(*zip(*dots, strict=True), ".", color="#999999", label=f"{len(dots)} other runs")
    for number, record in enumerate(record for record in records if record.uuid in labelled):
        across, up = _scaled(record, x), _scaled(record, y)
        if across is None or up is None:
            continue
        invalid = bool(record.verdict and record.verdict.state is VerdictState.invalid)
        mark = "≈ " if EMULATED in (across.prefix, up.prefix) else ""
        color = _COLORS[number % len(_COLORS)]
        axes.errorbar(
            across.value,
            up.value,
            _error(up),
            _error(across),
            fmt=_SHAPES[number // len(_COLORS) % len(_SHAPES)],
            color=color,
            elinewidth=0.8,
            alpha=0.5 if invalid else 1,
            markerfacecolor="white" if invalid else color,
            label=label(mark + labelled[record.uuid] + (" (INVALID)" if invalid else "")),
        )
    points = [(_scaled(record, x), _scaled(record, y)) for record in on_front]
    line = [(across.value, up.value) for across, up in points if across and up]
    if len(line) > 1:
        xs, ys = [at for at, _ in line], [at for _, at in line]
        axes.step(xs, ys, where="post", color="black", linewidth=1, linestyle="--", label="Pareto front")
    axes.set(xlabel=_title(x), ylabel=_title(y))
    axes.grid(alpha=0.2)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, fontsize=8, frameon=False)
    picture.savefig(path, dpi=_DPI)


def _scaled(record: RunRecord, name: str) -> Estimate | None:
    """The metric in the unit of its column."""
    found, metric = estimate(record, name), catalogue.find(name)
    return found.scaled(metric.column.scale if metric and metric.column else 1.0) if found else None


def _error(found: Estimate) -> list[list[float]] | None:
    """The distances to the ends of the interval, as matplotlib takes them."""
    if found.low is None or found.high is None:
        return None
    return [[max(found.value - found.low, 0)], [max(found.high - found.value, 0)]]


def _title(name: str) -> str:
    metric = catalogue.find(name)
    column = metric.column if metric else None
    better = direction(name)
    way = f" ({better.value} is better)" if better else ""
    return f"{column.label or name}, {column.title}{way}" if column else name + way
