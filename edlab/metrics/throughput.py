"""Rates of a saturated target, and the results of its search for a setting."""

from __future__ import annotations

from collections.abc import Sequence

from edlab.agent.messages import Trial
from edlab.metrics.figures import Figures


def throughput(throughput_ips: float, flops: int | None) -> Figures:
    """Measured inferences per second, and the resulting floating-point operations per second.

    `flops`: operations of one inference, 2 x its MACs; None if they could not be counted. They are the operations of
    the source model, so that quantizations and converters are comparable: an int8 model executes integer operations.
    """
    if flops is None:
        missing = {"flops_per_s": "the model's operations could not be counted"}
        return Figures({"throughput_ips": throughput_ips}, missing)
    return Figures({"throughput_ips": throughput_ips, "flops_per_s": throughput_ips * flops})


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


def batch_one_only(trials: Sequence[Trial]) -> str:
    """Why only batch 1 could run, from the notes of trials of larger batches; empty if one ran or none was tried."""
    larger = [trial for trial in trials if trial.batch > 1]
    if any(trial.ips is not None for trial in larger):
        return ""
    return min(larger, key=lambda trial: trial.batch).note if larger else ""
