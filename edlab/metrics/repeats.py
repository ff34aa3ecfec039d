"""One run's metrics from several new processes, including the differences between processes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import scipy
from numpy.typing import NDArray

from edlab.metrics.figures import Figures
from edlab.metrics.latency import INTERVAL, mean_and_interval
from edlab.metrics.stability import Stability
from edlab.metrics.throughput import OPERATIONS_INTERVAL, THROUGHPUT_INTERVAL

_LATENCY = INTERVAL[:2]


def over_runs(runs: Sequence[Figures], pooled: Figures) -> Figures:
    """The metrics of `runs`, at least two, combined; `pooled` is `pooled_latency` of their queries.

    Each run has the same weight, however many queries it made: each metric is the mean of the runs, except the metrics
    in `pooled` (percentiles, extremes, outliers). `latency_run_spread` and `throughput_run_spread` are the range of the
    runs' values over their mean. The latency's 95 % interval is Student's t over the runs' means, or the interval
    within the runs if that is wider; the same applies to the standard errors of power. Efficiency and energy are ratios
    of the means. A metric that one run could not measure is missing.
    """
    first, *others = runs
    shared = [name for name in first.values if name not in pooled.missing and all(name in run.values for run in others)]
    values = {name: _joined(name, _values(runs, name)) for name in shared}
    missing = {name: reason for run in runs for name, reason in run.missing.items()} | pooled.missing
    doubts = {doubt.code: doubt for run in reversed(runs) for doubt in run.doubts}  # each once, from the first run
    figures = Figures(missing=missing) | Figures(values, doubts=tuple(doubts.values()))
    figures |= Figures({name: value for name, value in pooled.values.items() if name not in ("latency_ms", *INTERVAL)})
    figures |= Figures({"latency_runs": float(len(runs))})
    for name, spread in (("latency_ms", "latency_run_spread"), ("throughput_ips", "throughput_run_spread")):
        if name in values:
            measured = [run.values[name] for run in runs]
            figures |= Figures({spread: (max(measured) - min(measured)) / values[name]})
    if "latency_ms" in values:
        half = max(_half_width_over(runs, "latency_ms"), _half_width_within(runs, *_LATENCY))
        figures |= mean_and_interval(values["latency_ms"], half)
    for name, ends in (("throughput_ips", THROUGHPUT_INTERVAL), ("flops_per_s", OPERATIONS_INTERVAL)):
        if ends[0] in values:
            half = max(_half_width_over(runs, name), _half_width_within(runs, *ends))
            bounds = (max(values[name] - half, 0.0), values[name] + half)
            figures |= Figures(dict(zip(ends, bounds, strict=True)))
    for name in ("power", "idle_power"):
        if f"{name}_standard_error_w" in values:
            figures |= Figures({f"{name}_standard_error_w": _standard_error(runs, name)})
    if "power_w" in values:
        rate, watts = values["throughput_ips"], values["power_w"]
        figures |= Figures({"efficiency_ips_per_w": rate / watts, "energy_per_inference_mj": 1e3 * watts / rate})
        if "power_ci95_low_w" in values:
            figures |= _power_intervals(runs, watts, rate)
    return figures


def power_over_runs(power: Sequence[Figures], runs: Sequence[Figures]) -> Figures:
    """The metrics of another power source, from those in each of the runs, combined in the same way."""
    rates = [Figures({"throughput_ips": run.values["throughput_ips"]}) for run in runs]
    joined = over_runs([rate | figures for rate, figures in zip(rates, power, strict=True)], Figures())
    names = {name for figures in power for name in (*figures.values, *figures.missing)}
    return Figures(
        {name: value for name, value in joined.values.items() if name in names}, joined.missing, joined.doubts
    )


def _power_intervals(runs: Sequence[Figures], watts: float, rate: float) -> Figures:
    """The 95 % intervals of power and efficiency: those within the runs and Student's t over the runs, together.

    The runs share the errors of their sensor, so their own intervals do not become narrower together.
    """
    low, high = (_values(runs, f"power_ci95_{end}_w") for end in ("low", "high"))
    within = float((high - low).mean()) / 2
    half = math.hypot(within, _half_width_over(runs, "power_w"))
    efficiency = rate / watts
    half_efficiency = math.hypot(efficiency * within / watts, _half_width_over(runs, "efficiency_ips_per_w"))
    return Figures(
        {
            "power_ci95_low_w": max(watts - half, 0.0),
            "power_ci95_high_w": watts + half,
            "efficiency_ci95_low_ips_per_w": max(efficiency - half_efficiency, 0.0),
            "efficiency_ci95_high_ips_per_w": efficiency + half_efficiency,
        }
    )


def typical(runs: Sequence[Stability]) -> Stability:
    """The median of each: a change that recurs in most runs is a property of the target, others are in the spread."""

    def middle(values: Sequence[float]) -> float:
        return float(np.median(values))

    return Stability(
        drift=middle([run.drift for run in runs]),
        drift_interval=(
            middle([run.drift_interval[0] for run in runs]),
            middle([run.drift_interval[1] for run in runs]),
        ),
        last_over_first=middle([run.last_over_first for run in runs]),
        scatter=middle([run.scatter for run in runs]),
        bursts=middle([run.bursts for run in runs]),
    )


def _joined(name: str, values: NDArray[np.float64]) -> float:
    """Combine the runs' values: counts are added, everything else is averaged."""
    return float(values.sum() if name.startswith("power_readings") else values.mean())


def _standard_error(runs: Sequence[Figures], name: str) -> float:
    """The standard error of the mean power: from the spread of the runs, or their own errors if those are larger."""
    watts, errors = _values(runs, f"{name}_w"), _values(runs, f"{name}_standard_error_w")
    over = watts.std(ddof=1) / np.sqrt(len(runs))
    return float(max(over, np.sqrt(np.sum(errors**2)) / len(runs)))


def _half_width_over(runs: Sequence[Figures], name: str) -> float:
    means = _values(runs, name)
    return float(scipy.stats.t.ppf(0.975, len(means) - 1) * means.std(ddof=1) / np.sqrt(len(means)))


def _half_width_within(runs: Sequence[Figures], low: str, high: str) -> float:
    """The half width of the mean of independent means, from the interval of each; 0 if they have none."""
    if not all(low in run.values for run in runs):
        return 0.0
    halves = (_values(runs, high) - _values(runs, low)) / 2
    return float(np.sqrt(np.sum(halves**2)) / len(halves))


def _values(runs: Sequence[Figures], name: str) -> NDArray[np.float64]:
    return np.array([run.values[name] for run in runs])
