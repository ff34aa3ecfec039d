"""The main charts as files, for a paper or a slide."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from edlab.comparison import estimate, front
from edlab.comparison.estimates import EMULATED
from edlab.errors import ConfigError
from edlab.metrics import catalogue
from edlab.record import RunRecord, as_text
from edlab.reports.pareto_plot import pareto_plot
from edlab.reports.plots import empty_figure
from edlab.reports.report.charts import COLORS
from edlab.reports.report.labels import labels
from edlab.reports.report.summary import title, unit
from edlab.reports.table import reliable, sorted_by

_BARS = {"throughput": "throughput_ips", "efficiency": "efficiency_ips_per_w"}
_MOST_BARS = 40
_DPI = 130


def pictures(records: Sequence[RunRecord], folder: Path, form: str) -> Iterator[Path]:
    """Draw those charts that have values into `folder`, and give their paths. Raises `ConfigError` if none has."""
    drawn = False
    for key, name in _BARS.items():
        shown = [each for each in records if estimate(each, name, estimates=True)]
        if shown:
            drawn = True
            yield _bars(shown, name, folder / f"{key}.{form}")
    path = folder / f"accuracy_latency.{form}"
    if trade_off(records, path):
        drawn = True
        yield path
    if not drawn:
        raise ConfigError("no run has a value to draw", hint="`edlab report` writes a page with the reasons")


def trade_off(records: Sequence[RunRecord], path: Path) -> bool:
    """Draw accuracy against latency with the Pareto front; False if no run has both, and then nothing is drawn."""
    accuracy = next((name for name in catalogue.accuracies() if any(estimate(each, name) for each in records)), "")
    shown = [each for each in records if estimate(each, "latency_ms") and estimate(each, accuracy)]
    if not shown:
        return False
    on_front = front(reliable(shown), (accuracy, "latency_ms"))
    pareto_plot(shown, sorted_by(on_front, "latency_ms") if on_front else [], "latency_ms", accuracy, path)
    return True


def _bars(records: Sequence[RunRecord], name: str, path: Path) -> Path:
    """A bar for each run, the best on top; hatched if it was not measured on the target."""
    ordered = sorted(records, key=lambda each: _value(each, name))[-_MOST_BARS:]
    called = labels(ordered)
    figure = empty_figure(7, f"{title(name)}, {unit(name)}")
    figure.set_figheight(1 + 0.3 * len(ordered))
    figure.set_layout_engine("tight")
    axes = figure.subplots()
    devices = list(dict.fromkeys(as_text(each.params.get("device.name", "")) for each in records))
    for row, record in enumerate(ordered):
        found = estimate(record, name, estimates=True)
        assert found is not None
        color = COLORS[devices.index(as_text(record.params.get("device.name", ""))) % len(COLORS)]
        hatch = {"": "", EMULATED: "//"}.get(found.prefix, "..")
        axes.barh(row, found.value, color=color, hatch=hatch, edgecolor="white" if hatch else color)
        if found.low is not None and found.high is not None:
            axes.plot([found.low, found.high], [row, row], color="black", linewidth=1)
    marks = {"": "", EMULATED: "≈ "}
    texts = [
        marks.get(found.prefix, "~ ") + called[each.uuid]
        for each in ordered
        if (found := estimate(each, name, estimates=True))
    ]
    axes.set_yticks(range(len(ordered)), [text.replace("$", r"\$") for text in texts], fontsize=8)
    axes.set_ylim(-0.6, len(ordered) - 0.4)
    figure.savefig(path, dpi=_DPI)
    return path


def _value(record: RunRecord, name: str) -> float:
    found = estimate(record, name, estimates=True)
    return found.value if found else 0.0
