"""Power and energy: measured by a sensor over a window of inference, or estimated from a specification."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy
from numpy.typing import NDArray

from edlab.metrics.figures import Figures
from edlab.metrics.readings import (
    Bounds,
    Instrument,
    Mean,
    are_believable,
    are_new,
    interval,
    mean,
    refresh_s,
    stuck_s,
)
from edlab.source import Reason

_HEADLINES = ("power_w", "energy_per_inference_mj", "efficiency_ips_per_w")
_MEASURED = (
    *_HEADLINES,
    "power_ci95_low_w",
    "power_ci95_high_w",
    "efficiency_ci95_low_ips_per_w",
    "efficiency_ci95_high_ips_per_w",
    "power_standard_error_w",
    "power_readings",
    "power_readings_dropped",
    "dynamic_power_w",
)
_SINGLE_STREAM = ("latency_power_w", "latency_energy_per_inference_mj")
SAMPLING_COSTS = ("sampling_latency_cost", "sampling_throughput_cost")
_IDLE = ("idle_power_w", "idle_power_standard_error_w")
_UNKNOWN, _UNBOUNDED = Instrument(), Bounds()
_NS_PER_S = 1e9
_NORMAL_95 = 1.96  # standard errors in half of a 95 % interval
_ALWAYS = -(2**63)  # ns: before any reading
_LARGEST_GAP = 0.1  # of the window: if the source was silent for longer, interpolation would invent the result
_LONGEST_GAP_S = 30.0
_USUAL_GAPS = 5.0  # of the median time between two readings: what is longer is silence
_LARGEST_GAP_IDLE = 1 / 3  # of a shorter span, whose result is only for comparison
_LARGEST_SHARE = 0.05  # of the readings: the most that may be dropped, or be zero
_LEAST_IDLE_READINGS = 10
_MARGIN = 1.25  # for the window that is proposed for a slow sensor
_SIGMAS = 3.0
_LEAST_OF_IDLE = 0.3
_MOST_OF_SPECIFIED = 1.3  # of a window's mean: sensors have errors of some percent, and cards overshoot their limit
_IDLE_DRIFT = 0.05  # of the idle power, from the first half of its window to the second: more is not idle yet


@dataclass(frozen=True)
class Window:
    """The span of a measurement, on the clock of its readings, and what it needs at least."""

    start_ns: int
    end_ns: int
    min_seconds: float = 10.0
    min_readings: int = 20  # new ones: with fewer, the mean is too uncertain
    phase: str = ""  # named in the reasons why its power is missing

    def doubted(self, names: Iterable[str], doubt: Reason) -> Figures:
        """All named metrics are missing, because of a doubt about this window."""
        return Figures.doubted(names, _in_phase(self.phase, doubt) if self.phase else doubt)


class _Measured(NamedTuple):
    mean: Mean
    low: float
    high: float
    dropped: int

    def standard_error(self, instrument: Instrument) -> float:
        """The standard error of the mean: of a counter of energy, that of a normal distribution with this interval."""
        if instrument.counter_renewed_s is None:
            return self.mean.standard_error
        return (self.high - self.low) / 2 / _NORMAL_95


def power(
    t_ns: NDArray[np.int64],
    watts: NDArray[np.float64],
    window: Window,
    throughput_ips: float,
    *,
    instrument: Instrument = _UNKNOWN,
    bounds: Bounds = _UNBOUNDED,
    error: str = "",
) -> Figures:
    """Mean power over the window in which `throughput_ips` was measured, energy per inference, and efficiency.

    `t_ns` (N,) int64 times and `watts` (N,) float64 readings of a real sensor, in order of time; they may extend beyond
    the window. Energy is the trapezoid over the window, which begins the instrument's lag later: until then the sensor
    still reports earlier power. `error` is the error of the last failed reading. Impossible readings are dropped and
    counted. The 95 % intervals are those of `edlab.metrics.readings.interval`.

    All are withheld if the window is too short or has too few new readings, and with a doubt if the sensor was silent
    for a tenth of it or its readings are not plausible.
    """
    measured = _measure(_MEASURED, t_ns, watts, window, instrument, bounds, error)
    if isinstance(measured, Figures):
        return measured
    watts_used = measured.mean.watts
    if throughput_ips <= 0:
        return Figures.withheld(_MEASURED, f"the sensor read {watts_used:.3g} W at {throughput_ips:.3g} inferences/s")
    figures = Figures(
        {
            "power_w": watts_used,
            "power_ci95_low_w": measured.low,
            "power_ci95_high_w": measured.high,
            "power_standard_error_w": measured.standard_error(instrument),
            "power_readings": measured.mean.readings,
            "power_readings_dropped": measured.dropped,
            "energy_per_inference_mj": 1e3 * watts_used / throughput_ips,
            "efficiency_ips_per_w": throughput_ips / watts_used,
            "efficiency_ci95_low_ips_per_w": throughput_ips / measured.high,
        }
    )
    if measured.low > 0:
        figures |= Figures({"efficiency_ci95_high_ips_per_w": throughput_ips / measured.low})
    if bounds.idle_w is None:
        return figures | Figures.withheld(["dynamic_power_w"], "idle_power_w is missing")
    return figures | Figures({"dynamic_power_w": watts_used - bounds.idle_w})


def single_stream_power(
    t_ns: NDArray[np.int64],
    watts: NDArray[np.float64],
    window: Window,
    seconds_per_query: float,
    *,
    instrument: Instrument = _UNKNOWN,
    bounds: Bounds = _UNBOUNDED,
    error: str = "",
) -> Figures:
    """Mean power over a window with one query at a time, and the energy of a query. See `power` for the arguments.

    `seconds_per_query` is the time from one query to the next.
    """
    measured = _measure(_SINGLE_STREAM, t_ns, watts, window, instrument, bounds, error)
    if isinstance(measured, Figures):
        return measured
    watts_used = measured.mean.watts
    return Figures(dict(zip(_SINGLE_STREAM, (watts_used, 1e3 * watts_used * seconds_per_query), strict=True)))


def energy_delay(figures: Figures, score: str) -> Figures:
    """The energy-delay product of a query, and the same weighted by the loss of accuracy; `score` is the accuracy used.

    `edp_mj_ms` = `latency_energy_per_inference_mj` x `latency_ms`, which is P x latency^2 of the original EDLAB tool
    with the power of single queries. `ledp_mj_ms` = (1 - accuracy) x `edp_mj_ms`. Empty if power was not measured.
    """
    values = figures.values
    if not {"latency_energy_per_inference_mj", "latency_ms"} <= values.keys():
        return Figures()
    product = values["latency_energy_per_inference_mj"] * values["latency_ms"]
    weighted = {"ledp_mj_ms": (1 - values[score]) * product} if score in values else {}
    return Figures({"edp_mj_ms": product, **weighted})


def sampling_cost(name: str, pairs: NDArray[np.float64]) -> Figures:
    """How much longer inference takes while the power source is read, as a fraction, and its 95 % interval.

    `pairs` (N, 2): the time of an inference without and with reading, in any unit. Student's t over the logarithms.
    """
    gains = np.log(pairs[:, 1] / pairs[:, 0])
    half = float(scipy.stats.t.ppf(0.975, len(gains) - 1) * gains.std(ddof=1) / math.sqrt(len(gains)))
    middle = float(gains.mean())
    names = (f"sampling_{name}_cost{end}" for end in ("", "_ci95_low", "_ci95_high"))
    return Figures(dict(zip(names, map(math.expm1, (middle, middle - half, middle + half)), strict=True)))


def idle_power(
    t_ns: NDArray[np.int64],
    watts: NDArray[np.float64],
    *,
    start_ns: int = _ALWAYS,
    instrument: Instrument = _UNKNOWN,
    bounds: Bounds = _UNBOUNDED,
    error: str = "",
) -> Figures:
    """Mean power of the idle target, by the trapezoid over the readings from `start_ns` on.

    See `power` for the arguments. Withheld if there are too few readings, and with a doubt if all of them failed; also
    if the power was still changing: then the power under load is not compared with it either.
    """
    if error and not len(watts):
        return Figures.doubted(_IDLE, _in_phase("idle", _unreadable(error)))
    t_ns, watts = t_ns[t_ns >= start_ns], watts[t_ns >= start_ns]
    believable = are_believable(watts, bounds)
    dropped = watts[~believable]
    if len(dropped) > _LARGEST_SHARE * len(watts):
        return Figures.withheld(_IDLE, _absurd(dropped, len(watts), bounds, instrument.kind).message)
    t_ns, watts = t_ns[believable], watts[believable]
    if (count := _updates(t_ns, watts)) < _LEAST_IDLE_READINGS:
        return Figures.withheld(_IDLE, f"needs {_LEAST_IDLE_READINGS} new readings, there are {count}")
    gap, seconds = float(np.diff(t_ns).max()) / _NS_PER_S, float(t_ns[-1] - t_ns[0]) / _NS_PER_S
    if gap > _LARGEST_GAP_IDLE * seconds:
        return Figures.withheld(_IDLE, _silent(gap, seconds, error, instrument.kind).message)
    first, second = (
        mean(t_ns[half], watts[half], *t_ns[half][[0, -1]]) for half in np.array_split(np.arange(len(t_ns)), 2)
    )
    drift = second.watts - first.watts
    if abs(drift) > max(_IDLE_DRIFT * first.watts, _SIGMAS * math.hypot(first.standard_error, second.standard_error)):
        changed = f"from {first.watts:.3g} W to {second.watts:.3g} W in {seconds:.1f} s"
        return Figures.withheld(_IDLE, f"the idle power changed {changed}: raise power.idle_seconds")
    whole = mean(t_ns, watts, *t_ns[[0, -1]])
    return Figures(dict(zip(_IDLE, (whole.watts, whole.standard_error), strict=True)))


def idle_seconds(t_ns: NDArray[np.int64], watts: NDArray[np.float64]) -> float:
    """How long a window of `idle_power` must be, in seconds, for a source with these readings; 0 if that is unknown."""
    return _MARGIN * _LEAST_IDLE_READINGS * (refresh_s(t_ns, watts) or 0.0)


def _updates(t_ns: NDArray[np.int64], watts: NDArray[np.float64]) -> int:
    """How often the readings were renewed; all of them count if that is unknown, as with a constant power."""
    return len(t_ns) if refresh_s(t_ns, watts) is None else int(np.count_nonzero(are_new(t_ns, watts)))


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


def _measure(
    names: tuple[str, ...],
    t_ns: NDArray[np.int64],
    watts: NDArray[np.float64],
    window: Window,
    instrument: Instrument,
    bounds: Bounds,
    error: str,
) -> _Measured | Figures:
    """The mean power of the window after the lag; or why all metrics of these names are missing."""
    start_ns, end_ns = window.start_ns + round(instrument.lag_s * _NS_PER_S), window.end_ns
    seconds = (end_ns - start_ns) / _NS_PER_S
    inside = (t_ns >= start_ns) & (t_ns <= end_ns)
    believable = are_believable(watts, bounds)
    read, count = int(np.count_nonzero(inside)), int(np.count_nonzero(inside & believable))
    if seconds >= window.min_seconds and read == 0:
        return window.doubted(names, _unreadable(error))
    if read - count > _LARGEST_SHARE * read:
        return window.doubted(names, _absurd(watts[inside & ~believable], read, bounds, instrument.kind))
    if seconds < window.min_seconds or count < window.min_readings:
        needs = f"needs {window.min_seconds:g} s and {window.min_readings} readings"
        found = f"{needs}, there are {seconds:.1f} s and {count}"
        return Figures.withheld(names, f"{found}; the last error: {error}" if error else found)
    t_ns, watts, inside = t_ns[believable], watts[believable], inside[believable]
    silent_s = _silent_seconds(np.diff(np.concatenate(([start_ns], t_ns[inside], [end_ns]))) / _NS_PER_S)
    if silent_s > min(_LARGEST_GAP * seconds, _LONGEST_GAP_S):
        return window.doubted(names, _silent(silent_s, seconds, error, instrument.kind))
    found_mean = mean(t_ns, watts, start_ns, end_ns, counts=instrument.counter_renewed_s is not None)
    if doubt := next(_doubts(t_ns[inside], watts[inside], seconds, found_mean, window, bounds, instrument.kind), None):
        return window.doubted(names, doubt)
    return _Measured(found_mean, *interval(found_mean, instrument, float(np.ptp(watts)), seconds), read - count)


def _silent_seconds(gaps: NDArray[np.float64]) -> float:
    """For how long there were no readings, from the (N,) times between them in seconds."""
    return float(gaps[gaps > _USUAL_GAPS * np.median(gaps)].sum())


def _doubts(
    t_ns: NDArray[np.int64],
    watts: NDArray[np.float64],
    seconds: float,
    mean: Mean,
    window: Window,
    bounds: Bounds,
    kind: str,
) -> Iterator[Reason]:
    """Why the readings of a window are not plausible, the clearest reason first; `kind` is of `Instrument`."""
    is_meter = kind == "meter"
    check = "check the meter and the program that reads it" if is_meter else "check the sensor's wiring and driver"
    measures = (
        "check that the meter feeds the target"
        if is_meter
        else "choose a sensor that measures the device (device.sensors; `edlab doctor` lists the available sensors)"
    )
    alone = (
        "check that the meter feeds nothing but the target"
        if is_meter
        else "choose a sensor that measures this device alone (device.sensors)"
    )
    zeros = int(np.count_nonzero(watts == 0))
    if zeros > _LARGEST_SHARE * len(watts):
        yield Reason(
            code="power_zeros",
            message=f"{zeros} of {len(watts)} readings are 0 W under load",
            advice=f"{check}: it fails at times, or its range is too wide for this target",
        )
    if watts.min() == watts.max():
        yield Reason(
            code="power_stuck",
            message=f"all {len(watts)} readings are {watts[0]:.6g} W",
            advice=f"{check}: its reading is not updated, or its steps are too coarse for this load",
        )
    if (stuck := stuck_s(t_ns, watts)) > _LARGEST_GAP * seconds:
        yield Reason(
            code="power_stuck",
            message=f"the {kind} repeated one reading for {stuck:.1f} s of {seconds:.1f} s",
            advice=f"{check}: its reading was not updated",
        )
    if mean.readings < window.min_readings:
        needed = math.ceil(_MARGIN * seconds * window.min_readings / mean.readings)
        yield Reason(
            code="power_few_readings",
            message=f"the {kind} updated its reading only {mean.readings} times in the window; "
            f"{window.min_readings} are needed",
            advice=f"set power.active_seconds={needed}",
        )
    if bounds.max_watts is not None and mean.watts > _MOST_OF_SPECIFIED * bounds.max_watts:
        yield Reason(
            code="power_implausible",
            message=f"{mean.watts:.3g} W is more than {_MOST_OF_SPECIFIED:g} times device.specification.max_watts "
            f"({bounds.max_watts:g} W)",
            advice=f"{alone}, or fix max_watts",
        )
    if bounds.idle_w is None:
        return
    if mean.watts < _LEAST_OF_IDLE * bounds.idle_w:
        yield Reason(
            code="power_implausible",
            message=f"{mean.watts:.3g} W under load is less than {_LEAST_OF_IDLE:g} times the idle power "
            f"({bounds.idle_w:.3g} W)",
            advice=f"check that the target was idle before the run; {measures}",
        )
    if mean.watts - bounds.idle_w <= _SIGMAS * math.hypot(mean.standard_error, bounds.idle_standard_error_w):
        yield Reason(
            code="power_not_above_idle",
            message=f"{mean.watts:.4g} W under load is not {_SIGMAS:g} sigma above the idle power "
            f"({bounds.idle_w:.4g} W)",
            advice=f"{measures}, or raise power.active_seconds",
        )


def _in_phase(phase: str, doubt: Reason) -> Reason:
    return doubt.model_copy(update={"message": f"in the {phase} phase, {doubt.message}"})


def _unreadable(error: str) -> Reason:
    return Reason(
        code="power_unreadable",
        message=f"no readings: {error}" if error else "no readings",
        advice="check the sensor or meter: `edlab doctor` with the same device=... and meter=... reads it",
    )


def _silent(gap: float, seconds: float, error: str, kind: str) -> Reason:
    return Reason(
        code="power_gap",
        message=f"the {kind} was silent for {gap:.1f} s of {seconds:.1f} s" + (f": {error}" if error else ""),
        advice=f"check that the {kind} can be read continuously; raise power.active_seconds if it is slow",
    )


def _absurd(watts: NDArray[np.float64], read: int, bounds: Bounds, kind: str) -> Reason:
    return Reason(
        code="power_absurd",
        message=f"{len(watts)} of {read} readings are negative, not finite or above {bounds.most_of_one_reading:g} W, "
        f"for example {watts[0]:.6g} W",
        advice=f"check the {kind}'s scale, and device.specification.max_watts if it is set",
    )
