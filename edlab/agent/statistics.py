"""The confidence interval of a mean of dependent terms: one rule for the agent and the host.

Latencies of neighbouring queries are similar, because clocks, heat and other load change within seconds. So a series is
cut into windows of equal time, and Student's t is computed over the windows (batch means; Law and Carson, 1979). It is
valid as long as these changes are faster than a window. docs/results/coverage.md shows how often it covers the true
mean.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# 97.5 % quantile of Student's t by degrees of freedom, from 1 on (scipy.stats.t.ppf, which the target does not have).
_T975 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
_NORMAL975 = 1.96  # for more degrees of freedom: the limit of Student's t
LEAST_WINDOWS, MOST_WINDOWS = 5, len(_T975) + 1
QUERIES_PER_WINDOW = 3  # with fewer queries a window's mean is too uncertain


class Windows(NamedTuple):
    """A series cut into windows of equal time; each query is in the window in which it ended."""

    sums: np.ndarray  # float64 (windows,), the durations in each
    counts: np.ndarray  # int64 (windows,), the queries in each

    @property
    def means(self) -> np.ndarray:
        """The mean duration of each window with a query; float64."""
        held = self.counts > 0
        means: np.ndarray = self.sums[held] / self.counts[held]
        return means


def cut(durations: np.ndarray, windows: int) -> Windows:
    """(N,) durations in order of measurement -> their windows, equal in the total time of their durations."""
    ends = np.cumsum(durations, dtype=np.float64)
    edges = ends[-1] * np.arange(1, windows) / windows
    bounds = np.concatenate(([0], np.searchsorted(ends, edges, side="right"), [len(durations)]))
    counts = np.diff(bounds)
    sums = np.diff(np.concatenate(([0.0], ends))[bounds])
    return Windows(sums, counts)


def mean_interval(durations: np.ndarray, windows: int) -> tuple[float, float] | None:
    """The 95 % interval of the mean of (N,) durations; None if there are too few for this number of windows.

    It is never narrower than the interval of independent queries: the means of a few windows can agree by chance.
    """
    if len(durations) < QUERIES_PER_WINDOW * windows:
        return None
    sums, counts = cut(durations, windows)
    mean, half = float(sums.sum() / counts.sum()), max(half_width(sums, counts), _independent_half_width(durations))
    return mean - half, mean + half


def _independent_half_width(durations: np.ndarray) -> float:
    """Half the 95 % interval of the mean of (N,) durations that do not depend on one another."""
    count = len(durations)
    quantile = _T975[count - 2] if count - 2 < len(_T975) else _NORMAL975
    return float(quantile * np.std(durations, ddof=1) / np.sqrt(count))


def half_width(sums: np.ndarray, counts: np.ndarray) -> float:
    """Half the 95 % interval of a mean per query, from the sum and the count of queries in each window, (windows,).

    Student's t over the windows, or over pairs of them if that is wider: changes slower than a window make neighbouring
    windows similar, and appear in the pairs. Windows of equal time contain unequal numbers of queries, so the mean is a
    ratio, and its variance is the variance of the ratio's residuals, s_i - mean n_i (Cochran, Sampling Techniques,
    6.4).
    """
    windows = len(counts)
    residuals = sums - sums.sum() / counts.sum() * counts
    half = _of_total(residuals)
    if windows % 2 == 0 and windows // 2 >= LEAST_WINDOWS:
        half = max(half, _of_total(residuals.reshape(-1, 2).sum(axis=1)))
    return half / float(counts.sum())


def _of_total(residuals: np.ndarray) -> float:
    """Half the 95 % interval of a total, from the deviation of each window from its share."""
    windows = len(residuals)
    return float(_T975[windows - 2] * np.sqrt(windows / (windows - 1) * np.sum(residuals**2)))


def relative_width(durations: np.ndarray, windows: int) -> float | None:
    """The width of that interval, as a fraction of the mean."""
    interval = mean_interval(durations, windows)
    return None if interval is None else (interval[1] - interval[0]) / float(np.mean(durations))
