"""The metrics of a run, and whether they are reliable: pure functions of numpy arrays and numbers."""

from edlab.metrics.accuracy import accuracy, drop, paired_difference
from edlab.metrics.catalogue import headlines
from edlab.metrics.figures import Figures
from edlab.metrics.latency import latency, pooled_latency
from edlab.metrics.power import (
    SAMPLING_COSTS,
    Window,
    energy_delay,
    estimated_power,
    idle_power,
    idle_seconds,
    power,
    sampling_cost,
    single_stream_power,
)
from edlab.metrics.readings import Bounds, Instrument, refresh_s
from edlab.metrics.repeats import over_runs, power_over_runs, typical
from edlab.metrics.stability import Stability, stability, stability_figures
from edlab.metrics.sustained import by_window, sustained, watts_by_second
from edlab.metrics.throughput import (
    THROUGHPUT_INTERVAL,
    batch1,
    batch_one_only,
    searched,
    setting,
    throughput,
    throughput_interval,
)
from edlab.metrics.verdict import Facts, OutputFacts, PowerFacts, judge, loss_fix, throttled

__all__ = [
    "SAMPLING_COSTS",
    "THROUGHPUT_INTERVAL",
    "Bounds",
    "Facts",
    "Figures",
    "Instrument",
    "OutputFacts",
    "PowerFacts",
    "Stability",
    "Window",
    "accuracy",
    "batch1",
    "batch_one_only",
    "by_window",
    "drop",
    "energy_delay",
    "estimated_power",
    "headlines",
    "idle_power",
    "idle_seconds",
    "judge",
    "latency",
    "loss_fix",
    "over_runs",
    "paired_difference",
    "pooled_latency",
    "power",
    "power_over_runs",
    "refresh_s",
    "sampling_cost",
    "searched",
    "setting",
    "single_stream_power",
    "stability",
    "stability_figures",
    "sustained",
    "throttled",
    "throughput",
    "throughput_interval",
    "typical",
    "watts_by_second",
]
