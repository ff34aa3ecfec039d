"""Power and efficiency: measured by a sensor over the throughput window, or estimated from a specification."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import trapezoid

from edlab.metrics.figures import Figures

_MEASURED = ("power_w", "energy_per_inference_mj", "efficiency_ips_per_w")
_NS_PER_S = 1e9
_LARGEST_GAP = 0.1  # of the window: where the sensor was silent for longer, interpolation would invent the figure


def power(
    t_ns: NDArray[np.int64],
    watts: NDArray[np.float64],
    start_ns: int,
    end_ns: int,
    throughput_ips: float,
    *,
    min_seconds: float = 10.0,
    min_samples: int = 100,
) -> Figures:
    """Mean power over the window in which `throughput_ips` was measured, energy per inference, and efficiency.

    `t_ns` (N,) int64 times and `watts` (N,) float64 readings of a real sensor, in order of time; they may reach
    beyond the window [start_ns, end_ns], whose ends are interpolated. Energy is the trapezoid over the window.
    All are withheld where the window is shorter than `min_seconds`, holds fewer than `min_samples` readings, or has
    a gap of a tenth of its length.
    """
    seconds = (end_ns - start_ns) / _NS_PER_S
    inside = (t_ns >= start_ns) & (t_ns <= end_ns)
    count = int(np.count_nonzero(inside))
    if seconds < min_seconds or count < min_samples:
        needs = f"needs {min_seconds:g} s and {min_samples} readings, there are {seconds:.1f} s and {count}"
        return Figures.withheld(_MEASURED, needs)
    times = np.concatenate(([start_ns], t_ns[inside], [end_ns]))
    gap = float(np.diff(times).max()) / _NS_PER_S
    if gap > _LARGEST_GAP * seconds:
        return Figures.withheld(_MEASURED, f"the sensor was silent for {gap:.1f} s of {seconds:.1f} s")
    mean_watts = _mean_watts(times, np.interp(times, t_ns, watts))
    if mean_watts <= 0 or throughput_ips <= 0:
        return Figures.withheld(_MEASURED, f"the sensor read {mean_watts:.3g} W at {throughput_ips:.3g} inferences/s")
    return Figures(
        {
            "power_w": mean_watts,
            "energy_per_inference_mj": 1e3 * mean_watts / throughput_ips,
            "efficiency_ips_per_w": throughput_ips / mean_watts,
        }
    )


def idle_power(t_ns: NDArray[np.int64], watts: NDArray[np.float64]) -> Figures:
    """Mean power of the idle target, by the trapezoid over all readings; see `power` for the arrays."""
    if len(t_ns) < 2:
        return Figures.withheld(["idle_power_w"], f"needs 2 readings, there are {len(t_ns)}")
    return Figures({"idle_power_w": _mean_watts(t_ns, watts)})


def estimated_power(specified_watts: float | None, throughput_ips: float, reason: str) -> Figures:
    """What the device's specification says, as `estimated_*`; `reason` is why nothing was measured, or estimated."""
    measured = Figures.withheld(_MEASURED, reason)
    if not specified_watts:
        return measured | Figures.withheld(("estimated_power_w", "estimated_efficiency_ips_per_w"), reason)
    return measured | Figures(
        {
            "estimated_power_w": specified_watts,
            "estimated_efficiency_ips_per_w": throughput_ips / specified_watts,
        }
    )


def _mean_watts(t_ns: NDArray[np.int64], watts: NDArray[np.float64]) -> float:
    return float(trapezoid(watts, t_ns) / (t_ns[-1] - t_ns[0]))
