"""Plots of a run: its queries, throughput and power; and of a sweep: trade-off and rates of its rows."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edlab.agent.messages import Trial
from edlab.agent.statistics import cut

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_ROWS = 100  # in one picture: more cannot be read, and matplotlib fails above 65,536 pixels
_DPI = 110
_LONGEST_LABEL = 60  # characters
_MOST_POINTS = 5000
_QUERY, _WINDOW, _LINE, _EFFICIENCY = "#5b7fb4", "#c44e52", "#222222", "#55a868"


def latency_plot(
    ns: NDArray[np.int64],
    figures: Mapping[str, float],
    queries: Sequence[int],
    path: Path,
    *,
    title: str,
    windows: int = 10,
) -> None:
    """Write a PNG of the latencies `ns`, int64 (N,) nanoseconds in order of measurement.

    `figures` are the run's metrics, so that the plot shows the same mean and interval; `queries` is the number of `ns`
    for each process (protocol.repeats): vertical lines separate them.

    On the left are the queries with their mean, its 95 % interval, the windows' means and p99; on the right is their
    histogram. The axis ends above the 99.5 % quantile; the plot states how many queries are beyond it.
    """
    ms = ns / 1e6
    mean, p99 = figures["latency_ms"], figures.get("latency_p99_ms")
    top = 1.05 * float(np.quantile(ms, 0.995, method="higher"))
    bottom = 0.97 * float(ms.min())
    figure = empty_figure(9, title)
    series, histogram = figure.subplots(1, 2, width_ratios=(3, 1), sharey=True)
    shown = np.unique(np.linspace(0, len(ms) - 1, min(len(ms), _MOST_POINTS)).astype(np.int64))
    series.plot(shown, ms[shown], ".", markersize=2, color=_QUERY, alpha=0.6)
    series.axhline(mean, color=_LINE, linewidth=1, label=f"mean {mean:.4g} ms{_interval(figures)}")
    if "latency_ci95_low_ms" in figures:
        series.axhspan(figures["latency_ci95_low_ms"], figures["latency_ci95_high_ms"], color=_LINE, alpha=0.15)
    starts = np.concatenate(([0], np.cumsum(queries)))
    for number, (first, end) in enumerate(itertools.pairwise(starts)):
        parts = cut(ns[first:end], windows)
        edges = first + np.concatenate(([0], np.cumsum(parts.counts)[parts.counts > 0]))
        label = "" if number else "window means"
        series.stairs(parts.means / 1e6, edges, color=_WINDOW, baseline=None, label=label)
        if number:
            series.axvline(first, color=_LINE, linewidth=0.5)
    if p99 is not None:
        series.axhline(p99, color=_WINDOW, linewidth=1, linestyle=":", label=f"p99 {p99:.4g} ms")
    if beyond := int(np.count_nonzero(ms > top)):
        note = f"{beyond} beyond, up to {ms.max():.4g} ms"
        series.text(0.01, 0.97, note, transform=series.transAxes, va="top", fontsize=8)
    series.set(xlabel=f"query (of {len(ms)})", ylabel="latency, ms", ylim=(bottom, top), xlim=(0, len(ms)))
    series.legend(loc="upper right", fontsize=8)
    histogram.hist(ms[ms <= top], bins=60, orientation="horizontal", color=_QUERY)
    histogram.axhline(mean, color=_LINE, linewidth=1)
    histogram.set(xlabel="queries")
    figure.savefig(path, dpi=_DPI)


def throughput_plot(trials: Sequence[Trial], path: Path, *, title: str) -> None:
    """Write a PNG of the throughput search: inferences per second against the batch, with a line for each number in
    flight.

    Trials are points; the line connects the means of the settings.
    """
    rates: dict[int, dict[int, list[float]]] = {}
    for trial in trials:
        if trial.ips is not None:
            rates.setdefault(trial.in_flight, {}).setdefault(trial.batch, []).append(trial.ips)
    figure = empty_figure(6, title)
    axes = figure.subplots()
    for in_flight, by_batch in sorted(rates.items()):
        batches = sorted(by_batch)
        line = axes.plot(batches, [np.mean(by_batch[batch]) for batch in batches], label=f"{in_flight} in flight")[0]
        points = [(batch, rate) for batch in batches for rate in by_batch[batch]]
        axes.plot(*zip(*points, strict=True), "o", markersize=4, color=line.get_color())
    axes.set_xscale("log", base=2)
    every = sorted({batch for by_batch in rates.values() for batch in by_batch})
    axes.set_xticks(every, [str(batch) for batch in every])
    axes.set(xlabel="batch", ylabel="inferences/s", ylim=(0, None))
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=_DPI)


@dataclass(frozen=True)
class PowerSpan:
    """A phase in which power was read: its name, start and end in ns, and the readings of each source by its name.

    Readings are times (N,) int64 ns and watts (N,) float64.
    """

    phase: str
    start_ns: int
    end_ns: int
    readings: Mapping[str, tuple[NDArray[np.int64], NDArray[np.float64]]]


def power_plot(spans: Sequence[PowerSpan], path: Path, *, title: str) -> None:
    """Write a PNG of all power readings over time, with the window of each phase shaded; between them none is read."""
    figure = empty_figure(9, title)
    axes = figure.subplots()
    origin = spans[0].start_ns
    sources = list(dict.fromkeys(source for span in spans for source in span.readings))
    for number, span in enumerate(spans):
        start, end = (span.start_ns - origin) / 1e9, (span.end_ns - origin) / 1e9
        axes.axvspan(start, end, color=f"C{number}", alpha=0.12, label=span.phase)
        for source, (t_ns, watts) in span.readings.items():
            label = source if number == 0 else "_"
            color = f"C{len(spans) + sources.index(source)}"
            axes.plot((t_ns - origin) / 1e9, watts, ".-", markersize=2, linewidth=0.6, color=color, label=label)
    axes.set(xlabel="seconds", ylabel="W", ylim=(0, None))
    axes.legend(loc="lower right", fontsize=8)
    figure.savefig(path, dpi=_DPI)


def over_time_plot(ips: Sequence[float], watts: Sequence[float | None] | None, path: Path, *, title: str) -> None:
    """Write a PNG of the throughput in each second of its window, and of the power if a sensor was read."""
    figure = empty_figure(9, title)
    axes = figure.subplots()
    minutes = np.arange(len(ips)) / 60
    axes.plot(minutes, ips, color=_QUERY, linewidth=0.8, label="inferences/s")
    axes.set(xlabel="minutes", ylabel="inferences/s", ylim=(0, 1.1 * max(ips, default=1)))
    if watts:
        power = axes.twinx()
        power.plot(minutes, [np.nan if each is None else each for each in watts], color=_WINDOW, linewidth=0.8)
        power.set(ylabel="W", ylim=(0, None))
        power.yaxis.label.set_color(_WINDOW)
    figure.savefig(path, dpi=_DPI)


def empty_figure(
    width: float, title: str, *, height: float = 3.8, labels_in: float = 0.85, legend_in: float = 0.65
) -> Figure:
    """An empty figure that needs no screen, with its size in inches, and the room at its left and right."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))  # matplotlib's own layout would draw it twice
    figure.subplots_adjust(
        left=labels_in / width, right=1 - legend_in / width, bottom=0.53 / height, top=1 - 0.46 / height, wspace=0.08
    )
    FigureCanvasAgg(figure)
    figure.suptitle(_literal(title), fontsize=11, y=1 - 0.08 / height)
    return figure


def label(text: str) -> str:
    """The name of a row for matplotlib, which would read a pair of $ as a formula; a long one is cut."""
    return _literal(text if len(text) <= _LONGEST_LABEL else f"{text[: _LONGEST_LABEL - 1]}…")


def _literal(text: str) -> str:
    return text.replace("$", r"\$")


def _interval(values: Mapping[str, float]) -> str:
    if "latency_ci95_low_ms" not in values:
        return ""
    return f" [{values['latency_ci95_low_ms']:.4g}, {values['latency_ci95_high_ms']:.4g}]"
