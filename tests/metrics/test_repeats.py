"""Figures of several fresh processes as one: the interval over them holds what a single run cannot see."""

from __future__ import annotations

import numpy as np
import pytest

from edlab.metrics import Figures, Stability, latency, over_runs, pooled_latency, power_over_runs, typical


def run(latency_ms: float, half: float = 0.01, **others: float) -> Figures:
    interval = {"latency_ci95_low_ms": latency_ms - half, "latency_ci95_high_ms": latency_ms + half}
    return Figures({"latency_ms": latency_ms, "throughput_ips": 1000 / latency_ms, **interval, **others})


NO_POOL = Figures()


def test_the_mean_is_over_runs_and_the_spread_is_their_range() -> None:
    figures = over_runs([run(1.0), run(1.2), run(1.1)], NO_POOL).values
    assert figures["latency_ms"] == pytest.approx(1.1)
    assert figures["latency_run_spread"] == pytest.approx(0.2 / 1.1)
    assert figures["latency_runs"] == 3
    assert figures["throughput_run_spread"] > 0


def test_another_power_source_is_joined_in_the_same_way() -> None:
    runs = [run(1.0), run(1.25)]
    watts = [Figures({"power_w": each, "efficiency_ips_per_w": 1.0, "idle_power_w": 2.0}) for each in (10.0, 20.0)]
    figures = power_over_runs(watts, runs)
    assert figures.values["power_w"] == 15.0
    assert figures.values["efficiency_ips_per_w"] == pytest.approx(900 / 15)
    assert figures.values["idle_power_w"] == 2.0
    assert not {"throughput_ips", "latency_runs"} & {*figures.values}


def test_a_source_that_failed_in_one_run_is_missing_with_its_reason() -> None:
    power = [Figures({"power_w": 10.0}), Figures.withheld(["power_w"], "unplugged")]
    assert power_over_runs(power, [run(1.0), run(1.1)]).missing == {"power_w": "unplugged"}


def test_the_interval_over_runs_holds_what_changes_between_them_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = single = 0
    for _ in range(400):
        levels = 5 + rng.normal(0, 0.5, 5)  # of each process: layout, placement, clocks
        runs = [run(level + rng.normal(0, 0.005), half=0.01) for level in levels]
        values = over_runs(runs, NO_POOL).values
        covered += values["latency_ci95_low_ms"] <= 5 <= values["latency_ci95_high_ms"]
        single += runs[0].values["latency_ci95_low_ms"] <= 5 <= runs[0].values["latency_ci95_high_ms"]
    assert 0.92 <= covered / 400 <= 0.98
    assert single / 400 < 0.1


def test_runs_that_agree_by_chance_do_not_narrow_what_each_is_uncertain_by() -> None:
    values = over_runs([run(1.0, half=0.1), run(1.0, half=0.1)], NO_POOL).values
    assert values["latency_ci95_high_ms"] - 1.0 == pytest.approx(0.1 / np.sqrt(2))


def test_percentiles_and_extremes_are_of_the_queries_of_all_runs() -> None:
    first, second = np.full(100, 2_000_000), np.full(300, 4_000_000)
    pooled = pooled_latency([first, second])
    values = over_runs([latency(first), latency(second)], pooled).values
    assert values["latency_ms"] == pytest.approx(3.0)  # a run counts as one
    assert values["latency_p50_ms"] == 4.0
    assert (values["latency_min_ms"], values["latency_max_ms"]) == (2.0, 4.0)


def test_the_interval_of_a_percentile_holds_what_changes_from_one_process_to_the_next() -> None:
    rng = np.random.default_rng(1)
    covered = given = 0
    for _ in range(300):
        levels = 5 * (1 + rng.normal(0, 0.1, 5))
        runs = [(1e6 * level * rng.lognormal(0, 0.05, 300)).astype(np.int64) for level in levels]
        figures = pooled_latency(runs)
        if "latency_p50_ci95_low_ms" in figures.values:
            given += 1
            covered += figures.values["latency_p50_ci95_low_ms"] <= 5 <= figures.values["latency_p50_ci95_high_ms"]
    assert given > 100
    assert covered / given > 0.9


def test_processes_too_few_and_too_different_for_a_percentiles_interval_say_so() -> None:
    figures = pooled_latency([np.full(100, 2_000_000), np.full(100, 4_000_000), np.full(100, 6_000_000)])
    assert figures.values["latency_p50_ms"] == 4.0
    assert "processes that differ" in figures.missing["latency_p50_ci95_low_ms"]


def test_the_error_of_power_holds_what_changes_from_one_process_to_the_next() -> None:
    runs = [run(1.0, power_w=watts, power_standard_error_w=0.01) for watts in (5.0, 6.0, 7.0)]
    assert over_runs(runs, NO_POOL).values["power_standard_error_w"] == pytest.approx(1 / np.sqrt(3))


def test_counts_of_readings_add_up_and_independent_errors_in_squares() -> None:
    runs = [run(1.0, power_w=5.0, power_readings=200.0, power_standard_error_w=0.3) for _ in range(4)]
    values = over_runs(runs, NO_POOL).values
    assert values["power_readings"] == 800
    assert values["power_standard_error_w"] == pytest.approx(0.15)


def test_efficiency_is_a_ratio_of_the_means() -> None:
    values = over_runs([run(1.0, power_w=10.0), run(2.0, power_w=6.0)], NO_POOL).values
    assert values["efficiency_ips_per_w"] == pytest.approx(750 / 8)
    assert values["energy_per_inference_mj"] == pytest.approx(1e3 * 8 / 750)


def test_what_one_run_could_not_measure_is_missing() -> None:
    withheld = run(1.0) | Figures.withheld(["power_w"], "the sensor was silent")
    figures = over_runs([run(1.0, power_w=5.0), withheld], NO_POOL)
    assert "power_w" not in figures.values
    assert figures.missing["power_w"] == "the sensor was silent"


def test_what_comes_back_in_most_runs_is_typical() -> None:
    steady = Stability(0.0, (-0.01, 0.01), 0.0, 0.01, 0.0)
    heating = Stability(0.08, (0.07, 0.09), 0.08, 0.01, 0.0)
    assert typical([steady, heating, heating]) == heating
    assert typical([steady, steady, heating]) == steady


def test_the_interval_of_power_has_the_sensors_errors_and_the_spread_of_the_runs() -> None:
    within = {"power_ci95_low_w": 9.5, "power_ci95_high_w": 10.5}
    alike = over_runs([run(1.0, power_w=10.0, efficiency_ips_per_w=100.0, **within)] * 2, NO_POOL).values
    assert (alike["power_ci95_low_w"], alike["power_ci95_high_w"]) == pytest.approx((9.5, 10.5))
    runs = [run(1.0, power_w=watts, efficiency_ips_per_w=1000.0 / watts, **within) for watts in (9.8, 10.2)]
    apart = over_runs(runs, NO_POOL).values
    assert apart["power_ci95_high_w"] - 10.0 == pytest.approx(np.hypot(0.5, 12.706 * 0.2), rel=1e-3)


def test_the_interval_of_efficiency_has_the_spread_of_the_rate() -> None:
    exact = {"power_w": 10.0, "power_ci95_low_w": 10.0, "power_ci95_high_w": 10.0}
    rng, covered = np.random.default_rng(0), 0
    for _ in range(200):
        rates = 1000 * (1 + rng.normal(0, 0.1, 5))
        runs = [run(1000 / rate, efficiency_ips_per_w=rate / 10, **exact) for rate in rates]
        values = over_runs(runs, NO_POOL).values
        covered += values["efficiency_ci95_low_ips_per_w"] <= 100 <= values["efficiency_ci95_high_ips_per_w"]
    assert covered >= 180
