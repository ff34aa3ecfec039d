"""A run's latency as a picture: each query in order, and how they are distributed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_MOST_POINTS = 5000


def latency_plot(ns: NDArray[np.int64], path: Path, *, title: str, windows: int = 5) -> None:
    """Write a PNG of the latencies `ns` (int64 nanoseconds, in order): a series with window means, a histogram."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    ms = ns / 1e6
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    series, histogram = figure.subplots(1, 2, width_ratios=(3, 1), sharey=True)
    step = max(1, len(ms) // _MOST_POINTS)
    series.plot(np.arange(len(ms))[::step], ms[::step], ".", markersize=2, color="#5b7fb4", label="query")
    start = 0
    for part in np.array_split(ms, min(windows, len(ms))):
        series.plot([start, start + len(part)], [part.mean()] * 2, color="#c44e52", linewidth=1.5)
        start += len(part)
    series.axhline(ms.mean(), color="black", linewidth=0.8, linestyle="--")
    series.set(xlabel="query", ylabel="latency, ms", title=f"{title}: mean {ms.mean():.3f} ms of {len(ms)} queries")
    top = np.percentile(ms, 99.5) if len(ms) > 200 else ms.max()
    histogram.hist(ms, bins=60, range=(float(ms.min()), float(top)), orientation="horizontal", color="#5b7fb4")
    for value, name in ((ms.mean(), "mean"), (np.median(ms), "median")):
        histogram.axhline(value, color="black", linewidth=0.8, linestyle="--" if name == "mean" else ":", label=name)
    histogram.legend(fontsize=8, frameon=False)
    histogram.set(xlabel="queries")
    series.set_ylim(float(ms.min()) * 0.95, float(top) * 1.1)
    figure.savefig(path, dpi=110)
