"""How long a phase is, by how often its power source renews its readings."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast
from unittest.mock import Mock

import numpy as np
import pytest

from edlab.agent import messages
from edlab.composition import compose_config
from edlab.power import HostMeter, Series
from edlab.stages.phases import Bench, Idle, Measurement
from edlab.stages.phases.base import Result


def bench(refresh_s: float, *overrides: str) -> Bench:
    """A run whose idle phase has read a source that renews its reading this often."""
    t_ns = np.arange(0, 5 * 10**9, 50_000_000)
    watts = 2.0 + 0.01 * (np.floor(t_ns / 1e9 / refresh_s) % 7)
    source = Mock(spec=HostMeter, lag_s=1.0)
    source.name = "slow"
    measurement = Measurement(power=source)
    measurement.results[Idle] = Result(cast("Any", Idle()), Mock(), Series(t_ns, watts))
    config = compose_config(["device=cpu", *overrides])
    unused = cast("Any", None)
    return Bench(config, unused, unused, measurement, unused, Path(), Mock())


@pytest.mark.parametrize(
    ("refresh_s", "seconds"),
    [
        (0.05, 11.0),  # power.active_seconds, and the lag
        (1.0, 26.0),  # 1.25 x 20 new readings, and the lag
    ],
)
def test_a_slow_source_lengthens_the_window(refresh_s: float, seconds: float) -> None:
    assert bench(refresh_s).power_seconds == pytest.approx(seconds, abs=1.5)


def test_the_protocols_limit_is_kept() -> None:
    assert bench(1.0, "protocol.max_seconds=15").power_seconds == pytest.approx(16.0)


@pytest.mark.parametrize(
    ("refresh_s", "windows"),
    [
        (0.05, [6.0]),  # power.idle_seconds, and the lag
        (1.0, [6.0, 13.5]),  # 1.25 x 10 new readings, and the lag
    ],
)
def test_idle_is_repeated_longer_for_a_slow_source(refresh_s: float, windows: list[float]) -> None:
    """The agent's part is a stand-in that returns at once."""

    def series(start_ns: int, end_ns: int) -> Series:
        t_ns = np.arange(start_ns, end_ns, 50_000_000)
        return Series(t_ns, 2.0 + 0.01 * (np.floor(t_ns / 1e9 / refresh_s) % 7))

    asked: list[float] = []

    def measure(_: Any, request: messages.Idle, __: Any) -> messages.IdleReport:
        asked.append(request.seconds)
        return messages.IdleReport(0, round(request.seconds * 1e9), cast("Any", None))

    slow = bench(refresh_s)
    cast("Mock", slow.source).series = series
    slow.deployment = Mock(session=Mock(measure=measure))
    Idle().run(slow)
    assert asked == pytest.approx(windows, abs=1.5)
