"""Latency figures from the time of each query, in the order in which they were measured."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edlab.errors import MeasurementError
from edlab.metrics.figures import Figures

_NS_PER_MS = 1e6

# Quantile -> the fewest queries that support it at 99 % confidence: the smallest n for which
# P(Binomial(n, 1 - q) <= 1) <= 0.01. This is the early-stopping criterion of MLPerf Inference with one query above.
_QUERIES_NEEDED = {0.5: 11, 0.9: 64, 0.95: 130, 0.97: 219, 0.99: 662, 0.999: 6636}

_INTERVAL_QUERIES = 30  # fewer blocks than these give a bootstrap interval that is far too narrow
_RESAMPLES = 2000
_DRAWS_AT_ONCE = 1 << 20  # bounds the bootstrap's memory to some 20 MB


def latency(ns: NDArray[np.int64], windows: int = 5, seed: int = 0) -> Figures:
    """Mean, percentiles, interval, spread and drift of the latency.

    `ns`: int64 (N,), nanoseconds of each query in order of measurement. The headline `latency_ms` is the mean of all:
    no outlier is dropped; `latency_outliers` counts those beyond Q3 + 3 IQR (Tukey's outer fence). A percentile is
    the smallest time that this share of the queries did not exceed (nearest rank, as MLPerf's LoadGen takes it).
    `latency_drift` is the last half's median over the first half's, less 1; `latency_window_spread` the range of the
    windows' means over the mean. Raises `MeasurementError` where there is no query.
    """
    if not len(ns):
        raise MeasurementError(
            "no query ended within the latency phase",
            hint="raise protocol.max_seconds, or take a smaller model",
        )
    ms = ns / _NS_PER_MS
    mean = float(ms.mean())
    quartile1, quartile3 = np.percentile(ms, [25, 75])
    values = {
        "latency_ms": mean,
        "latency_min_ms": float(ms.min()),
        "latency_max_ms": float(ms.max()),
        "latency_outliers": float(np.count_nonzero(ms > quartile3 + 3 * (quartile3 - quartile1))),
    }
    figures = Figures(values) | _percentiles(ms) | _interval(ms, seed)
    if len(ms) < 2 * windows:
        names = ("latency_std_ms", "latency_drift", "latency_window_spread")
        return figures | Figures.withheld(names, f"needs {2 * windows} queries, there are {len(ms)}")
    half = len(ms) // 2
    means = window_means_ms(ns, windows)
    stability = {
        "latency_std_ms": float(ms.std(ddof=1)),
        "latency_drift": float(np.median(ms[half:]) / np.median(ms[:half]) - 1),
        "latency_window_spread": float((means.max() - means.min()) / mean),
    }
    return figures | Figures(stability)


def window_means_ms(ns: NDArray[np.int64], windows: int = 5) -> NDArray[np.float64]:
    """The mean latency, ms, of each of `windows` consecutive parts of (nearly) equal length; float64 (windows,)."""
    return np.array([part.mean() / _NS_PER_MS for part in np.array_split(ns, min(windows, len(ns)))])


def _percentiles(ms: NDArray[np.float64]) -> Figures:
    values, missing = {}, {}
    for quantile, needed in _QUERIES_NEEDED.items():
        name = f"latency_p{100 * quantile:g}_ms".replace(".", "_")
        if len(ms) >= needed:
            values[name] = float(np.quantile(ms, quantile, method="inverted_cdf"))
        else:
            missing[name] = f"needs {needed} queries, there are {len(ms)}"
    return Figures(values, missing)


def _interval(ms: NDArray[np.float64], seed: int) -> Figures:
    if len(ms) < _INTERVAL_QUERIES:
        names = ("latency_ci95_low_ms", "latency_ci95_high_ms")
        return Figures.withheld(names, f"needs {_INTERVAL_QUERIES} queries, there are {len(ms)}")
    low, high = np.percentile(_bootstrap_means(ms, seed), [2.5, 97.5])
    return Figures({"latency_ci95_low_ms": float(low), "latency_ci95_high_ms": float(high)})


def _bootstrap_means(ms: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Means of `_RESAMPLES` series drawn by the circular block bootstrap (Politis and Romano, 1992).

    Neighbouring queries are alike (clocks, caches, other load), so whole blocks are drawn. Their length is N^(1/3),
    the order that is optimal for the variance of a mean (Hall, Horowitz and Jing, 1995).
    """
    length = math.ceil(len(ms) ** (1 / 3))
    blocks = math.ceil(len(ms) / length)
    total = np.concatenate(([0.0], np.cumsum(np.concatenate((ms, ms[: length - 1])))))
    block_sums = total[length:] - total[:-length]
    generator = np.random.default_rng(seed)
    at_once = max(1, _DRAWS_AT_ONCE // blocks)
    sums = [
        block_sums[generator.integers(len(ms), size=(min(at_once, _RESAMPLES - done), blocks))].sum(axis=1)
        for done in range(0, _RESAMPLES, at_once)
    ]
    means: NDArray[np.float64] = np.concatenate(sums) / (blocks * length)
    return means
