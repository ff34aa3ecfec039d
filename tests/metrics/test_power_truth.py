"""Power against a known truth: 200 SIMULATED devices, sensors and clocks (scripts/bench/simulated_power.py)."""

from __future__ import annotations

import dataclasses
import functools
import math
import random
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from simulated_clock import set_clock
from simulated_power import RATE_IPS, Device, Result, power_of

from edlab import metrics
from edlab.agent.sensors.base import EnergyCounter, pause

SEEDS = 200
COUNTS = 100


@pytest.fixture(scope="module")
def results() -> list[Result]:
    return [Device(seed).measure() for seed in range(SEEDS)]


def test_power_is_within_a_percent_and_energy_within_one_and_a_half(results: list[Result]) -> None:
    for result in results:
        assert result.figures.doubts == (), (result.device, result.figures.missing)
        values = result.figures.values
        assert values["power_w"] == pytest.approx(result.device.truth_w, rel=0.01), result.device
        true_mj = 1e3 * result.device.truth_w / RATE_IPS
        assert values["energy_per_inference_mj"] == pytest.approx(true_mj, rel=0.015), result.device


def test_the_interval_holds_the_truth_as_often_as_it_says(results: list[Result]) -> None:
    assert 0.93 <= np.mean([result.covers for result in results]) <= 0.97


def test_the_interval_of_efficiency_follows_from_that_of_power(results: list[Result]) -> None:
    for values in (result.figures.values for result in results):
        assert values["efficiency_ci95_low_ips_per_w"] == pytest.approx(RATE_IPS / values["power_ci95_high_w"])
        assert values["efficiency_ci95_high_ips_per_w"] == pytest.approx(RATE_IPS / values["power_ci95_low_w"])


def test_the_refresh_period_is_measured_on_the_spot(results: list[Result]) -> None:
    """As exactly as a reading every 50 ms can tell: a sensor that is renewed faster gives a new one each time."""
    for result in results:
        refresh_s, device = result.refresh_s, result.device
        assert refresh_s is not None
        if device.refresh > 0.2:
            assert refresh_s > device.refresh - 0.08
        assert refresh_s < 2 * max(device.refresh, 0.05) + 0.1  # one that repeats its value looks slower


Fault = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]  # of seconds and watts
FAULTS: dict[str, tuple[str, Fault]] = {
    "stuck for the whole window": ("power_stuck", lambda seconds, watts: np.full_like(watts, watts[0])),
    "stuck after half of it": ("power_stuck", lambda seconds, watts: np.where(seconds > 5, watts[-1], watts)),
    "negative": ("power_absurd", lambda seconds, watts: -watts),
    "zero at times": ("power_zeros", lambda seconds, watts: np.where(seconds % 1 < 0.2, 0.0, watts)),
    "above twice the maximum": ("power_absurd", lambda seconds, watts: np.where(seconds % 1 < 0.2, 9 * watts, watts)),
    "not a number at times": ("power_absurd", lambda seconds, watts: np.where(seconds % 1 < 0.2, np.nan, watts)),
    "no higher than idle": ("power_not_above_idle", lambda seconds, watts: 0.3 * watts),
    "far below idle": ("power_implausible", lambda seconds, watts: 0.05 * watts),
    "ten times too high": ("power_absurd", lambda seconds, watts: 10 * watts),
    "somewhat too high": ("power_implausible", lambda seconds, watts: 1.6 * watts),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("seed", range(5))
def test_each_planted_fault_is_named(fault: str, seed: int) -> None:
    device = Device(seed)
    series, window, rate = device.run()
    code, spoil = FAULTS[fault]
    seconds = (series.t_ns - window.start_ns) / 1e9
    spoilt = dataclasses.replace(series, watts=spoil(seconds, series.watts))
    bounds = metrics.Bounds("board_dc", idle_w=0.32 * device.watts, max_watts=1.1 * device.watts)
    sound = power_of(series, window, rate, device.instrument, bounds)
    assert (sound.doubts, "power_w" in sound.values) == ((), True)
    figures = power_of(spoilt, window, rate, device.instrument, bounds)
    assert [doubt.code for doubt in figures.doubts] == [code]
    assert "power_w" in figures.missing


def test_a_silent_sensor_is_named() -> None:
    device = Device(1)
    series, window, rate = device.run()
    silent = (series.t_ns > window.start_ns + 3e9) & (series.t_ns < window.start_ns + 6e9)
    gap = dataclasses.replace(series, t_ns=series.t_ns[~silent], watts=series.watts[~silent])
    assert [doubt.code for doubt in power_of(gap, window, rate, device.instrument).doubts] == ["power_gap"]


def test_a_clock_that_drifts_is_related_at_both_ends() -> None:
    """200 ppm are 2 ms in a window of 10 s, and the offset of minutes is that of a board that was just started."""
    device = Device(3)
    series, _, _ = device.run()
    assert abs(series.clock_drift) <= 200e-6 + 1e-6
    assert series.clock_error_ns < 3e6


class Count(EnergyCounter):
    """A SIMULATED counter of energy that is updated every `renewed_s`, by a clock that the test moves."""

    def __init__(self, renewed_s: float, joules: Callable[[float], float]) -> None:
        super().__init__("count", "count", "module")
        self.renewed_s, self._joules_at, self.now_s = renewed_s, joules, 5.0

    def joules(self) -> list[float]:
        return [self._joules_at(math.floor(self.now_s / self.renewed_s) * self.renewed_s)]

    def spans(self) -> list[float]:
        return [1e12]


def joules_of_step(start_s: float, outside_w: float, at_s: float) -> float:
    """40 W for 10.1 s, and `outside_w` before and after."""
    return outside_w * at_s + (40 - outside_w) * min(max(at_s - start_s, 0.0), 10.1)


@pytest.mark.parametrize("renewed_s", [0.001, 0.02, 0.1])
@pytest.mark.parametrize("outside_w", [12.0, 40.0, 60.0])
def test_a_counter_has_no_energy_from_outside_of_the_window(
    renewed_s: float, outside_w: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """40 W in a window of 10 s, and another power right before and after it."""
    covered = 0
    for seed in range(COUNTS):
        start_s = 20.0 + np.random.default_rng(seed).uniform()
        counter = Count(renewed_s, functools.partial(joules_of_step, start_s, outside_w))
        set_clock(monkeypatch, lambda counter=counter: int(counter.now_s * 1e9))
        generator, samples = random.Random(seed), []
        while counter.now_s < start_s + 12:
            if sample := counter.read():
                samples.append(sample)
            counter.now_s += pause(0.05, generator)
        monkeypatch.undo()
        t_ns, watts = np.array([each.t_ns for each in samples]), np.array([each.watts for each in samples])
        window = metrics.Window(int(start_s * 1e9), int((start_s + 10.1) * 1e9))
        instrument = metrics.Instrument(counter_renewed_s=renewed_s)
        noise = 1e-6 * np.arange(len(watts))  # a simulated load is too steady: equal readings are a stuck sensor's
        values = metrics.power(t_ns, watts + noise, window, 1.0, instrument=instrument).values
        assert values["power_w"] == pytest.approx(40.0, rel=0.015)
        covered += values["power_ci95_low_w"] <= 40.001 and values["power_ci95_high_w"] >= 39.999
    assert covered >= 0.92 * COUNTS
