"""Whether a target holds its speed: the throughput over half an hour."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edlab.metrics.figures import Figures

_NS_PER_S = 1_000_000_000
PEAK_S, SUSTAINED_S = 60, 300


def sustained(ips: NDArray[np.float64]) -> Figures:
    """Peak, sustained rate and their ratio of a curve, float64 (N,) inferences/s, one value a second.

    The peak is the fastest minute, wherever it lies; sustained is the mean of the last five minutes; the ratio is the
    second over the first, at most 1 but for noise. None of them where the curve is shorter than both together.
    """
    if len(ips) < PEAK_S + SUSTAINED_S:
        return Figures()
    total = np.concatenate(([0.0], np.cumsum(ips)))
    peak = float((total[PEAK_S:] - total[:-PEAK_S]).max() / PEAK_S)
    last = float(ips[-SUSTAINED_S:].mean())
    return Figures(
        {"throughput_peak_ips": peak, "throughput_sustained_ips": last, "sustained_ratio": last / peak if peak else 0.0}
    )


def watts_by_second(
    t_ns: NDArray[np.int64], watts: NDArray[np.float64], start_ns: int, seconds: int
) -> list[float | None]:
    """The mean of a sensor's readings, (N,) times and watts, in each second from `start_ns` on; None: it gave none."""
    inside = (t_ns >= start_ns) & np.isfinite(watts)
    second = (t_ns[inside] - start_ns) // _NS_PER_S
    counts = np.bincount(second, minlength=seconds)[:seconds]
    sums = np.bincount(second, weights=watts[inside], minlength=seconds)[:seconds]
    return [float(total / count) if count else None for total, count in zip(sums, counts, strict=True)]
