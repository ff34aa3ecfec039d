"""What a run knows about the readings of a power source."""

from __future__ import annotations

from edlab import metrics
from edlab.metrics import Figures
from edlab.power import HostMeter, Series, Source
from edlab.stages.phases.base import Bench

_OF_THE_DEVICE = ("rail", "module", "package", "usb")  # boundaries


def instrument(source: Source, series: Series) -> metrics.Instrument:
    """The source's properties, and the error of the times of this series."""
    return metrics.Instrument(
        kind="meter" if isinstance(source, HostMeter) else "sensor",
        lag_s=source.lag_s,
        resolution_w=source.resolution_w,
        accuracy=source.accuracy,
        counter_renewed_s=source.renewed_s,
        clock_error_s=series.clock_error_ns / 1e9,
    )


def bounds(bench: Bench, source: Source, earlier: Figures) -> metrics.Bounds:
    """What is known of the power that `source` can report; `earlier` has its idle power."""
    idle = earlier.values
    return metrics.Bounds(
        source.boundary,
        idle_w=idle.get("idle_power_w"),
        idle_standard_error_w=idle.get("idle_power_standard_error_w", 0.0),
        max_watts=max_watts(bench, source),
    )


def max_watts(bench: Bench, source: Source) -> float | None:
    """The device's maximum, if the source measures nothing but the device: a power supply feeds a whole computer."""
    return bench.config.device.specification.max_watts if source.boundary in _OF_THE_DEVICE else None
