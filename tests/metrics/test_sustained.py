"""Peak, sustained rate and their ratio, on curves of known shape."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edlab.metrics import Bounds, by_window, sustained, watts_by_second


def test_a_target_that_throttles_after_ten_minutes_sustains_less_than_its_peak() -> None:
    curve = np.concatenate([np.full(600, 100.0), np.full(1200, 70.0)])
    values = sustained(curve).values
    assert values == {
        "throughput_peak_ips": pytest.approx(100),
        "throughput_sustained_ips": pytest.approx(70),
        "sustained_ratio": pytest.approx(0.7),
    }


def wander(seed: int) -> NDArray[np.float64]:
    """Half an hour at 100 inferences/s with 3 % of noise, its integrated autocorrelation time 8 s."""
    kept, steps = np.exp(-1 / 4), np.random.default_rng(seed).normal(0, 1, 1900)
    curve = np.zeros(1900)
    for second in range(1, 1900):
        curve[second] = kept * curve[second - 1] + np.sqrt(1 - kept**2) * steps[second]
    return 100 * (1 + 0.03 * curve[100:])


def test_a_steady_target_sustains_its_peak_but_for_noise() -> None:
    ratios = [sustained(wander(seed)).values["sustained_ratio"] for seed in range(50)]
    assert 0.99 < np.mean(ratios) <= 1
    assert min(ratios) > 0.98
    assert max(ratios) <= 1


def test_windows_are_disjoint_and_share_what_is_left_over() -> None:
    assert by_window(np.arange(1205.0)) == pytest.approx([150, 451, 752.5, 1053.5], abs=2)
    assert by_window([1.0] * 299) == []


def test_a_short_window_says_nothing_of_sustained_speed() -> None:
    short = sustained(np.full(599, 100.0))
    assert short.values == {}
    assert "600 s, there are 599" in short.missing["sustained_ratio"]
    assert sustained(np.full(600, 100.0)).values["sustained_ratio"] == 1


def test_readings_that_cannot_be_true_are_in_no_second() -> None:
    t_ns = np.array([100_000_000, 200_000_000, 1_100_000_000, 1_200_000_000])
    watts = np.array([5.0, 4e9, -1.0, 200.0])
    assert watts_by_second(t_ns, watts, 0, 2, Bounds()) == [5.0, 200.0]
    assert watts_by_second(t_ns, watts, 0, 2, Bounds(max_watts=10.0)) == [5.0, None]


def test_power_is_the_mean_of_each_second_and_none_where_no_reading_was() -> None:
    t_ns = np.array([-1, 0.1, 0.6, 2.5, 9.0]) * 1e9
    watts = np.array([9.0, 1.0, 3.0, 5.0, 7.0])
    assert watts_by_second((t_ns + 5e9).astype(np.int64), watts, 5_000_000_000, 4, Bounds()) == [2.0, None, 5.0, None]
