"""Simulated latency series of known truth, for scripts/bench/coverage and detection and for the tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from edlab.agent.phases.latency import goal_after
from edlab.agent.statistics import relative_width

Series = NDArray[np.float64]
SECONDS = 10.0  # of a stationary series, for any number of queries: a faster model runs more of them
# protocol.max_interval, max_seconds and windows of protocol=quick; its least is SECONDS.
LIMIT, MOST_S, WINDOWS = 0.05, 120.0, 10


def _ar1(queries: int, rng: np.random.Generator, phi: float, cv: float) -> Series:
    noise = rng.standard_normal(queries)
    noise[0] /= np.sqrt(1 - phi**2)
    return 1 + cv * np.sqrt(1 - phi**2) * np.asarray(lfilter([1], [1, -phi], noise))


def _wandering(queries: int, rng: np.random.Generator, tau_s: float, cv: float, noise: float) -> tuple[Series, float]:
    """A level with the autocorrelation exp(-t / tau_s) (Ornstein-Uhlenbeck), times the noise of each query."""
    level = _ar1(queries, rng, float(np.exp(-SECONDS / queries / tau_s)), cv)
    return level * rng.lognormal(0, noise, queries), float(np.exp(noise**2 / 2))


def _stalls(queries: int, rng: np.random.Generator, each_ms: float, count: float) -> tuple[Series, float]:
    """Poisson stalls, `count` in a run, on a model that fills the run with this number of queries."""
    base = 1e3 * SECONDS / queries
    series = base * rng.lognormal(0, 0.03, queries) + each_ms * rng.poisson(count / queries, queries)
    return series, float(base * np.exp(0.03**2 / 2) + each_ms * count / queries)


def _periodic(queries: int, rng: np.random.Generator) -> tuple[Series, float]:
    base = 1e3 * SECONDS / queries
    series = base * rng.lognormal(0, 0.03, queries)
    period = queries / SECONDS
    np.add.at(series, ((rng.random() + np.arange(int(SECONDS))) * period).astype(int) % queries, 5.0)
    return series, float(base * np.exp(0.03**2 / 2) + 5.0 / period)


def _dwell_queries(queries: int, dwell_s: float) -> float:
    """The average number of queries between clock changes; 1: the clock changes at each query."""
    return max(dwell_s / SECONDS * queries, 1.0)


def _two_clocks(queries: int, rng: np.random.Generator, dwell_s: float) -> tuple[Series, float]:
    flips = rng.random(queries) < 1 / _dwell_queries(queries, dwell_s)
    flips[0] = rng.random() < 0.5
    return np.where(np.cumsum(flips) % 2 == 0, 1.0, 1.3) * rng.lognormal(0, 0.02, queries), float(
        1.15 * np.exp(0.02**2 / 2)
    )


def _heavy_tail(queries: int, rng: np.random.Generator) -> tuple[Series, float]:
    series = rng.lognormal(0, 0.03, queries) + (rng.random(queries) < 0.01) * (1 + rng.pareto(2.1, queries))
    return series, float(np.exp(0.03**2 / 2) + 0.01 * (1 + 1 / 1.1))


# Name -> (series, true mean) of a number of queries in SECONDS. The seconds of a wander are its tau, half of its
# integrated autocorrelation time.
STATIONARY = {
    "independent, cv 5 %": lambda n, rng: (rng.lognormal(0, 0.05, n), float(np.exp(0.05**2 / 2))),
    "AR(1) 0.5": lambda n, rng: (_ar1(n, rng, 0.5, 0.05), 1.0),
    "AR(1) 0.9": lambda n, rng: (_ar1(n, rng, 0.9, 0.05), 1.0),
    "AR(1) 0.99": lambda n, rng: (_ar1(n, rng, 0.99, 0.05), 1.0),
    "stall of 5 ms each second": _periodic,
    "stalls of 5 ms, Poisson, 1/s": lambda n, rng: _stalls(n, rng, 5.0, SECONDS),
    "clock 1.0x / 1.3x, dwell 0.05 s": lambda n, rng: _two_clocks(n, rng, 0.05),
    "clock 1.0x / 1.3x, dwell 0.5 s": lambda n, rng: _two_clocks(n, rng, 0.5),
    "wander of 10 %, 0.1 s": lambda n, rng: _wandering(n, rng, 0.1, 0.1, 0.05),
    "wander of 10 %, 0.25 s": lambda n, rng: _wandering(n, rng, 0.25, 0.1, 0.05),
    "wander of 10 %, 0.5 s": lambda n, rng: _wandering(n, rng, 0.5, 0.1, 0.05),
    "wander of 10 %, 1 s": lambda n, rng: _wandering(n, rng, 1.0, 0.1, 0.05),
    "wander of 10 %, 2 s": lambda n, rng: _wandering(n, rng, 2.0, 0.1, 0.05),
    "heavy tail, 1 % Pareto 2.1": _heavy_tail,
    "stalls of 50 ms, Poisson, 1 in 5 s": lambda n, rng: _stalls(n, rng, 50.0, SECONDS / 5),
}


def correlation_s(name: str, queries: int) -> float:
    """The integrated autocorrelation time of a stationary series, s: its autocorrelation, integrated over all lags.

    From minus to plus infinity: the mean of T seconds, if T is much longer, has the variance of one query times this
    over T. For independent queries it is the time of one query, here also with stalls at a fixed interval, which
    average out; for a wander it is that of the level, 2 tau.
    """
    each = SECONDS / queries
    if name.startswith("AR(1)"):
        phi = float(name.split()[1])
        return each * (1 + phi) / (1 - phi)
    if name.startswith("wander"):
        return 2 * float(name.split()[-2])
    if name.startswith("clock"):  # an AR(1) of 1 - 2 / dwell; a clock that changes at each query averages out
        return each * (_dwell_queries(queries, float(name.split()[-2])) - 1)
    return each


@dataclass(frozen=True)
class Machine:
    """What a machine does to latencies: stalls (a second, mean ms), wander (cv, tau in s), noise of a query (cv)."""

    stalls: tuple[tuple[float, float], ...]
    wander: tuple[float, float]
    noise: float = 0.03


MACHINES = {
    "bare metal": Machine(((10, 0.02),), (0.005, 2.0)),
    "shared VM": Machine(((10, 0.2), (0.5, 20.0)), (0.03, 2.0)),
    "noisy VM": Machine(((10, 0.2), (0.2, 150.0)), (0.05, 2.0)),
    "VM as measured": Machine(((10, 0.2), (0.2, 20.0)), (0.10, 1.0), 0.2),
}

# Name -> the factor on the latency at t seconds after the phase began; `phase` is 0..1, drawn for each run.
FAULTS = {
    "none": lambda t, phase: np.ones_like(t),
    "drift of 3 % over 10 s": lambda t, phase: 1 + 0.03 * np.clip(t / 10, 0, 1),
    "drift of 5 % over 10 s": lambda t, phase: 1 + 0.05 * np.clip(t / 10, 0, 1),
    "drift of 8 % over 10 s": lambda t, phase: 1 + 0.08 * np.clip(t / 10, 0, 1),
    "throttled to 1.25x after 6 s": lambda t, phase: 1 + 0.25 * (t > 6),
    "throttled to 1.25x after 9 s": lambda t, phase: 1 + 0.25 * (t > 9),
    "load: 1.3x for 0.2 s of each second": lambda t, phase: 1 + 0.3 * ((t + phase) % 1 < 0.2),
    "load: 1.3x for 3 s of each 6 s": lambda t, phase: 1 + 0.3 * ((t + 6 * phase) % 6 < 3),
    "load: 2x for 2 s, once": lambda t, phase: 1 + ((t > 8 * phase) & (t < 8 * phase + 2)),
}


def disturbed(base_ms: float, machine: Machine, fault: str, seconds: float, rng: np.random.Generator) -> Series:
    """Latencies, ms, of queries that follow one another for about `seconds`, from the start of the phase."""
    queries = int(seconds * 1e3 / base_ms * 1.02) + 10
    each_s = base_ms / 1e3
    t = np.arange(queries) * each_s
    cv, tau = machine.wander
    step = max(1, int(0.02 / each_s))
    coarse = -(-queries // step) + 1
    level = _ar1(coarse, rng, float(np.exp(-step * each_s / tau)), cv)
    series = base_ms * np.interp(np.arange(queries) / step, np.arange(coarse), level)
    series *= rng.lognormal(0, machine.noise, queries)
    for rate, mean_ms in machine.stalls:
        hits = rng.poisson(rate * t[-1])
        np.add.at(series, rng.integers(0, queries, hits), rng.exponential(mean_ms, hits))
    return series * FAULTS[fault](t, rng.random())


def first(series: Series, seconds: float) -> Series:
    """The queries, ms, that begin within this number of seconds."""
    return series[: int(np.searchsorted(np.cumsum(series) / 1e3, seconds)) + 1]


def measured(run: Callable[[float], Series]) -> tuple[Series, float]:
    """What the latency phase of protocol=quick keeps, by its stopping rule, and the seconds that it took.

    `run(seconds)` simulates about this time. It is called once, for the longest phase, because a phase that continues
    keeps its queries.
    """
    whole = run(MOST_S)
    goal = SECONDS
    while True:
        series = first(whole, goal)
        width = relative_width(series, WINDOWS)
        longer = None if width is None or goal >= MOST_S else goal_after(goal, width, LIMIT, MOST_S)
        if longer is None:
            return series, goal
        goal = longer
