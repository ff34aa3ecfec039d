"""Rates of a saturated target, and the results of its search for a setting."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edlab.agent.messages import Setting, Trial
from edlab.agent.statistics import LEAST_WINDOWS, MOST_WINDOWS, half_width
from edlab.metrics.figures import Figures

THROUGHPUT_INTERVAL = ("throughput_ci95_low_ips", "throughput_ci95_high_ips")
OPERATIONS_INTERVAL = ("flops_ci95_low_per_s", "flops_ci95_high_per_s")


def throughput(throughput_ips: float, flops: int | None) -> Figures:
    """Measured inferences per second, and the resulting floating-point operations per second.

    `flops`: operations of one inference, 2 x its MACs; None if they could not be counted. They are the operations of
    the source model, so that quantizations and converters are comparable: an int8 model executes integer operations.
    """
    if flops is None:
        missing = {"flops_per_s": "the model's operations could not be counted"}
        return Figures({"throughput_ips": throughput_ips}, missing)
    return Figures({"throughput_ips": throughput_ips, "flops_per_s": throughput_ips * flops})


def throughput_interval(throughput_ips: float, ips_by_second: NDArray[np.float64], flops: int | None = None) -> Figures:
    """The 95 % intervals of a throughput and of its operations, from the (N,) rates of the seconds of its window.

    Student's t over the seconds, or over larger parts of the window if that is wider: see `agent.statistics`.
    """
    names = [*THROUGHPUT_INTERVAL, *(OPERATIONS_INTERVAL if flops else ())]
    if len(ips_by_second) < LEAST_WINDOWS:
        return Figures.withheld(names, f"needs a window of {LEAST_WINDOWS} s, there are {len(ips_by_second)} s")
    parts = np.array_split(ips_by_second, min(MOST_WINDOWS, len(ips_by_second)))
    sums, counts = np.array([part.sum() for part in parts]), np.array([len(part) for part in parts])
    half = half_width(sums, counts)
    bounds = (max(throughput_ips - half, 0.0), throughput_ips + half)
    return Figures(dict(zip(names, [*bounds, *(bound * (flops or 0) for bound in bounds)], strict=False)))


def setting(batch: int, in_flight: int) -> Figures:
    """The setting at which the throughput was measured."""
    return Figures({"throughput_batch": float(batch), "throughput_in_flight": float(in_flight)})


def batch1(ips: float | None, note: str = "") -> Figures:
    """The best rate at batch 1, inferences per second; None: it could not be tried, and `note` states why.

    It is the throughput itself if its batch is 1, else one trial after the search.
    """
    if ips is None:
        return Figures.withheld(["throughput_batch1_ips"], note)
    return Figures({"throughput_batch1_ips": ips})


def searched(trials: Sequence[Trial], setting: Setting) -> float | None:
    """The rate that a setting had in the search, inferences per second: the median of its trials; None without one."""
    rates = [trial.ips for trial in trials if trial.setting == setting and trial.ips is not None]
    return float(np.median(rates)) if rates else None


def batch_one_only(trials: Sequence[Trial]) -> str:
    """Why only batch 1 could run, from the notes of trials of larger batches; empty if one ran or none was tried."""
    larger = [trial for trial in trials if trial.batch > 1]
    if any(trial.ips is not None for trial in larger):
        return ""
    return min(larger, key=lambda trial: trial.batch).note if larger else ""
