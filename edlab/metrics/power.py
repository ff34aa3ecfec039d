"""Power and efficiency: measured by a sensor over the throughput window, or estimated from a specification."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from edlab.metrics.figures import Figures
from edlab.source import Reason

_HEADLINES = ("power_w", "energy_per_inference_mj", "efficiency_ips_per_w")
_MEASURED = (*_HEADLINES, "power_standard_error_w", "power_readings", "power_readings_dropped")
_IDLE = ("idle_power_w", "idle_power_standard_error_w")
_NS_PER_S = 1e9
_ALWAYS = -(2**63)  # ns: before any reading
_LARGEST_GAP = 0.1  # of the window: if the sensor was silent for longer, interpolation would invent the result
_LARGEST_GAP_IDLE = 1 / 3  # of a shorter span, whose result is only for comparison
_LARGEST_SHARE = 0.05  # of the readings: the most that may be dropped, or be zero
_LEAST_RENEWED = 20  # readings; with fewer, a window's mean is too uncertain
_MARGIN = 1.25  # for the window that is proposed for a slow sensor
_BLOCKS = 10  # of the readings in a window, for the standard error of its mean
_SIGMAS = 3.0
_LEAST_OF_IDLE = 0.3
_MOST_OF_SPECIFIED = 1.3  # of a window's mean: sensors have errors of some percent, and cards overshoot their limit
_MOST_OF_ONE_READING = 3.0  # of the specified watts: peaks are higher than means
# Watts of one reading that no target of this size can use. USB: the maximum of Power Delivery 3.1.
_MOST_WATTS = {"rail": 5e3, "module": 5e3, "package": 20e3, "board_dc": 20e3, "usb": 240.0, "wall_ac": 20e3}


@dataclass(frozen=True)
class Bounds:
    """Other facts about the power of a target, to check a sensor's readings. None: unknown."""

    boundary: str = "wall_ac"
    idle_w: float | None = None
    idle_standard_error_w: float = 0.0
    max_watts: float | None = None  # from the device's specification

    @property
    def most_of_one_reading(self) -> float:
        """Watts above which a reading is impossible."""
        specified = math.inf if self.max_watts is None else _MOST_OF_ONE_READING * self.max_watts
        return min(_MOST_WATTS[self.boundary], specified)


def power(
    t_ns: NDArray[np.int64],
    watts: NDArray[np.float64],
    start_ns: int,
    end_ns: int,
    throughput_ips: float,
    *,
    min_seconds: float = 10.0,
    min_samples: int = 100,
    lag_s: float = 0.0,
    bounds: Bounds = Bounds(),
    error: str = "",
) -> Figures:
    """Mean power over the window in which `throughput_ips` was measured, energy per inference, and efficiency.

    `t_ns` (N,) int64 times and `watts` (N,) float64 readings of a real sensor, in order of time; they may extend beyond
    the window [start_ns, end_ns], whose ends are interpolated. Energy is the trapezoid over the window, which begins
    `lag_s` later: until then the sensor still reports earlier power. `error` is the error of the last failed reading.
    Impossible readings are dropped and counted.

    All are withheld if the window is shorter than `min_seconds` or has fewer than `min_samples` readings, and with a
    doubt if the sensor was silent for a tenth of it or its readings are not plausible.
    """
    start_ns += round(lag_s * _NS_PER_S)
    seconds = (end_ns - start_ns) / _NS_PER_S
    inside = (t_ns >= start_ns) & (t_ns <= end_ns)
    believable = are_believable(watts, bounds)
    read, count = int(np.count_nonzero(inside)), int(np.count_nonzero(inside & believable))
    if seconds >= min_seconds and read == 0:
        return Figures.doubted(_MEASURED, _unreadable(error))
    if read - count > _LARGEST_SHARE * read:
        return Figures.doubted(_MEASURED, _absurd(watts[inside & ~believable], read, bounds))
    if seconds < min_seconds or count < min_samples:
        needs = f"needs {min_seconds:g} s and {min_samples} readings, there are {seconds:.1f} s and {count}"
        return Figures.withheld(_MEASURED, f"{needs}; the last error: {error}" if error else needs)
    t_ns, watts, inside = t_ns[believable], watts[believable], inside[believable]
    times = np.concatenate(([start_ns], t_ns[inside], [end_ns]))
    gap = float(np.diff(times).max()) / _NS_PER_S
    if gap > _LARGEST_GAP * seconds:
        return Figures.doubted(_MEASURED, _silent(gap, seconds, error))
    mean_watts = _mean_watts(times, np.interp(times, t_ns, watts))
    standard_error = _standard_error(watts[inside])
    if doubt := next(_doubts(watts[inside], seconds, mean_watts, standard_error, bounds), None):
        return Figures.doubted(_MEASURED, doubt)
    if throughput_ips <= 0:
        return Figures.withheld(_MEASURED, f"the sensor read {mean_watts:.3g} W at {throughput_ips:.3g} inferences/s")
    return Figures(
        {
            "power_w": mean_watts,
            "power_standard_error_w": standard_error,
            "power_readings": count,
            "power_readings_dropped": read - count,
            "energy_per_inference_mj": 1e3 * mean_watts / throughput_ips,
            "efficiency_ips_per_w": throughput_ips / mean_watts,
        }
    )


def idle_power(
    t_ns: NDArray[np.int64],
    watts: NDArray[np.float64],
    *,
    start_ns: int = _ALWAYS,
    bounds: Bounds = Bounds(),
) -> Figures:
    """Mean power of the idle target, by the trapezoid over the readings from `start_ns` on. See `power` for the arrays.

    Withheld if there are too few readings: then the power under load is not compared with it either.
    """
    t_ns, watts = t_ns[t_ns >= start_ns], watts[t_ns >= start_ns]
    believable = are_believable(watts, bounds)
    dropped = watts[~believable]
    if len(dropped) > _LARGEST_SHARE * len(watts):
        return Figures.withheld(_IDLE, _absurd(dropped, len(watts), bounds).message)
    t_ns, watts = t_ns[believable], watts[believable]
    if len(t_ns) < _BLOCKS:
        return Figures.withheld(_IDLE, f"needs {_BLOCKS} readings, there are {len(t_ns)}")
    gap, seconds = float(np.diff(t_ns).max()) / _NS_PER_S, float(t_ns[-1] - t_ns[0]) / _NS_PER_S
    if gap > _LARGEST_GAP_IDLE * seconds:
        return Figures.withheld(_IDLE, _silent(gap, seconds, "").message)
    return Figures(dict(zip(_IDLE, (_mean_watts(t_ns, watts), _standard_error(watts)), strict=True)))


def estimated_power(specified_watts: float | None, throughput_ips: float, reason: str) -> Figures:
    """The estimate of the specification, as `estimated_*`; `reason` is why power was not measured, or estimated."""
    measured = Figures.withheld(_HEADLINES, reason)
    if not specified_watts:
        return measured | Figures.withheld(("estimated_power_w", "estimated_efficiency_ips_per_w"), reason)
    return measured | Figures(
        {
            "estimated_power_w": specified_watts,
            "estimated_efficiency_ips_per_w": throughput_ips / specified_watts,
        }
    )


def _doubts(
    watts: NDArray[np.float64], seconds: float, mean: float, standard_error: float, bounds: Bounds
) -> Iterator[Reason]:
    """Why the readings of a window are not plausible, the clearest reason first."""
    zeros = int(np.count_nonzero(watts == 0))
    if zeros > _LARGEST_SHARE * len(watts):
        yield Reason(
            code="power_zeros",
            message=f"{zeros} of {len(watts)} readings are 0 W under load",
            advice="check the sensor's wiring and driver: it fails at times, or its range is too wide for this target",
        )
    if watts.min() == watts.max():
        yield Reason(
            code="power_stuck",
            message=f"all {len(watts)} readings are {watts[0]:.6g} W",
            advice="check the sensor's driver: its reading is not updated, or its steps are too coarse for this load",
        )
    renewed = 1 + int(np.count_nonzero(np.diff(watts)))
    if renewed < _LEAST_RENEWED:
        yield Reason(
            code="power_few_readings",
            message=f"the sensor updated its reading only {renewed} times in the window; {_LEAST_RENEWED} are needed",
            advice=f"set power.active_seconds={math.ceil(_MARGIN * seconds * _LEAST_RENEWED / renewed)}",
        )
    if bounds.max_watts is not None and mean > _MOST_OF_SPECIFIED * bounds.max_watts:
        yield Reason(
            code="power_implausible",
            message=f"{mean:.3g} W is more than {_MOST_OF_SPECIFIED:g} times device.specification.max_watts "
            f"({bounds.max_watts:g} W)",
            advice="choose a sensor that measures this device alone (device.sensors), or fix max_watts",
        )
    if bounds.idle_w is None:
        return
    if mean < _LEAST_OF_IDLE * bounds.idle_w:
        yield Reason(
            code="power_implausible",
            message=f"{mean:.3g} W under load is less than {_LEAST_OF_IDLE:g} times the idle power "
            f"({bounds.idle_w:.3g} W)",
            advice="check that the target was idle before the run, and that the sensor measures the device",
        )
    if mean - bounds.idle_w <= _SIGMAS * math.hypot(standard_error, bounds.idle_standard_error_w):
        yield Reason(
            code="power_not_above_idle",
            message=f"{mean:.4g} W under load is not {_SIGMAS:g} sigma above the idle power ({bounds.idle_w:.4g} W)",
            advice="choose a sensor that measures the device (device.sensors; `edlab doctor` lists the available "
            "sensors), or raise power.active_seconds",
        )


def _unreadable(error: str) -> Reason:
    return Reason(
        code="power_unreadable",
        message=f"the sensor has no readings: {error}" if error else "the sensor has no readings in the window",
        advice="`edlab doctor` lists the readable sensors; choose one with device.sensors, or set power=none",
    )


def _silent(gap: float, seconds: float, error: str) -> Reason:
    return Reason(
        code="power_gap",
        message=f"the sensor was silent for {gap:.1f} s of {seconds:.1f} s" + (f": {error}" if error else ""),
        advice="check that the sensor can be read continuously; raise power.active_seconds if it is slow",
    )


def _absurd(watts: NDArray[np.float64], read: int, bounds: Bounds) -> Reason:
    return Reason(
        code="power_absurd",
        message=f"{len(watts)} of {read} readings are negative, not finite or above {bounds.most_of_one_reading:g} W, "
        f"for example {watts[0]:.6g} W",
        advice="check the sensor's driver and scale, and device.specification.max_watts if it is set",
    )


def are_believable(watts: NDArray[np.float64], bounds: Bounds) -> NDArray[np.bool_]:
    """Which readings, (N,) watts, are possible."""
    return np.isfinite(watts) & (watts >= 0) & (watts <= bounds.most_of_one_reading)


def _standard_error(watts: NDArray[np.float64]) -> float:
    """The standard error of the mean, from the means of blocks, which are less correlated than successive readings."""
    blocks = [float(block.mean()) for block in np.array_split(watts, min(_BLOCKS, len(watts)))]
    return float(np.std(blocks, ddof=1) / math.sqrt(len(blocks)))


def _mean_watts(t_ns: NDArray[np.int64], watts: NDArray[np.float64]) -> float:
    return float(scipy.integrate.trapezoid(watts, t_ns) / (t_ns[-1] - t_ns[0]))
