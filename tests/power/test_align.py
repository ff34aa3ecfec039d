"""The load pattern in readings whose clock is wrong."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edlab.power.align import PATTERN, Alignment, align

S = 1_000_000_000
START = 50 * S


def spans(chip_s: float = 1.0, seed: int = 0) -> list[tuple[int, int]]:
    """The load as it was played: each call takes some milliseconds more than it should."""
    random, now, found = np.random.default_rng(seed), START, []
    for on in PATTERN:
        length = int((chip_s + random.uniform(0.001, 0.02)) * S)
        if on:
            found.append((now, now + length))
        now += length
    return found


def readings(
    late_s: float, interval_s: float, noise: float, seed: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """What an instrument reads of it, with times that are `late_s` too late."""
    random = np.random.default_rng(seed)
    t_ns = (np.arange(-20, 40, interval_s) * S).astype(np.int64) + START
    load = np.zeros(len(t_ns))
    for start, end in spans(seed=seed):
        load[(t_ns >= start) & (t_ns < end)] = 3.0
    return t_ns + int(late_s * S), 2.0 + load + noise * random.standard_normal(len(t_ns))


@pytest.mark.parametrize("late_s", [-6.5, -0.004, 0.0, 0.35, 6.9])
@pytest.mark.parametrize(("interval_s", "noise"), [(0.001, 0.05), (0.05, 0.5), (0.25, 0.1)])
def test_the_shift_is_found(late_s: float, interval_s: float, noise: float) -> None:
    t_ns, watts = readings(late_s, interval_s, noise)
    found = align(t_ns, watts, spans(), search_s=7.0)
    assert abs(found.shift_ns + late_s * S) <= found.error_ns
    assert found.error_ns <= (interval_s / 2 + 0.02) * S


def test_a_constant_reading_is_refused() -> None:
    t_ns, watts = readings(0.0, 0.05, 0.0)
    with pytest.raises(ValueError, match="not in the readings"):
        align(t_ns, np.full_like(watts, 5.0), spans(), search_s=5.0)


def test_noise_is_refused() -> None:
    t_ns, watts = readings(0.0, 0.05, 30.0)
    with pytest.raises(ValueError, match="not in the readings"):
        align(t_ns, watts, spans(), search_s=5.0)


def test_readings_that_came_late_by_more_than_the_search_are_refused() -> None:
    t_ns, watts = readings(12.0, 0.05, 0.05)
    with pytest.raises(ValueError, match="not in the readings"):
        align(t_ns, watts, spans(), search_s=5.0)


def test_few_readings_are_refused() -> None:
    with pytest.raises(ValueError, match="only 3 readings"):
        align(np.array([0, S, 2 * S]) + START, np.array([1.0, 2.0, 1.0]), spans(), search_s=5.0)


def test_the_result_is_a_shift_and_its_error() -> None:
    assert align(*readings(0.0, 0.05, 0.01), spans(), search_s=1.0) == Alignment(10_000_000, 35_000_000)


def test_a_meter_that_is_renewed_less_often_than_it_is_logged_is_less_certain() -> None:
    """Rows every 0.1 s of a reading that is renewed every second: the same row may be a second old."""
    for seed in range(10):
        t_ns, watts = readings(0.0, 0.1, 0.0, seed)
        held = watts[(np.arange(len(watts)) // 10) * 10]
        found = align(t_ns, held + 0.001 * (np.arange(len(held)) // 10 % 7), spans(seed=seed), search_s=5.0)
        assert found.error_ns >= 0.5 * S
        assert abs(found.shift_ns + 0.5 * S) <= found.error_ns  # a row is half a second old on average
