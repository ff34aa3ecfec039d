"""The simulated series that are the basis of the tables of docs/results and of the tests of the statistics."""

from __future__ import annotations

import numpy as np
import pytest
from simulated import MACHINES, SECONDS, STATIONARY, Series, correlation_s, disturbed, measured


def test_a_phase_that_goes_on_keeps_the_queries_that_it_has() -> None:
    rng = np.random.default_rng(0)
    simulated: list[Series] = []

    def run(seconds: float) -> Series:
        simulated.append(disturbed(1.0, MACHINES["VM as measured"], "none", seconds, rng))
        return simulated[-1]

    kept, seconds = measured(run)
    assert seconds > SECONDS
    first = simulated[0][: len(kept)]
    assert np.array_equal(kept[: len(first)], first)
    assert kept.sum() / 1e3 == pytest.approx(seconds, rel=0.01)


@pytest.mark.parametrize("queries", [200, 1024])
@pytest.mark.parametrize("name", ["independent, cv 5 %", "AR(1) 0.5", "AR(1) 0.9", "clock 1.0x / 1.3x, dwell 0.05 s"])
def test_the_integrated_autocorrelation_time_is_that_of_the_variance_of_means(name: str, queries: int) -> None:
    rng = np.random.default_rng(queries)
    runs = np.stack([STATIONARY[name](queries, rng)[0] for _ in range(1000)])
    found = SECONDS * runs.mean(axis=1).var() / runs.var()
    assert found == pytest.approx(correlation_s(name, queries), rel=0.15, abs=0.002)
