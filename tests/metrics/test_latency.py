from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.stats import binom

from edlab.errors import MeasurementError
from edlab.metrics import latency, window_means_ms
from edlab.metrics.latency import _QUERIES_NEEDED

MS = 1_000_000


def series(count: int, seed: int = 0, correlation: float = 0.0) -> NDArray[np.int64]:
    """Latencies around 5 ms as a first-order autoregressive process."""
    noise = np.random.default_rng(seed).normal(0, 0.2, count)
    level = np.zeros(count)
    for i in range(1, count):
        level[i] = correlation * level[i - 1] + noise[i]
    return ((5 + level) * MS).astype(np.int64)


def test_mean_is_of_all_queries_and_outliers_are_counted_not_dropped() -> None:
    ns = np.full(100, 2 * MS)
    ns[[10, 50]] = 102 * MS
    values = latency(ns).values
    assert values["latency_ms"] == pytest.approx(4.0)
    assert values["latency_outliers"] == 2
    assert values["latency_max_ms"] == 102


def test_percentiles_are_observed_values_at_the_nearest_rank() -> None:
    ns = np.random.default_rng(0).permutation(np.arange(1, 10_001)) * MS
    values = latency(ns).values
    assert [values[f"latency_p{p}_ms"] for p in ("50", "90", "95", "97", "99", "99_9")] == [
        5000, 9000, 9500, 9700, 9900, 9990,
    ]  # fmt: skip


@pytest.mark.parametrize(("quantile", "needed"), _QUERIES_NEEDED.items())
def test_a_percentile_is_given_from_its_least_number_of_queries_on(quantile: float, needed: int) -> None:
    name = f"latency_p{100 * quantile:g}_ms".replace(".", "_")
    assert name in latency(series(needed)).values
    below = latency(series(needed - 1))
    assert name not in below.values
    assert str(needed) in below.missing[name]


@pytest.mark.parametrize(("quantile", "needed"), _QUERIES_NEEDED.items())
def test_least_numbers_of_queries_are_those_of_the_stated_criterion(quantile: float, needed: int) -> None:
    tail = 1 - quantile
    assert binom.cdf(1, needed, tail) <= 0.01 < binom.cdf(1, needed - 1, tail)


@pytest.mark.parametrize("correlation", [0.0, 0.7])
def test_interval_covers_the_true_mean_as_often_as_it_says(correlation: float) -> None:
    covered = 0
    for seed in range(200):
        values = latency(series(1024, seed, correlation)).values
        covered += values["latency_ci95_low_ms"] <= 5.0 <= values["latency_ci95_high_ms"]
    assert 0.88 <= covered / 200 <= 0.99


def test_interval_is_wider_where_neighbours_are_alike() -> None:
    def width(ns: NDArray[np.int64]) -> float:
        values = latency(ns).values
        return values["latency_ci95_high_ms"] - values["latency_ci95_low_ms"]

    correlated = series(2048, correlation=0.9)
    assert width(correlated) > 2 * width(np.random.default_rng(1).permutation(correlated))


def test_interval_repeats_with_its_seed() -> None:
    ns = series(500)
    assert latency(ns, seed=3) == latency(ns, seed=3)
    assert latency(ns, seed=3) != latency(ns, seed=4)


def test_the_longest_tier_is_summarised_within_memory() -> None:
    values = latency(series(24_576)).values
    assert values["latency_ci95_low_ms"] < values["latency_ms"] < values["latency_ci95_high_ms"]


def test_drift_and_window_spread_show_a_target_that_slows_down() -> None:
    steady, slowing = np.full(1000, 4 * MS), np.linspace(4 * MS, 6 * MS, 1000).astype(np.int64)
    assert latency(steady).values["latency_drift"] == 0
    assert latency(steady).values["latency_window_spread"] == 0
    assert latency(slowing).values["latency_drift"] == pytest.approx(5.5 / 4.5 - 1, abs=0.01)
    assert latency(slowing).values["latency_window_spread"] == pytest.approx(1.6 / 5, abs=0.01)


def test_window_means_follow_the_order_of_measurement() -> None:
    assert window_means_ms(np.repeat([1, 2, 3, 4, 5], 7) * MS).tolist() == [1, 2, 3, 4, 5]


def test_few_queries_withhold_what_they_cannot_support() -> None:
    figures = latency(np.array([3 * MS]))
    assert figures.values["latency_ms"] == 3
    assert {"latency_std_ms", "latency_ci95_low_ms", "latency_p50_ms", "latency_drift"} <= figures.missing.keys()


def test_no_query_is_an_error_that_names_the_mend() -> None:
    with pytest.raises(MeasurementError) as caught:
        latency(np.array([], dtype=np.int64))
    assert "max_seconds" in caught.value.hint


@given(arrays(np.int64, st.integers(1, 300), elements=st.integers(1, 10**12)))
def test_every_figure_is_finite_and_never_both_given_and_missing(ns: NDArray[np.int64]) -> None:
    figures = latency(ns)
    assert all(np.isfinite(value) for value in figures.values.values())
    assert not figures.values.keys() & figures.missing.keys()
    assert figures.values["latency_min_ms"] <= figures.values["latency_ms"] * (1 + 1e-12)
