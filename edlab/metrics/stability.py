"""Whether the latency was stable during the measurement: a trend, a change at the end, bursts of slow queries."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from edlab.agent.statistics import QUERIES_PER_WINDOW, cut
from edlab.metrics.figures import Figures

_CONFIDENCE = 0.99
_NORMAL_MEDIAN = 0.6745  # of |x|, x normal with standard deviation 1
_SLICE_NS = 50_000_000  # bursts of other load last for tens of milliseconds at least
_SLICE_QUERIES = 5
_BASE = 0.25  # quantile of the slices that represents the undisturbed latency
_SLOW = 1.15  # a slice slower than the base by this factor is part of a burst


@dataclass(frozen=True)
class Stability:
    """All as fractions. Windows are equal in time; single stalls do not change the median of each."""

    drift: float  # the fitted change from the first window to the last, as a fraction of the mean of the windows
    drift_interval: tuple[float, float]  # 99 %
    last_over_first: float  # last window / first window - 1
    scatter: float  # between successive windows, without the first and the last: a standard deviation
    bursts: float  # share of the time in which queries were 15 % or more slower than undisturbed


def stability_figures(found: Stability | None) -> Figures:
    """`latency_drift`, `latency_last_over_first` and `latency_bursts`, all as fractions."""
    names = ("latency_drift", "latency_last_over_first", "latency_bursts")
    if found is None:
        return Figures.withheld(names, "too few queries, or one that took as long as a window")
    return Figures(dict(zip(names, (found.drift, found.last_over_first, found.bursts), strict=True)))


def stability(ns: NDArray[np.int64], windows: int) -> Stability | None:
    """How (N,) latencies, ns, in order of measurement, changed over the windows; None if there are too few."""
    if len(ns) < QUERIES_PER_WINDOW * windows:
        return None
    medians = _medians(ns, cut(ns, windows).counts)
    if len(medians) < windows:  # a query is as long as a window: windows cannot be compared
        return None
    level = float(medians.mean())
    fit = scipy.stats.linregress(np.arange(windows), medians)
    span = (windows - 1) / level
    half = scipy.stats.t.ppf((1 + _CONFIDENCE) / 2, windows - 2) * fit.stderr
    middle = np.diff(medians[1:-1])
    return Stability(
        drift=float(fit.slope * span),
        drift_interval=(float((fit.slope - half) * span), float((fit.slope + half) * span)),
        last_over_first=float(medians[-1] / medians[0] - 1),
        # From the median of the differences: neither a drift nor a step in a few of the windows increases it.
        scatter=float(np.median(np.abs(middle)) / _NORMAL_MEDIAN / np.sqrt(2) / level),
        bursts=_bursts(ns),
    )


def _bursts(ns: NDArray[np.int64]) -> float:
    count = min(int(ns.sum() // _SLICE_NS), len(ns) // _SLICE_QUERIES)
    slices = cut(ns, max(count, 1))
    medians = _medians(ns, slices.counts)
    slow = medians > _SLOW * np.quantile(medians, _BASE)
    stalled = len(slices.counts) - len(medians)  # slices in which no query ended; five do on average
    return float((np.count_nonzero(slow) + stalled) / len(slices.counts))


def _medians(ns: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """The median of each part of these lengths; a part without a query is omitted."""
    parts = np.split(ns, np.cumsum(counts)[:-1])
    return np.array([np.median(part) for part in parts if len(part)])
