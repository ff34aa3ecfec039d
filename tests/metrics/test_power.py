from __future__ import annotations

import numpy as np
import pytest

from edlab.metrics import (
    Bounds,
    Facts,
    Figures,
    Instrument,
    PowerFacts,
    Window,
    estimated_power,
    idle_power,
    idle_seconds,
    judge,
    over_runs,
    power,
    throughput,
)
from edlab.record import VerdictState

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
    values = power(t_ns, watts, Window(4 * S, 16 * S), 100.0).values
    assert values["power_w"] == pytest.approx(15.0)
    assert values["energy_per_inference_mj"] == pytest.approx(150.0)
    assert values["efficiency_ips_per_w"] == pytest.approx(100 / 15)


def test_ends_of_the_window_are_between_samples() -> None:
    t_ns = np.arange(0, 15 * S + 1, S // 10)
    start, end = S + S // 30, 13 * S + S // 70
    expected = (start + end) / 2 / S
    assert power(t_ns, t_ns / S, Window(start, end), 1.0).values["power_w"] == pytest.approx(expected, rel=1e-4)


def test_unevenly_spaced_samples_are_weighted_by_time() -> None:
    dense, sparse = np.arange(0, 6 * S, S // 100), np.arange(6 * S, 12 * S + 1, S // 25)
    t_ns = np.concatenate((dense, sparse))
    watts = np.where(t_ns < 6 * S, 10.0, 20.0) + 0.01 * (np.arange(len(t_ns)) % 2)
    assert power(t_ns, watts, Window(0, 12 * S), 1.0).values["power_w"] == pytest.approx(15.0, rel=0.01)


@pytest.mark.parametrize(
    ("t_ns", "reason"),
    [
        (np.arange(0, 9 * S + 1, S // 20), "9.0 s"),
        (np.arange(0, 12 * S + 1, S // 4), "49"),
        (np.concatenate((np.arange(0, 5 * S, S // 50), np.arange(9 * S, 12 * S + 1, S // 50))), "silent"),
        (
            np.setdiff1d(np.arange(0, 12 * S + 1, S // 50), np.arange(S, 11 * S, S // 50)[np.arange(500) % 250 < 40]),
            "1.6 s",
        ),
    ],
    ids=["short window", "few samples", "silent sensor", "two short silences"],
)
def test_a_window_that_cannot_carry_a_figure_withholds_it(t_ns: np.ndarray, reason: str) -> None:
    figures = power(t_ns, np.full(len(t_ns), 5.0), Window(0, int(t_ns[-1]), min_readings=100), 10.0)
    assert not figures.values
    assert figures.missing.keys() >= {"power_w", "power_readings", "energy_per_inference_mj", "efficiency_ips_per_w"}
    assert reason in figures.missing["power_w"]


def test_a_sensor_that_reads_zero_is_no_measurement() -> None:
    t_ns = np.arange(0, 12 * S + 1, S // 20)
    assert "power_w" in power(t_ns, np.zeros(len(t_ns)), Window(0, 12 * S), 10.0).missing


def test_idle_power_is_apart() -> None:
    t_ns = np.arange(0, 20 * S + 1, S)
    assert idle_power(t_ns, np.where(t_ns / S % 2, 4.0, 2.0)).values["idle_power_w"] == 3.0


@pytest.mark.parametrize(
    ("watts", "bounds", "reason"),
    [
        (np.full(5, 2.0), Bounds(), "needs 10 new readings, there are 5"),
        (np.where(np.arange(100) < 60, -1.0, 2.0), Bounds(), "60 of 100 readings"),
        (np.where(np.arange(100) % 10, 2.0, 400.0), Bounds(max_watts=10.0), "10 of 100 readings"),
    ],
)
def test_idle_power_is_withheld_where_the_sensor_says_too_little(
    watts: np.ndarray, bounds: Bounds, reason: str
) -> None:
    figures = idle_power(np.arange(len(watts)) * S // 20, watts, bounds=bounds)
    assert not figures.values
    assert reason in figures.missing["idle_power_w"]


def test_idle_counts_what_a_slow_meter_renews_and_not_what_is_read() -> None:
    t_ns = np.arange(0, 5 * S, S // 20)
    watts = 2.0 + 0.01 * (t_ns // S % 3)  # renewed each second
    assert "10 new readings, there are 5" in idle_power(t_ns, watts).missing["idle_power_w"]
    assert idle_seconds(t_ns, watts) == pytest.approx(12.5)
    longer_ns = np.arange(0, 13 * S, S // 20)
    assert idle_power(longer_ns, 2.0 + 0.01 * (longer_ns // S % 3)).values["idle_power_w"] == pytest.approx(
        2.01, abs=0.005
    )


def test_a_constant_idle_power_is_believed() -> None:
    t_ns = np.arange(0, 5 * S, S // 20)
    assert idle_power(t_ns, np.full(100, 2.0)).values["idle_power_w"] == 2.0
    assert idle_seconds(t_ns, np.full(100, 2.0)) == 0


def test_one_glitch_does_not_raise_idle_power() -> None:
    watts = np.where(np.arange(100) == 50, 4000.0, 2.0)
    figures = idle_power(np.arange(100) * S // 20, watts, bounds=Bounds("rail", max_watts=10.0))
    assert figures.values["idle_power_w"] == 2.0


def test_a_gap_in_idle_withholds_it() -> None:
    t_ns = np.concatenate((np.arange(10) * S // 20, 5 * S + np.arange(10) * S // 20))
    assert "silent" in idle_power(t_ns, np.full(20, 2.0)).missing["idle_power_w"]


def test_a_specification_never_gives_a_plain_power() -> None:
    figures = estimated_power(65.0, 130.0, "no power sensor was found")
    assert figures.values == {"estimated_power_w": 65.0, "estimated_efficiency_ips_per_w": 2.0}
    assert figures.missing["power_w"] == "no power sensor was found"


def test_no_specification_gives_no_estimate() -> None:
    figures = estimated_power(None, 130.0, "no power sensor was found")
    assert not figures.values
    assert "estimated_power_w" in figures.missing


T_NS = np.arange(-S, 11 * S, S // 20)
NOISE = np.random.default_rng(0).normal(0, 0.05, len(T_NS))
GOOD = 5.0 + NOISE
EACH = np.arange(len(T_NS))


def measure(watts: np.ndarray, **keywords: object) -> Figures:
    return power(T_NS, watts, Window(0, 10 * S), 100.0, **keywords)  # type: ignore[arg-type]


def test_a_good_sensor_is_believed() -> None:
    figures = measure(GOOD, bounds=Bounds("rail", idle_w=2.0, idle_standard_error_w=0.01, max_watts=10.0))
    assert figures.doubts == ()
    assert figures.values["power_w"] == pytest.approx(5.0, rel=0.01)
    assert figures.values["power_standard_error_w"] == pytest.approx(0.05 / 200**0.5, rel=0.2)
    assert figures.values["power_readings_dropped"] == 0


def test_the_standard_error_of_a_counter_agrees_with_its_interval() -> None:
    """Between its readings it counts all of the energy: the scatter of a load that changes is no error of the mean."""
    values = measure(GOOD, instrument=Instrument(counter_renewed_s=0.001)).values
    half_w = (values["power_ci95_high_w"] - values["power_ci95_low_w"]) / 2
    assert values["power_standard_error_w"] == pytest.approx(half_w / 1.96)
    assert values["power_standard_error_w"] < 0.1 * measure(GOOD).values["power_standard_error_w"]


def test_advice_on_a_meter_does_not_speak_of_the_targets_sensors() -> None:
    for watts, bounds in (
        (GOOD, Bounds("usb", idle_w=7.0)),
        (GOOD, Bounds("usb", max_watts=3.0)),
        (GOOD * 0 + 5, Bounds()),
    ):
        of_meter, of_sensor = (
            measure(watts, bounds=bounds, instrument=Instrument(kind=kind)).doubts[0] for kind in ("meter", "sensor")
        )
        assert "sensor" not in of_meter.message + of_meter.advice
        assert "meter" not in of_sensor.message + of_sensor.advice


def test_a_source_that_failed_throughout_idle_is_a_doubt() -> None:
    figures = idle_power(np.array([], np.int64), np.array([]), error="no such device")
    assert figures.missing["idle_power_w"] == "power_unreadable: in the idle phase, no readings: no such device"


@pytest.mark.parametrize("absurd", [4e9, 65e3, -50.0, np.nan, np.inf])
def test_a_reading_that_cannot_be_true_is_dropped_and_counted(absurd: float) -> None:
    figures = measure(np.where(EACH == 100, absurd, GOOD))
    assert figures.values["power_w"] == pytest.approx(5.0, rel=0.01)
    assert figures.values["power_readings_dropped"] == 1
    assert figures.doubts == ()


def test_a_reading_far_above_the_specification_is_dropped() -> None:
    figures = measure(np.where(EACH == 100, 40.0, GOOD), bounds=Bounds("rail", max_watts=10.0))
    assert figures.values["power_readings_dropped"] == 1


@pytest.mark.parametrize(
    ("watts", "bounds", "code"),
    [
        (GOOD * 8e8, Bounds(), "power_absurd"),
        (-GOOD, Bounds(), "power_absurd"),
        (np.where(EACH % 10 == 0, np.nan, GOOD), Bounds(), "power_absurd"),
        (GOOD * (EACH % 2), Bounds(), "power_zeros"),
        (GOOD * 0, Bounds(), "power_zeros"),
        (GOOD * 0 + 5, Bounds(), "power_stuck"),
        (5 + (T_NS // S) % 3, Bounds(), "power_few_readings"),
        (GOOD, Bounds("rail", max_watts=3.0), "power_implausible"),
        (GOOD, Bounds("rail", idle_w=20.0), "power_implausible"),
        (GOOD, Bounds("rail", idle_w=7.0), "power_not_above_idle"),
        (GOOD, Bounds("rail", idle_w=4.99, idle_standard_error_w=0.1), "power_not_above_idle"),
    ],
)
def test_readings_that_are_not_believed_withhold_the_figure(watts: np.ndarray, bounds: Bounds, code: str) -> None:
    figures = measure(watts, bounds=bounds)
    assert not figures.values
    assert figures.missing.keys() >= {"power_w", "energy_per_inference_mj", "efficiency_ips_per_w"}
    assert figures.missing["power_w"].startswith(f"{code}: ")
    assert [doubt.code for doubt in figures.doubts] == [code]
    assert figures.doubts[0].advice


def test_a_doubt_reaches_the_verdict() -> None:
    doubts = measure(GOOD * 0 + 5).doubts
    verdict = judge(Facts(tier="normal", power=PowerFacts(doubts=doubts)))
    assert (verdict.state, [reason.code for reason in verdict.reasons]) == (VerdictState.degraded, ["power_stuck"])


def test_a_doubt_of_one_run_is_a_doubt_of_all() -> None:
    doubted = Figures({"latency_ms": 1.0, "throughput_ips": 1.0}) | measure(GOOD * 0 + 5)
    believed = Figures({"latency_ms": 1.0, "throughput_ips": 1.0}) | measure(GOOD)
    for runs in ([doubted, believed], [believed, doubted]):
        joined = over_runs(runs, Figures())
        assert "power_w" not in joined.values
        assert joined.missing["power_w"].startswith("power_stuck: ")
        assert [doubt.code for doubt in joined.doubts] == ["power_stuck"]


def test_a_tree_of_files_is_never_a_measurement() -> None:
    verdict = judge(Facts(tier="normal", power=PowerFacts(stand_in="/tmp/tree")))
    assert verdict.state is VerdictState.invalid
    assert "/tmp/tree" in verdict.reasons[0].message


def test_a_sensor_that_gave_nothing_says_its_last_error() -> None:
    figures = power(
        np.array([], np.int64), np.array([]), Window(0, 10 * S), 100.0, error="OSError: [Errno 5] Input/output error"
    )
    assert "Input/output error" in figures.missing["power_w"]
    assert [doubt.code for doubt in figures.doubts] == ["power_unreadable"]


def test_few_failed_readings_are_gaps_and_many_in_a_row_a_doubt() -> None:
    some = np.delete(EACH, [50, 51, 90])
    assert power(T_NS[some], GOOD[some], Window(0, 10 * S), 100.0).values["power_w"] == pytest.approx(5.0, rel=0.01)
    many = np.delete(EACH, np.arange(50, 90))
    assert power(T_NS[many], GOOD[many], Window(0, 10 * S), 100.0).doubts[0].code == "power_gap"


def test_a_sensor_that_lags_is_integrated_once_it_has_forgotten_what_was_before() -> None:
    t_ns = np.arange(-3 * S, 12 * S, S // 20)
    # The mean of the last second, of 70 W before the window and 350 W in it.
    watts = 70 + 280 * np.clip(t_ns / S, 0, 1) + 0.01 * (np.arange(len(t_ns)) % 2)
    assert power(t_ns, watts, Window(0, 11 * S), 1.0).values["power_w"] == pytest.approx(350 * (1 - 0.4 / 11), rel=1e-3)
    assert power(t_ns, watts, Window(0, 11 * S), 1.0, instrument=Instrument(lag_s=1.0)).values[
        "power_w"
    ] == pytest.approx(350, rel=1e-3)


def test_the_window_must_be_long_enough_without_the_lag() -> None:
    assert "needs 10 s" in measure(GOOD, instrument=Instrument(lag_s=1.0)).missing["power_w"]


def test_idle_begins_after_the_lag() -> None:
    watts = np.where(T_NS < S, 9.0, 2.0)
    assert idle_power(T_NS, watts, start_ns=S).values["idle_power_w"] == 2.0
    assert idle_power(T_NS, np.where(EACH == 100, np.nan, watts), start_ns=S).values["idle_power_w"] == 2.0
