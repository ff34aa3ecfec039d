from __future__ import annotations

import numpy as np
import pytest

from edlab.metrics import estimated_power, idle_power, power, throughput

S = 1_000_000_000


def test_rates_follow_from_the_measured_throughput() -> None:
    assert throughput(200.0, 600_000_000).values == {"throughput_ips": 200.0, "flops_per_s": 1.2e11}


def test_unknown_complexity_withholds_the_rate_of_operations_only() -> None:
    figures = throughput(200.0, None)
    assert figures.values == {"throughput_ips": 200.0}
    assert "flops_per_s" in figures.missing


def test_energy_is_the_trapezoid_over_the_window() -> None:
    t_ns = np.arange(0, 20 * S + 1, S // 20)
    watts = 5 + t_ns / S  # a ramp: its mean over a window is that at the window's middle
    values = power(t_ns, watts, 4 * S, 16 * S, throughput_ips=100.0).values
    assert values["power_w"] == pytest.approx(15.0)
    assert values["energy_per_inference_mj"] == pytest.approx(150.0)
    assert values["efficiency_ips_per_w"] == pytest.approx(100 / 15)


def test_ends_of_the_window_are_interpolated_between_samples() -> None:
    t_ns = np.arange(0, 15 * S + 1, S // 10)
    start, end = S + S // 30, 13 * S + S // 70
    expected = (start + end) / 2 / S
    assert power(t_ns, t_ns / S, start, end, 1.0).values["power_w"] == pytest.approx(expected, rel=1e-9)


def test_unevenly_spaced_samples_are_weighted_by_time() -> None:
    dense, sparse = np.arange(0, 6 * S, S // 100), np.arange(6 * S, 12 * S + 1, S // 2)
    t_ns = np.concatenate((dense, sparse))
    watts = np.where(t_ns < 6 * S, 10.0, 20.0)
    assert power(t_ns, watts, 0, 12 * S, 1.0).values["power_w"] == pytest.approx(15.0, rel=0.01)


@pytest.mark.parametrize(
    ("t_ns", "reason"),
    [
        (np.arange(0, 9 * S + 1, S // 20), "9.0 s"),
        (np.arange(0, 12 * S + 1, S // 4), "49"),
        (np.concatenate((np.arange(0, 5 * S, S // 50), np.arange(9 * S, 12 * S + 1, S // 50))), "silent"),
    ],
    ids=["short window", "few samples", "silent sensor"],
)
def test_a_window_that_cannot_carry_a_figure_withholds_it(t_ns: np.ndarray, reason: str) -> None:
    figures = power(t_ns, np.full(len(t_ns), 5.0), 0, int(t_ns[-1]), 10.0)
    assert not figures.values
    assert figures.missing.keys() == {"power_w", "energy_per_inference_mj", "efficiency_ips_per_w"}
    assert reason in figures.missing["power_w"]


def test_a_sensor_that_reads_zero_is_no_measurement() -> None:
    t_ns = np.arange(0, 12 * S + 1, S // 20)
    assert "power_w" in power(t_ns, np.zeros(len(t_ns)), 0, 12 * S, 10.0).missing


def test_idle_power_is_apart() -> None:
    assert idle_power(np.array([0, S, 2 * S]), np.array([2.0, 4.0, 2.0])).values == {"idle_power_w": 3.0}
    assert "idle_power_w" in idle_power(np.array([0]), np.array([2.0])).missing


def test_a_specification_never_gives_a_plain_power() -> None:
    figures = estimated_power(65.0, 130.0, "no power sensor was found")
    assert figures.values == {"estimated_power_w": 65.0, "estimated_efficiency_ips_per_w": 2.0}
    assert figures.missing["power_w"] == "no power sensor was found"


def test_no_specification_gives_no_estimate() -> None:
    figures = estimated_power(None, 130.0, "no power sensor was found")
    assert not figures.values
    assert "estimated_power_w" in figures.missing
