"""What the verdict says of latencies with a planted fault, and of those without."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from simulated import FAULTS, MACHINES, STATIONARY, disturbed, measured

from edlab.agent.statistics import mean_interval
from edlab.metrics import Facts, judge, stability, stability_figures

WINDOWS = 10
RUNS = 60


def codes(series_ms: NDArray[np.float64]) -> set[str]:
    ns = (series_ms * 1e6).astype(np.int64)
    facts = Facts(
        tier="quick",
        latency_ms=float(ns.mean()),
        latency_interval_ms=mean_interval(ns, WINDOWS),
        stability=stability(ns, WINDOWS),
    )
    return {reason.code for reason in judge(facts).reasons}


def share(found: Callable[[set[str]], bool], fault: str, base_ms: float) -> float:
    """Of runs on bare metal by the rules of protocol=quick."""
    rng = np.random.default_rng(7)
    runs = [measured(lambda s: disturbed(base_ms, MACHINES["bare metal"], fault, s, rng))[0] for _ in range(RUNS)]
    return sum(found(codes(run)) for run in runs) / RUNS


def test_a_quiet_machine_raises_no_alarm() -> None:
    assert share(bool, "none", 1.0) <= 0.05


@pytest.mark.parametrize("name", ["independent, cv 5 %", "AR(1) 0.5", "stall of 5 ms each second"])
@pytest.mark.parametrize("queries", [200, 1024, 24_576])
def test_a_clean_series_raises_no_alarm(name: str, queries: int) -> None:
    """A wide interval is none: these are 10 s, and the phase goes on until it is narrow."""
    rng = np.random.default_rng(queries)
    runs = [STATIONARY[name](queries, rng)[0] for _ in range(RUNS)]
    assert sum(bool(codes(run) - {"wide_confidence_interval"}) for run in runs) / RUNS <= 0.05


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault not in ("none", "drift of 3 % over 10 s")])
def test_a_planted_fault_is_found(fault: str) -> None:
    """A drift of 8 % widens the interval, so the phase goes on, and in some runs until the drift no longer matters."""
    assert share(bool, fault, 10.0) >= (0.85 if fault == "drift of 8 % over 10 s" else 0.95)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("drift of 5 % over 10 s", "latency_drift"),
        ("throttled to 1.25x after 9 s", "latency_drift"),
        ("load: 1.3x for 0.2 s of each second", "latency_bursts"),
        ("load: 2x for 2 s, once", "wide_confidence_interval"),
    ],
)
def test_a_fault_is_found_by_the_rule_that_names_it(fault: str, code: str) -> None:
    assert share(lambda found: code in found, fault, 10.0) >= 0.95


def test_a_drift_is_given_as_the_change_over_the_phase() -> None:
    slowing = np.linspace(4e6, 6e6, 10_000).astype(np.int64)
    found = stability(slowing, WINDOWS)
    assert found
    assert found.drift == pytest.approx(0.9 * 2 / 5, abs=0.03)  # from the middle of the first window to the last's
    assert found.drift_interval[0] < found.drift < found.drift_interval[1]


def test_a_step_in_the_last_window_is_found_by_comparing_it_with_the_first() -> None:
    rng = np.random.default_rng(3)
    steady = rng.normal(5e6, 1e5, 10_000)
    late = np.where(np.arange(10_000) > 9_100, 1.1, 1.0) * steady
    found = stability(late.astype(np.int64), WINDOWS)
    assert found
    assert found.last_over_first == pytest.approx(0.1, abs=0.01)
    assert "latency_drift" in codes(late / 1e6)
    assert "latency_drift" not in codes(steady / 1e6)


def test_bursts_are_a_share_of_the_time() -> None:
    slow = np.arange(100_000) % 10_000 < 1_700  # 1.3 times longer: 21 % of the time
    found = stability(np.where(slow, 130_000, 100_000), WINDOWS)
    assert found
    assert found.bursts == pytest.approx(0.21, abs=0.02)


def test_a_stall_longer_than_a_slice_is_a_burst() -> None:
    ns = np.full(90_000, 100_000)
    ns[40_000] = 500_000_000  # a twentieth of the time, in which no query ended
    found = stability(ns, 10)
    assert found
    assert found.bursts == pytest.approx(0.05, abs=0.01)


def test_too_few_queries_say_nothing_of_stability() -> None:
    assert stability(np.full(29, 5_000_000), WINDOWS) is None
    assert stability(np.array([1] * 40 + [10**9]), WINDOWS) is None
    assert "latency_drift" in stability_figures(None).missing


@given(arrays(np.int64, st.integers(30, 300), elements=st.integers(1, 10**12)))
def test_all_figures_are_finite(ns: NDArray[np.int64]) -> None:
    found = stability(ns, WINDOWS)
    assert all(np.isfinite(value) for value in stability_figures(found).values.values())
