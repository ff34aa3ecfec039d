"""Whether a target sustains its speed: the throughput over half an hour."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edlab.metrics.figures import Figures
from edlab.metrics.readings import Bounds, are_believable

_NS_PER_S = 1_000_000_000
WINDOW_S = 300
_FIGURES = ("throughput_peak_ips", "throughput_sustained_ips", "sustained_ratio")


def sustained(ips: NDArray[np.float64]) -> Figures:
    """Peak, sustained rate and their ratio, from a curve, float64 (N,) inferences/s, one value per second.

    The peak is the fastest window of five minutes, sustained is the last one; the ratio is the second over the first,
    at most 1. A target that does not throttle has a ratio below 1 only because its windows differ by chance: the
    fastest of six is about 1.3 standard deviations above the mean. Withheld if the curve is shorter than two windows.
    """
    rates = by_window(ips)
    if len(rates) < 2:
        needs = f"needs a throughput window of {2 * WINDOW_S} s, there are {len(ips)} s: set protocol=sustained"
        return Figures.withheld(_FIGURES, needs)
    peak, last = max(rates), rates[-1]
    return Figures(dict(zip(_FIGURES, (peak, last, last / peak if peak else 0.0), strict=True)))


def by_window(values: Sequence[float] | NDArray[np.float64]) -> list[float]:
    """The means of disjoint windows of five minutes, from N values, one per second; empty if there is no full window.

    The remainder is distributed: the lengths of the windows differ by at most a second, and none is shorter.
    """
    count = len(values) // WINDOW_S
    return [float(np.mean(window)) for window in np.array_split(values, count)] if count else []


def watts_by_second(
    t_ns: NDArray[np.int64], watts: NDArray[np.float64], start_ns: int, seconds: int, bounds: Bounds
) -> list[float | None]:
    """The mean of a sensor's readings, (N,) times and watts, in each second from `start_ns` on; None: no reading.

    Readings that `power` drops with these bounds are omitted.
    """
    inside = (t_ns >= start_ns) & are_believable(watts, bounds)
    second = (t_ns[inside] - start_ns) // _NS_PER_S
    counts = np.bincount(second, minlength=seconds)[:seconds]
    sums = np.bincount(second, weights=watts[inside], minlength=seconds)[:seconds]
    return [float(total / count) if count else None for total, count in zip(sums, counts, strict=True)]
