"""Latency metrics from the time of each query, in order of measurement."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import scipy
from numpy.typing import NDArray

from edlab.agent.statistics import QUERIES_PER_WINDOW, cut, half_width, mean_interval
from edlab.errors import MeasurementError
from edlab.metrics.figures import Figures

_NS_PER_MS = 1e6
_QUANTILES = (0.5, 0.9, 0.95, 0.97, 0.99, 0.999)
INTERVAL = ("latency_ci95_low_ms", "latency_ci95_high_ms", "latency_uncertainty")


def latency(ns: NDArray[np.int64], windows: int = 10) -> Figures:
    """The mean and percentiles with their intervals, the spread, and outliers.

    `ns`: int64 (N,), nanoseconds of each query in order of measurement. The headline `latency_ms` is the mean of all:
    no outlier is dropped; `latency_outliers` counts those beyond Q3 + 3 IQR (Tukey's outer fence). The mean's 95 %
    interval is `edlab.agent.statistics.mean_interval` over `windows`; a percentile is the smallest time that this
    share of the queries did not exceed (nearest rank), between the order statistics that enclose the true one at 95 %.
    Raises `MeasurementError` if there is no query.
    """
    if not len(ns):
        raise MeasurementError(
            "no query finished in the latency phase",
            hint="raise protocol.max_seconds, or use a smaller model",
        )
    clusters = "slow queries are clustered: the interval would end beyond the slowest query"
    figures = _distribution(ns, np.split(ns, np.cumsum(cut(ns, windows).counts)[:-1]), clusters)
    interval = mean_interval(ns, windows)
    if interval is None:
        needs = f"needs {QUERIES_PER_WINDOW * windows} queries, there are {len(ns)}"
        return figures | Figures.withheld(INTERVAL, needs)
    low, high = (bound / _NS_PER_MS for bound in interval)
    return figures | mean_and_interval(float(ns.mean() / _NS_PER_MS), (high - low) / 2)


def pooled_latency(runs: Sequence[NDArray[np.int64]]) -> Figures:
    """The same for the queries of several processes together, each int64 (N,), except the mean's interval.

    Every query has the same weight here, in any process. The percentiles' intervals treat each process as one window,
    so that they include differences between processes. The mean and its interval are computed by
    `edlab.metrics.over_runs`.
    """
    differ = "too few processes that differ too much: the interval would end beyond the slowest query"
    return _distribution(np.concatenate(runs), list(runs), differ)


def _distribution(ns: NDArray[np.int64], windows: list[NDArray[np.int64]], too_wide: str) -> Figures:
    """Everything except the mean's interval; `windows` are the same times in parts, for the percentiles' intervals."""
    ordered = np.sort(ns)
    ms = ordered / _NS_PER_MS
    quartile1, quartile3 = np.percentile(ms, [25, 75])
    values = {
        "latency_ms": float(ms.mean()),
        "latency_min_ms": float(ms[0]),
        "latency_max_ms": float(ms[-1]),
        "latency_outliers": float(np.count_nonzero(ms > quartile3 + 3 * (quartile3 - quartile1))),
    }
    figures = Figures(values)
    if len(ms) > 1:
        figures |= Figures({"latency_std_ms": float(ms.std(ddof=1))})
    else:
        figures |= Figures.withheld(["latency_std_ms"], "needs 2 queries, there is 1")
    for quantile in _QUANTILES:
        figures |= _percentile(ordered, windows, quantile, too_wide)
    return figures


def mean_and_interval(mean_ms: float, half_ms: float) -> Figures:
    """The mean, its 95 % interval from half its width, and `latency_uncertainty`: this half width / the mean."""
    bounds = (max(mean_ms - half_ms, 0.0), mean_ms + half_ms, half_ms / mean_ms)
    return Figures({"latency_ms": mean_ms, **dict(zip(INTERVAL, bounds, strict=True))})


def _percentile(
    ordered: NDArray[np.int64], windows: list[NDArray[np.int64]], quantile: float, too_wide: str
) -> Figures:
    """One percentile of sorted times, ns, if there are enough queries that the slowest one is an upper limit at 95 %.

    That is 1 - q^N >= 97.5 %. `windows` are the same times in parts; `too_wide` is why an interval has no upper end.
    """
    name = f"latency_p{100 * quantile:g}".replace(".", "_")
    interval = (f"{name}_ci95_low_ms", f"{name}_ci95_high_ms")
    count = len(ordered)
    needed = math.ceil(math.log(0.025) / math.log(quantile))
    if count < needed:
        return Figures.withheld((f"{name}_ms", *interval), f"needs {needed} queries, there are {count}")
    percentile = ordered[math.ceil(quantile * count) - 1]
    figures = Figures({f"{name}_ms": float(percentile / _NS_PER_MS)})
    least = QUERIES_PER_WINDOW * len(windows)
    if count < least:
        return figures | Figures.withheld(interval, f"needs {least} queries, there are {count}")
    low, high = _ranks(windows, percentile, quantile)
    if high > count:
        return figures | Figures.withheld(interval, too_wide)
    bounds = (float(ordered[rank - 1] / _NS_PER_MS) for rank in (low, high))
    return figures | Figures(dict(zip(interval, bounds, strict=True)))


def _ranks(windows: list[NDArray[np.int64]], percentile: np.int64, quantile: float) -> tuple[int, int]:
    """The ranks (from 1) of the order statistics that enclose the true percentile at 95 %; the upper may not exist.

    For independent queries the count below the true percentile is binomial, whatever the distribution (Hahn and
    Meeker, 1991, 5.2). Queries that are similar over time vary more than that: the spread of the windows' shares below
    the percentile shows how much, like the spread of their means for the mean. The wider interval is used.
    """
    counts = np.array([len(window) for window in windows])
    count = int(counts.sum())
    below = np.array([np.count_nonzero(window <= percentile) for window in windows])
    half = half_width(below, counts)
    low, high = scipy.stats.binom.ppf([0.025, 0.975], count, quantile)
    return (
        max(min(int(low), math.floor((quantile - half) * count)), 1),
        max(min(int(high) + 1, count), math.ceil((quantile + half) * count)),
    )
