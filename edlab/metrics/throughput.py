"""Rates of a saturated target."""

from __future__ import annotations

from edlab.metrics.figures import Figures


def throughput(throughput_ips: float, flops: int | None) -> Figures:
    """Inferences per second as measured, and the floating-point operations per second that they make.

    `flops`: operations of one inference, 2 x its MACs; None where they could not be counted. They are those of the
    source model, so that quantizations and converters compare: what an int8 model executes are integer operations.
    """
    if flops is None:
        missing = {"flops_per_s": "the model's operations could not be counted"}
        return Figures({"throughput_ips": throughput_ips}, missing)
    return Figures({"throughput_ips": throughput_ips, "flops_per_s": throughput_ips * flops})
