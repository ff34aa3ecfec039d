"""Peak, sustained rate and their ratio, on curves of known shape."""

from __future__ import annotations

import numpy as np
import pytest

from edlab.metrics import sustained, watts_by_second


def test_a_target_that_throttles_after_ten_minutes_sustains_less_than_its_peak() -> None:
    curve = np.concatenate([np.full(600, 100.0), np.full(1200, 70.0)])
    values = sustained(curve).values
    assert values == {
        "throughput_peak_ips": pytest.approx(100),
        "throughput_sustained_ips": pytest.approx(70),
        "sustained_ratio": pytest.approx(0.7),
    }


def test_a_steady_target_sustains_its_peak_but_for_noise() -> None:
    curve = np.random.default_rng(0).normal(100, 3, 1800)
    assert 0.97 < sustained(curve).values["sustained_ratio"] <= 1


def test_a_short_window_says_nothing_of_sustained_speed() -> None:
    assert sustained(np.full(60, 100.0)).values == {}


def test_power_is_the_mean_of_each_second_and_none_where_no_reading_was() -> None:
    t_ns = np.array([-1, 0.1, 0.6, 2.5, 9.0]) * 1e9
    watts = np.array([9.0, 1.0, 3.0, 5.0, 7.0])
    assert watts_by_second((t_ns + 5e9).astype(np.int64), watts, 5_000_000_000, 4) == [2.0, None, 5.0, None]
