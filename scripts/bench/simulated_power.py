"""A SIMULATED power source with a known truth, instead of a sensor: what a run would read of it in one window.

Each seed draws another device: its load, how often the sensor renews its reading (1 ms to 1 s) and over what it
averages, the steps of its readings, their noise, its calibration, drop-outs, and a clock that is minutes ahead and up
to 200 ppm fast or slow.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from edlab import metrics
from edlab.metrics import Bounds, Figures, Instrument, Window
from edlab.power import ClockRelation, Series, compare_clocks

S = 1_000_000_000
BEFORE_S, AFTER_S = 6.0, 0.5  # recorded around the window
UNBOUNDED = Bounds()
GRID_S = 0.0005
POLL_S = 0.05
RATE_IPS = 120.0


class Clocks:
    """The host's clock, and an agent's that differs by an offset and runs faster by `skew`; a link between them."""

    def __init__(self, random: np.random.Generator) -> None:
        self.random = random
        self.offset_ns = int(random.uniform(-600, 600) * S)
        self.skew = float(random.uniform(-200e-6, 200e-6))
        self.now_ns = 10**14

    def host(self) -> int:
        return self.now_ns

    def agent(self) -> int:
        self.now_ns += int(self.random.uniform(1e5, 2e6))
        answered = self.of_agent(self.now_ns)
        self.now_ns += int(self.random.uniform(1e5, 2e6))
        return answered

    def of_agent(self, host_ns: int) -> int:
        return host_ns + self.offset_ns + round(self.skew * (host_ns - 10**14))


@dataclass(frozen=True)
class Device:
    """One simulated device, sensor and run."""

    seed: int

    @cached_property
    def random(self) -> np.random.Generator:
        return np.random.default_rng(self.seed)

    @cached_property
    def watts(self) -> float:
        return float(10 ** self.random.uniform(0, 2))

    @cached_property
    def refresh(self) -> float:
        return float(10 ** self.random.uniform(-3, 0))

    @cached_property
    def instrument(self) -> Instrument:
        """What the sensor's data sheet states."""
        resolution = self.watts * float(10 ** self.random.uniform(-4, -2))
        accuracy = float(self.random.choice([0.001, 0.003, 0.005]))
        return Instrument(lag_s=2 * self.refresh, resolution_w=resolution, accuracy=accuracy)

    def load(self, seconds: NDArray[np.float64]) -> NDArray[np.float64]:
        """The true watts at these times; 0 is the start of the window. Idle, then a load that warms up and ripples."""
        rise = 1 + self.trend * np.clip(seconds / self.seconds, 0, 1)
        ripple = 1 + 0.04 * np.sin(2 * np.pi * seconds / self.period + 1) * (seconds >= 0)
        return self.watts * np.where(seconds < -0.5, 0.3, rise * ripple)

    @cached_property
    def trend(self) -> float:
        return float(self.random.uniform(-0.02, 0.05))

    @cached_property
    def period(self) -> float:
        return float(10 ** self.random.uniform(-2.5, -0.7))

    @cached_property
    def seconds(self) -> float:
        """The length of the window, as for a sensor that is known to be this slow."""
        return max(10.0, 1.25 * 20 * self.refresh) + self.instrument.lag_s + 0.01

    @cached_property
    def truth_w(self) -> float:
        return float(self.load(np.arange(0, self.seconds, GRID_S / 4)).mean())

    def read(self, times: NDArray[np.float64]) -> NDArray[np.float64]:
        """What the sensor reports at these times: the mean of its last period, with its errors."""
        calibration = self.random.uniform(-1, 1) * (self.instrument.accuracy or 0.0)
        noise = float(10 ** self.random.uniform(-3, -1.7))
        edges = np.arange(times[0] - 2 * self.refresh, times[-1] + self.refresh, min(self.refresh, GRID_S))
        joules = np.concatenate(([0.0], np.cumsum(self.load(edges[:-1] + np.diff(edges) / 2) * np.diff(edges))))
        phase = self.random.uniform(0, self.refresh)
        renewals = np.floor((times - phase) / self.refresh).astype(np.int64)
        each, place = np.unique(renewals, return_inverse=True)
        ends = each * self.refresh + phase
        averages = (np.interp(ends, edges, joules) - np.interp(ends - self.refresh, edges, joules)) / self.refresh
        averages *= (1 + calibration) * (1 + noise * self.random.standard_normal(len(each)))
        step = self.instrument.resolution_w or 0.0
        return (np.round(averages / step) * step)[place]

    def run(self) -> tuple[Series, Window, float]:
        """The readings of a window on the agent's clock, the window, and the measured rate."""
        clocks = Clocks(self.random)
        before = compare_clocks(clocks.agent, clocks.host)
        start_ns = clocks.now_ns + int(BEFORE_S * S)  # of the window, on the host's clock
        pauses = POLL_S * self.random.uniform(0.5, 1.5, int((self.seconds + BEFORE_S + AFTER_S) / POLL_S))
        times = np.cumsum(pauses) - BEFORE_S
        times = times[times < self.seconds + AFTER_S]
        watts = self.read(times)
        kept = self.random.uniform(size=len(times)) > 0.02
        kept[: int(20 + self.random.uniform(0, 20))] = True
        clocks.now_ns = start_ns + int((self.seconds + AFTER_S) * S)
        relation = ClockRelation(before, compare_clocks(clocks.agent, clocks.host))
        read = Series(start_ns + (times[kept] * S).astype(np.int64), watts[kept], failed=int((~kept).sum()))
        window = Window(clocks.of_agent(start_ns), clocks.of_agent(start_ns + int(self.seconds * S)))
        return read.on_agents_clock(relation), window, RATE_IPS

    def measure(self) -> Result:
        """What edlab makes of the readings."""
        series, window, rate = self.run()
        figures = power_of(series, window, rate, self.instrument)
        return Result(self, figures, metrics.refresh_s(series.t_ns, series.watts))


@dataclass(frozen=True)
class Result:
    """The metrics of one device, to be compared with its truth."""

    device: Device
    figures: Figures
    refresh_s: float | None

    @property
    def error(self) -> float:
        """The relative error of the power; NaN if it was withheld."""
        return self.figures.values.get("power_w", np.nan) / self.device.truth_w - 1

    @property
    def half_width(self) -> float:
        """Half the 95 % interval, as a fraction of the truth."""
        values = self.figures.values
        return (values["power_ci95_high_w"] - values["power_ci95_low_w"]) / 2 / self.device.truth_w

    @property
    def covers(self) -> bool:
        """Whether the 95 % interval contains the truth."""
        values = self.figures.values
        return values["power_ci95_low_w"] <= self.device.truth_w <= values["power_ci95_high_w"]


def power_of(
    series: Series, window: Window, rate: float, instrument: Instrument, bounds: Bounds = UNBOUNDED
) -> Figures:
    """The metrics that a run computes from these readings."""
    known = dataclasses.replace(instrument, clock_error_s=series.clock_error_ns / S)
    return metrics.power(series.t_ns, series.watts, window, rate, instrument=known, bounds=bounds)
