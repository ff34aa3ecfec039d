"""A source with a clock of its own, here on the host, gives its series on the agent's clock, as a meter does."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from edlab import devices, metrics
from edlab.agent import messages
from edlab.agent.messages import SensorFound
from edlab.agent.sensors.base import PowerSensor
from edlab.cache import Cache
from edlab.config import DeviceConfig
from edlab.power import BoardSensor, ClockRelation, HostMeter, Series, Source, Target, compare_clocks

AHEAD_NS = 7_000_000_000  # the agent's clock, less the host's
WATTS = 5.0


class Clocks:
    """Two clocks, one AHEAD_NS before the other, and a link between them of which each way takes its time."""

    def __init__(self, ways_ns: Callable[[], tuple[int, int]]) -> None:
        self.now_ns = 1_000
        self.ways_ns = ways_ns

    def host(self) -> int:
        return self.now_ns

    def agent(self) -> int:
        there, back = self.ways_ns()
        self.now_ns += there
        told = self.now_ns + AHEAD_NS
        self.now_ns += back
        return told


class FakeMeter(Source):
    """NOT a meter: a step from WATTS to twice as many at a known moment of the host's clock, a reading each 100 ms."""

    def __init__(self, clocks: Clocks, step_ns: int) -> None:
        super().__init__("fake meter", "wall_ac")
        self.clocks = clocks
        self.step_ns = step_ns
        self.running = False

    def start(self) -> None:
        self.running = True

    def stop(self) -> None:
        self.running = False

    def series(self, start_ns: int, end_ns: int) -> Series:
        t_ns = np.arange(0, 20_000_000_000, 100_000_000)
        watts = np.where(t_ns < self.step_ns, WATTS, 2 * WATTS) + 0.01 * np.sin(t_ns / 1e9)  # as no meter stands still
        read = Series(t_ns, watts, failed=1, error="one was lost")
        here = read.on_agents_clock(ClockRelation(*(compare_clocks(self.clocks.agent, self.clocks.host) for _ in "ab")))
        inside = slice(*np.searchsorted(here.t_ns, (start_ns, end_ns)))
        return Series(here.t_ns[inside], here.watts[inside], here.failed, here.error, here.clock_error_ns)


def test_the_offset_is_known_to_half_of_the_shortest_round_trip() -> None:
    generator = random.Random(0)
    ways = [(generator.randrange(100_000, 900_000), generator.randrange(100_000, 900_000)) for _ in range(20)]
    trips = iter(ways)
    offset = compare_clocks((clocks := Clocks(lambda: next(trips))).agent, clocks.host)
    assert offset.error_ns == -(-min(there + back for there, back in ways) // 2)
    assert abs(offset.ns - AHEAD_NS) <= offset.error_ns


def test_one_way_may_take_all_of_the_time() -> None:
    for ways in ((1_000_001, 0), (0, 1_000_001)):
        clocks = Clocks(lambda ways=ways: ways)  # type: ignore[misc]
        offset = compare_clocks(clocks.agent, clocks.host)
        assert abs(offset.ns - AHEAD_NS) <= offset.error_ns == 500_001


def test_a_series_of_the_hosts_clock_comes_on_the_agents() -> None:
    meter = FakeMeter(Clocks(lambda: (200_000, 200_000)), step_ns=10_000_000_000)
    with meter:
        assert meter.running
    assert not meter.running
    start_ns, end_ns = AHEAD_NS + 5_000_000_000, AHEAD_NS + 15_000_000_000  # the agent's: five seconds around the step
    series = meter.series(start_ns, end_ns)
    assert series.t_ns[np.argmax(series.watts > 1.5 * WATTS)] == AHEAD_NS + 10_000_000_000
    assert series.clock_error_ns == 200_000
    assert (series.failed, series.error) == (1, "one was lost")
    figures = metrics.power(series.t_ns, series.watts, metrics.Window(start_ns, end_ns, min_readings=50), 100.0)
    assert figures.values["power_w"] == pytest.approx(1.5 * WATTS, rel=0.01)


def test_a_source_of_this_machine_is_stopped_after_an_error_and_one_of_the_agent_is_not() -> None:
    """The agent may be dead or busy then: Ctrl-C must not wait for it."""
    meter = FakeMeter(Clocks(lambda: (1, 1)), step_ns=0)
    with pytest.raises(KeyboardInterrupt), meter:
        raise KeyboardInterrupt
    assert not meter.running
    target = Mock(spec=Target)
    with pytest.raises(KeyboardInterrupt), BoardSensor(target, SensorFound("rail", "hwmon", "rail", 0.0, ""), 0.05):
        raise KeyboardInterrupt
    target.record_start.assert_called_once()
    target.record_stop.assert_not_called()


class Steady(PowerSensor):
    def watts(self) -> float:
        return WATTS


def test_a_real_clock_of_an_agent_is_that_of_the_phases(tmp_path: Path) -> None:
    """A meter of this machine sees all of a phase that a real agent ran, at the agent's times."""
    with devices.connect(DeviceConfig(name="cpu"), Cache(tmp_path)) as session:
        meter = HostMeter(Steady("steady", "steady", "wall_ac"), 0.005, session.clock)
        with meter:
            span = session.call(messages.IDLE, messages.Idle(0.5))
        series = meter.series(span.start_ns, span.end_ns)
    assert (meter.boundary, series.failed, series.error) == ("wall_ac", 0, "")
    assert 0 < series.clock_error_ns < 0.1e9
    assert len(series.t_ns) > 20
    assert abs(series.t_ns[0] - span.start_ns) < 0.1e9
    assert abs(series.t_ns[-1] - span.end_ns) < 0.1e9
    series.save(tmp_path / "samples.csv")
    assert (tmp_path / "samples.csv").read_text().startswith("time_ns,power_w\n")
    saved = np.loadtxt(tmp_path / "samples.csv", delimiter=",", skiprows=1)
    assert (saved.dtype, saved.shape) == (np.float64, (len(series.t_ns), 2))
    assert (saved[:, 0] == series.t_ns).all()
