"""Power readings of one window: which are possible, how often they are renewed, their mean and its uncertainty."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy
from numpy.typing import NDArray

_NS_PER_S = 1e9
_LEAST_GAPS = 3  # between changes of the reading, to find how often it is renewed
_SHORT_GAP = (
    0.1  # quantile: gaps are multiples of the refresh period, since a reading may be renewed with its old value
)
_LEAST_FOR_RESIDUALS = 5
_COINCIDENCE = 1e-6  # probability
_EFFICIENCY = 18 / 35  # degrees of freedom for each reading: Gasser, Sroka, Jennen-Steinmetz (1986)
_OF_A_STEP = 0.6  # half of it for the count, and what the two readings at an end add: tests/metrics/test_power_truth.py
_DRAWS = 100_000
_MOST_OF_ONE_READING = 2.0  # of the specified watts
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


@dataclass(frozen=True)
class Instrument:
    """What is known about a source of readings. None: it is not stated, and not part of the uncertainty."""

    kind: str = "sensor"  # of the target; or "meter": an instrument outside of it
    lag_s: float = 0.0  # how far back a reading may reach
    resolution_w: float | None = None  # one step of a reading
    accuracy: float | None = None  # the largest error of a reading, as a fraction of it
    clock_error_s: float = 0.0  # the largest common error of the readings' times
    counter_renewed_s: float | None = None  # it counts energy: how often the count is updated; None: it reports watts


class Mean(NamedTuple):
    """The mean power of a window, and the standard error that follows from the scatter of single readings.

    That of a counter of energy also has the scatter of the load between its readings, which the count includes.
    """

    watts: float
    standard_error: float
    freedom: float  # degrees of freedom of the standard error
    scatter: float  # standard deviation of one reading, without the changes of the load that readings resolve
    readings: int  # new ones: a repeated value within one refresh period is no reading


def are_believable(watts: NDArray[np.float64], bounds: Bounds) -> NDArray[np.bool_]:
    """Which readings, (N,) watts, are possible."""
    return np.isfinite(watts) & (watts >= 0) & (watts <= bounds.most_of_one_reading)


def refresh_s(t_ns: NDArray[np.int64], watts: NDArray[np.float64]) -> float | None:
    """How often a sensor renews its reading, in seconds, from (N,) readings; None if it changed too rarely.

    A sensor that is read more often than it is renewed repeats its reading: the shortest times between two changes are
    the refresh period. A sensor that is renewed faster than it is read gives the time between readings.
    """
    changes = t_ns[1:][np.diff(watts) != 0]
    gaps = np.diff(changes)
    if len(gaps) < _LEAST_GAPS:
        return None
    return float(np.quantile(gaps, _SHORT_GAP, method="lower")) / _NS_PER_S


def are_new(t_ns: NDArray[np.int64], watts: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which of (N,) readings are new: changed ones, and one for each refresh period without a change."""
    new = np.concatenate(([True], np.diff(watts) != 0))
    period = refresh_s(t_ns, watts)
    if period is None:
        return new
    last = t_ns[0]
    for index in range(1, len(t_ns)):
        new[index] |= t_ns[index] - last >= period * _NS_PER_S
        if new[index]:
            last = t_ns[index]
    return new


def stuck_s(t_ns: NDArray[np.int64], watts: NDArray[np.float64]) -> float:
    """The longest time, in seconds, for which a sensor repeated a reading that it should have renewed; 0: none.

    A constant load in coarse steps gives equal readings as well. So the longest stretch of equal readings counts only
    if the readings outside change so often that this stretch is no coincidence.
    """
    new = are_new(t_ns, watts)
    t_ns, watts = t_ns[new], watts[new]
    starts = np.concatenate(([0], np.flatnonzero(np.diff(watts)) + 1, [len(watts)]))
    lengths = np.diff(starts)
    longest = int(lengths.argmax())
    outside, repeats = len(watts) - int(lengths[longest]), int(lengths[longest]) - 1
    if outside < _LEAST_GAPS:
        return 0.0
    share = (len(lengths) - 1) / (outside + 1)  # of the readings outside, those that differ from the one before
    if repeats * math.log1p(-min(share, 1 - _COINCIDENCE)) > math.log(_COINCIDENCE):
        return 0.0
    first = int(starts[longest])
    return float(t_ns[first + repeats] - t_ns[first]) / _NS_PER_S


def mean(
    t_ns: NDArray[np.int64], watts: NDArray[np.float64], start_ns: int, end_ns: int, *, counts: bool = False
) -> Mean:
    """The mean power from `start_ns` to `end_ns`: the trapezoid over (N,) readings in order of time.

    The readings may extend beyond the window. At its start the power is interpolated; at its end the last reading
    inside holds, since readings after it belong to the time without load. `counts`: the source counts energy.
    """
    inside = (t_ns >= start_ns) & (t_ns <= end_ns)
    average = _counted(t_ns[inside], watts[inside], start_ns, end_ns) if counts else None
    if average is None:
        times = np.concatenate(([start_ns], t_ns[inside], [end_ns]))
        first = np.interp(start_ns, t_ns, watts)
        values = np.concatenate(([first], watts[inside], watts[inside][-1:]))
        average = float(scipy.integrate.trapezoid(values, times) / (end_ns - start_ns))
    new = are_new(t_ns[inside], watts[inside])
    t_new, new_watts = t_ns[inside][new], watts[inside][new]
    scatter, freedom = _scatter(t_new, new_watts)
    edges = np.concatenate(([start_ns], (t_new[1:] + t_new[:-1]) / 2, [end_ns]))
    shares = np.diff(edges) / (end_ns - start_ns)
    return Mean(average, scatter * float(np.sqrt(np.sum(shares**2))), freedom, scatter, len(t_new))


def _counted(t_ns: NDArray[np.int64], watts: NDArray[np.float64], start_ns: int, end_ns: int) -> float | None:
    """The mean power of the window by a counter of energy, from the (N,) readings inside; None if there are too few.

    A reading is the mean power from the reading before it to the one after it (`EnergyCounter` in the agent): the first
    and the last one contain energy from outside of the window, and those next to them stand for its ends.
    """
    if len(t_ns) < _LEAST_FOR_RESIDUALS:
        return None
    middles = (t_ns[1:] + t_ns[:-1]) / 2
    shares = np.diff(np.concatenate(([start_ns], middles[1:-1], [end_ns])))
    return float(np.average(watts[1:-1], weights=shares))


def interval(mean: Mean, instrument: Instrument, swing_w: float, seconds: float) -> tuple[float, float]:
    """The 95 % interval of a mean over `seconds`, in watts; `swing_w` is the range of its readings.

    The scatter of readings (Student's t) is combined with errors of which only the limits are known: the sensor's
    accuracy, its resolution, and the alignment of the clocks, which moves the window over a load that changes by up to
    `swing_w`. A counter of energy misses nothing between its readings: instead of their scatter, either end of the
    window is uncertain by the time for which the count is not updated. Distributions are propagated as in JCGM 101:2008
    (supplement 1 of the GUM), by seeded draws.
    """
    end_w = _OF_A_STEP * (instrument.counter_renewed_s or 0.0) / seconds * mean.watts
    limits = (
        end_w,
        end_w,
        (instrument.accuracy or 0.0) * mean.watts,
        _unresolved_w(instrument.resolution_w, mean.scatter),
        swing_w * instrument.clock_error_s / seconds,
    )
    random = np.random.default_rng(0)
    scatters = instrument.counter_renewed_s is None
    draws = mean.standard_error * random.standard_t(mean.freedom, _DRAWS) if scatters else np.zeros(_DRAWS)
    for limit in limits:
        draws += limit * random.uniform(-1, 1, _DRAWS)
    low, high = np.quantile(draws, (0.025, 0.975))
    return max(mean.watts + float(low), 0.0), mean.watts + float(high)


def _unresolved_w(resolution_w: float | None, scatter: float) -> float:
    """The largest error of a mean of readings in steps of `resolution_w`: half a step, unless noise averages it out.

    With noise of standard deviation s, the error of the mean of steps q falls as exp(-2 (pi s / q)^2) (Widrow, Kollar,
    Quantization Noise, 2008).
    """
    if not resolution_w:
        return 0.0
    noise = max(scatter**2 - resolution_w**2 / 12, 0.0) / resolution_w**2
    return resolution_w / 2 * math.exp(-2 * math.pi**2 * noise)


def _scatter(t_ns: NDArray[np.int64], watts: NDArray[np.float64]) -> tuple[float, float]:
    """The standard deviation of one reading around the load, and its degrees of freedom.

    From the distance of each reading to the line between its neighbours: slow changes of the load, which readings
    follow, do not count, and noise or a load faster than the readings counts in full.
    """
    if len(watts) < _LEAST_FOR_RESIDUALS:
        return (float(np.std(watts, ddof=1)) if len(watts) > 1 else 0.0), max(len(watts) - 1.0, 1.0)
    weight = (t_ns[2:] - t_ns[1:-1]) / (t_ns[2:] - t_ns[:-2])
    residuals = watts[1:-1] - weight * watts[:-2] - (1 - weight) * watts[2:]
    variances = residuals**2 / (1 + weight**2 + (1 - weight) ** 2)
    return math.sqrt(float(variances.mean())), _EFFICIENCY * len(watts)
