from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.stats import t
from simulated import STATIONARY, correlation_s

from edlab.agent.statistics import MOST_WINDOWS, cut, mean_interval
from edlab.errors import MeasurementError
from edlab.metrics import latency

MS = 1_000_000
WINDOW_S = 1.0  # ten of them in a simulated run


def series(count: int, seed: int = 0) -> NDArray[np.int64]:
    return (np.random.default_rng(seed).normal(5, 0.2, count) * MS).astype(np.int64)


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


@pytest.mark.parametrize(("name", "needed"), [("p50", 6), ("p90", 36), ("p99", 368), ("p99_9", 3688)])
def test_a_percentile_is_given_from_the_count_on_that_bounds_it_from_above(name: str, needed: int) -> None:
    values = latency(series(needed)).values
    assert values[f"latency_{name}_ms"] <= values["latency_max_ms"]
    below = latency(series(needed - 1))
    assert f"latency_{name}_ms" not in below.values
    assert str(needed) in below.missing[f"latency_{name}_ms"]


@pytest.mark.parametrize(
    ("name", "percentile"),
    [
        ("independent, cv 5 %", 50),
        ("independent, cv 5 %", 99),
        ("AR(1) 0.99", 90),
        ("clock 1.0x / 1.3x, dwell 0.5 s", 90),
        ("wander of 10 %, 0.25 s", 50),
        ("wander of 10 %, 0.25 s", 90),
    ],
)
def test_a_percentiles_interval_holds_the_true_percentile_as_often_as_it_says(name: str, percentile: int) -> None:
    """Also where queries are alike in time; an interval that would end beyond the slowest query is not given."""
    rng = np.random.default_rng(percentile)
    true_ms = np.percentile(np.concatenate([STATIONARY[name](10_000, rng)[0] for _ in range(200)]), percentile)
    held = []
    for _ in range(300):
        values = latency((STATIONARY[name](10_000, rng)[0] * MS).astype(np.int64)).values
        if f"latency_p{percentile}_ci95_low_ms" in values:
            low, high = (values[f"latency_p{percentile}_ci95_{end}_ms"] for end in ("low", "high"))
            assert low <= values[f"latency_p{percentile}_ms"] <= high <= values["latency_max_ms"]
            held.append(low <= true_ms <= high)
    assert len(held) > 100
    assert np.mean(held) >= 0.91  # 92 % less the chance of so few runs


def test_slow_queries_in_a_cluster_leave_a_high_percentile_without_an_interval() -> None:
    ns = series(1000)
    ns[400:412] *= 10
    figures = latency(ns)
    assert "clustered" in figures.missing["latency_p99_ci95_high_ms"]
    assert figures.values["latency_p99_ms"] > 6


@pytest.mark.parametrize(
    ("name", "queries"),
    [
        (name, queries)
        for name in STATIONARY
        for queries in (64, 200, 1024, 24_576)
        if not name.startswith(("heavy", "stalls of 50", "clock 1.0x / 1.3x, dwell 0.05"))
        and correlation_s(name, queries) <= WINDOW_S / 2
    ],
)
def test_the_interval_holds_the_true_mean_as_often_as_it_says(name: str, queries: int) -> None:
    """Where the integrated autocorrelation time is below a window; docs/results/coverage.md has the others."""
    rng = np.random.default_rng(queries)
    runs = 150 if queries > 2000 else 400
    covered = 0
    for _ in range(runs):
        values, truth = STATIONARY[name](queries, rng)
        low, high = mean_interval(values, 10)  # type: ignore[misc]
        covered += low <= truth <= high
    assert covered / runs >= 0.91  # 92 % less the chance of so few runs


def test_the_interval_is_not_much_wider_than_it_has_to_be() -> None:
    rng = np.random.default_rng(1)
    ratios = []
    for _ in range(200):
        values, _ = STATIONARY["independent, cv 5 %"](1024, rng)
        low, high = mean_interval(values, 10)  # type: ignore[misc]
        ratios.append((high - low) / (2 * 1.96 * values.std() / 32))
    assert 1.0 < np.mean(ratios) < 1.6


def test_a_wander_that_is_as_slow_as_a_window_widens_the_interval_by_its_pairs() -> None:
    rng = np.random.default_rng(2)
    widths = {10: [], 5: []}  # type: dict[int, list[float]]
    for _ in range(100):
        values, _ = STATIONARY["wander of 10 %, 0.5 s"](1024, rng)
        for windows in widths:
            low, high = mean_interval(values, windows)  # type: ignore[misc]
            widths[windows].append(high - low)
    assert all(
        ten > 0.999 * five for ten, five in zip(widths[10], widths[5], strict=True)
    )  # five windows are the pairs


def test_windows_that_agree_by_chance_do_not_narrow_the_interval_below_that_of_independent_queries() -> None:
    queries = np.tile([1.0, 3.0], 500)  # every window has the same mean
    low, high = mean_interval(queries, 5)  # type: ignore[misc]
    assert (high - low) / 2 == pytest.approx(1.96 * queries.std(ddof=1) / np.sqrt(1000))


@pytest.mark.parametrize("windows", range(2, MOST_WINDOWS + 1))
def test_the_interval_is_students_over_the_windows(windows: int) -> None:
    """Windows of twelve short and of six long queries in turn, so that pairs of windows are alike and narrower."""
    queries = np.concatenate([[1.0] * 12 if index % 2 == 0 else [2.0] * 6 for index in range(windows)])
    low, high = mean_interval(queries, windows)  # type: ignore[misc]
    sums, counts = np.full(windows, 12.0), np.resize([12, 6], windows)
    residuals = sums - queries.mean() * counts
    error = np.sqrt(windows / (windows - 1) * np.sum(residuals**2)) / len(queries)
    assert (high - low) / 2 / error == pytest.approx(t.ppf(0.975, windows - 1), abs=6e-4)


def test_windows_are_equal_in_time_not_in_queries() -> None:
    durations = np.array([1] * 100 + [10] * 10, float)
    windows = cut(durations, 2)
    assert windows.counts.tolist() == [100, 10]
    assert windows.means.tolist() == [1, 10]


def test_a_query_longer_than_a_window_leaves_one_empty() -> None:
    windows = cut(np.array([1.0, 1.0, 100.0, 1.0]), 5)
    assert windows.counts.sum() == 4
    assert windows.sums.sum() == 103
    assert len(windows.means) == np.count_nonzero(windows.counts)


def test_few_queries_withhold_what_they_cannot_support() -> None:
    figures = latency(np.array([3 * MS]))
    assert figures.values["latency_ms"] == 3
    assert {"latency_std_ms", "latency_ci95_low_ms", "latency_p50_ms"} <= figures.missing.keys()


def test_no_query_is_an_error_that_names_the_fix() -> None:
    with pytest.raises(MeasurementError) as caught:
        latency(np.array([], dtype=np.int64))
    assert "max_seconds" in caught.value.hint


@given(arrays(np.int64, st.integers(1, 300), elements=st.integers(1, 10**12)))
def test_every_figure_is_finite_and_never_both_given_and_missing(ns: NDArray[np.int64]) -> None:
    figures = latency(ns)
    assert all(np.isfinite(value) for value in figures.values.values())
    assert not figures.values.keys() & figures.missing.keys()
    assert figures.values["latency_min_ms"] <= figures.values["latency_ms"] * (1 + 1e-12)
