"""The plot of two metrics of several runs, with the Pareto front."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edlab.comparison import Estimate, estimate
from edlab.comparison.estimates import EMULATED
from edlab.errors import ConfigError
from edlab.metrics import catalogue
from edlab.record import RunRecord
from edlab.reports.plots import empty_figure

# Okabe and Ito's colours for colour-blind readers.
_ON_FRONT, _OTHER = "#d55e00", "#0072b2"
_DPI = 130
_MOST_LABELS = 12  # of more runs, only those on the front are named


def pareto_plot(records: Sequence[RunRecord], on_front: Sequence[RunRecord], x: str, y: str, path: Path) -> None:
    """Draw two metrics of the runs with their 95 % intervals, and a line through those on the Pareto front.

    The suffix of `path` is the format. Raises `ConfigError` for one that cannot be drawn.
    """
    picture = empty_figure(7, "")
    if path.suffix.removeprefix(".").lower() not in picture.canvas.get_supported_filetypes():
        raise ConfigError(f"cannot draw '{path.name}'", hint="use a file name that ends with .png, .svg or .pdf")
    axes = picture.subplots()
    front = {record.uuid for record in on_front}
    for record in records:
        across, up = _scaled(record, x), _scaled(record, y)
        if across is None or up is None:
            continue
        shape, color = ("D", _ON_FRONT) if record.uuid in front else ("o", _OTHER)
        is_emulated = EMULATED in (across.prefix, up.prefix)
        shape = "X" if is_emulated else shape
        axes.errorbar(across.value, up.value, _error(up), _error(across), shape, color=color, markersize=5)
        if record.uuid not in front and len(records) > _MOST_LABELS:
            continue
        label = f"{'≈ ' if is_emulated else ''}{record.name} {record.run_id[:8]}".strip().replace("$", r"\$")
        axes.annotate(label, (across.value, up.value), (4, 4), textcoords="offset points", fontsize=6)
    points = [(_scaled(record, x), _scaled(record, y)) for record in on_front]
    line = [(across.value, up.value) for across, up in points if across and up]
    axes.plot([at for at, _ in line], [at for _, at in line], color=_ON_FRONT, linewidth=1, label="Pareto front")
    axes.set(xlabel=_title(x), ylabel=_title(y))
    axes.legend(fontsize=8)
    picture.savefig(path, dpi=_DPI)


def _scaled(record: RunRecord, name: str) -> Estimate | None:
    """The metric in the unit of its column."""
    found, metric = estimate(record, name), catalogue.find(name)
    scale = metric.column.scale if metric and metric.column else 1.0
    if found is None:
        return None
    low, high = (None if end is None else end * scale for end in (found.low, found.high))
    return Estimate(found.value * scale, low, high, found.prefix)


def _error(found: Estimate) -> list[list[float]] | None:
    """The distances to the ends of the interval, as matplotlib takes them."""
    if found.low is None or found.high is None:
        return None
    return [[max(found.value - found.low, 0)], [max(found.high - found.value, 0)]]


def _title(name: str) -> str:
    metric = catalogue.find(name)
    column = metric.column if metric else None
    return f"{name} ({column.title})" if column else name
