"""The meter spec_ptd, against a PEER that speaks the PTDaemon's protocol as its clients describe it.

Neither a PTDaemon, which only SPEC's licensees have, nor an analyser is connected.
"""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, ClassVar

import pytest
from line_peer import LinePeer
from readings import PATIENCE_S, next_error, next_sample

from edlab.errors import ConfigError
from edlab.power.meter import METERS
from edlab.power.meters import spec_ptd
from edlab.power.meters.spec_ptd import SpecPtd
from edlab.testing.meter import MeterConformance

NOON = datetime(2026, 3, 4, 12, 0, 0)


def sample(moment: datetime, watts: float, rest: str = "Volts,228.57,Amps,0.2,PF,0.48") -> str:
    return f"Time,{moment:%m-%d-%Y %H:%M:%S}.{moment.microsecond // 1000:03d},Watts,{watts:f},{rest}"


class Ptd:
    """A PTDaemon: the samples that a test puts into `unread`, and an RL that waits for one."""

    def __init__(self) -> None:
        self.channels = 1
        self.known = "RL,*"  # the form of RL that it has
        self.mode = "power"
        self.interval_ms = 0
        self.runs = False
        self.uncertainty = "Uncertainty,0.006264,0.006105,0.009201,692,0,692,0"
        self.unread: deque[str] = deque()
        self.silent: set[str] = set()  # commands without an answer
        self.replies: dict[str, str] = {}  # instead of the usual ones
        self.closed = threading.Event()

    def answer(self, line: str) -> str | None:
        command, _, rest = line.partition(",")
        if command in self.silent:
            return None
        if command in self.replies:
            return self.replies[command]
        if command == "Hello":
            return "Hello, PTDaemon here!"
        if command == "Identify":
            version = "version=1.9.2-4a1c2ad6-20201019,OS=Linux"
            return f"Dummy,1000,1,1,1,1,1,1,0,{version},mode={self.mode},1,1,{self.channels},0,0,no_cal_date,na"
        if command == "Go":
            if self.runs:
                return "Error: measurement in progress"
            self.runs, self.interval_ms = True, int(rest.split(",")[0])
            return f"Starting untimed measurement, maximum 500000 samples at {self.interval_ms}ms with 0 rampup samples"
        if command == "Stop":
            answer = "Stopping untimed measurement" if self.runs else "Error: no measurement to stop"
            self.runs = False
            return answer
        if command == "Uncertainty":
            return self.uncertainty
        if command.endswith("RL"):
            return self._read(line)
        return "Unknown command"

    def _read(self, line: str) -> str | None:
        if line != self.known:
            return "Unknown command" if self.known == "DC-RL" else "Invalid number of parameters"
        while not self.unread:
            if self.closed.wait(0.005):
                return None
        lines = [self.unread.popleft() for _ in range(len(self.unread))]
        return "\r\n".join([f"Last {len(lines)} samples", *lines])


@pytest.fixture
def ptd() -> Iterator[Ptd]:
    ptd = Ptd()
    yield ptd
    ptd.closed.set()


@pytest.fixture
def peer(ptd: Ptd) -> Iterator[LinePeer]:
    peer = LinePeer(ptd.answer)
    yield peer
    peer.close()


class TestConformance(MeterConformance):
    meter = "spec_ptd"
    options: ClassVar[dict[str, str]] = {}

    @pytest.fixture(autouse=True)
    def _connected(self, ptd: Ptd, peer: LinePeer, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        monkeypatch.setattr(type(self), "options", {"host": peer.host})
        stop = threading.Event()

        def measure() -> None:
            while not stop.wait(0.01):
                ptd.unread.append(sample(datetime.now(), 5.0))

        thread = threading.Thread(target=measure)
        thread.start()
        yield
        stop.set()
        thread.join()


def test_its_name_is_in_the_list_of_meters() -> None:
    assert METERS.load("spec_ptd") is SpecPtd


def test_samples_at_the_times_that_the_ptdaemon_states(ptd: Ptd, peer: LinePeer) -> None:
    """Its clock is hours off, and only the newest of the samples has just been taken."""
    meter = SpecPtd(host=peer.host, interval_ms=200)
    assert (meter.boundary, meter.lag_s, meter.paced, meter.accuracy) == ("wall_ac", 0.2, False, None)
    before_ns = time.perf_counter_ns()
    ptd.unread += [sample(NOON, 22.95), sample(NOON + timedelta(milliseconds=204), 23.08)]
    first, second = next_sample(meter), next_sample(meter)
    assert (first.watts, second.watts) == (22.95, 23.08)
    assert second.t_ns - first.t_ns == 204_000_000
    assert before_ns < second.t_ns < time.perf_counter_ns()
    assert ptd.interval_ms == 200
    assert peer.lines[:3] == ["Hello", "Identify", "Go,200,0,edlab"]
    ptd.unread.append(sample(NOON + timedelta(milliseconds=400), 23.0))
    next_sample(meter)
    assert meter.accuracy == 0.006264


def test_a_day_of_the_ptdaemon_that_ends(ptd: Ptd, peer: LinePeer) -> None:
    meter = SpecPtd(host=peer.host)
    ptd.unread.append(sample(datetime(2026, 3, 4, 23, 59, 59, 500_000), 1.0))
    ptd.unread.append(sample(datetime(2026, 3, 5, 0, 0, 0, 500_000), 2.0))
    first, second = next_sample(meter), next_sample(meter)
    assert second.t_ns - first.t_ns == 1_000_000_000


def test_a_clock_that_is_set_back_does_not_set_the_samples_back(ptd: Ptd, peer: LinePeer) -> None:
    meter = SpecPtd(host=peer.host)
    ptd.unread.append(sample(NOON, 1.0))
    first = next_sample(meter)
    ptd.unread.append(sample(NOON - timedelta(hours=1), 2.0))
    second = next_sample(meter)
    assert first.t_ns < second.t_ns < time.perf_counter_ns()


@pytest.mark.parametrize(
    ("channels", "known", "rest"),
    [
        (1, "RL", "Volts,1.0"),
        (1, "DC-RL", "Volts,1.0"),
        (3, "RL,*,*", "Volts,-1,Amps,-1,PF,-1,Watts,2.000000,Volts,120.9,Watts,3.000000,Volts,120.9"),
    ],
)
def test_the_request_for_samples_that_the_ptdaemon_has(
    ptd: Ptd, peer: LinePeer, channels: int, known: str, rest: str
) -> None:
    ptd.channels, ptd.known = channels, known
    ptd.unread.append(sample(NOON, 5.0, rest))
    assert next_sample(SpecPtd(host=peer.host)).watts == 5.0


def test_a_measurement_that_was_left_running_is_stopped(ptd: Ptd, peer: LinePeer) -> None:
    ptd.runs = True
    ptd.unread.append(sample(NOON, 5.0))
    assert next_sample(SpecPtd(host=peer.host)).watts == 5.0
    assert peer.lines[2:5] == ["Go,1000,0,edlab", "Stop", "Go,1000,0,edlab"]


def test_to_close_it_stops_the_measurement(ptd: Ptd, peer: LinePeer) -> None:
    meter = SpecPtd(host=peer.host)
    ptd.unread += [sample(NOON, 5.0)]
    next_sample(meter)
    ptd.unread += [sample(NOON + timedelta(seconds=1), 5.0)]  # the answer to the RL that waits
    meter.close()
    end = time.monotonic() + PATIENCE_S
    while ptd.runs and time.monotonic() < end:
        time.sleep(0.01)
    assert not ptd.runs
    ptd.unread += [sample(NOON + timedelta(seconds=2), 6.0)]
    assert next_sample(meter).watts > 0


@pytest.mark.parametrize("watts", [-1.0, -2.0])
def test_a_sample_that_failed_is_a_failed_reading(ptd: Ptd, peer: LinePeer, watts: float) -> None:
    meter = SpecPtd(host=peer.host)
    ptd.unread += [sample(NOON, watts), sample(NOON + timedelta(seconds=1), 5.0)]
    assert "failed sample" in str(next_error(meter))
    assert next_sample(meter).watts == 5.0


@pytest.mark.parametrize("answer", ["No unread samples available", "Insufficient unread samples", "No data"])
def test_without_a_new_sample_it_asks_again(ptd: Ptd, peer: LinePeer, answer: str) -> None:
    meter = SpecPtd(host=peer.host)
    ptd.replies = {"RL": answer}
    while peer.lines.count("RL,*") < 2:
        assert meter.read() is None
    ptd.replies = {}
    ptd.unread += [sample(NOON, 5.0)]
    assert next_sample(meter).watts == 5.0


@pytest.mark.parametrize(
    "answer", ["Uncertainty,-1.0,-1.0,-1.0,3,0,0,3", "Uncertainty", "Unknown command", "Uncertainty,?"]
)
def test_an_uncertainty_that_is_unknown(ptd: Ptd, peer: LinePeer, answer: str) -> None:
    ptd.uncertainty = answer
    meter = SpecPtd(host=peer.host)
    ptd.unread += [sample(NOON, 5.0)]
    next_sample(meter)
    ptd.unread += [sample(NOON + timedelta(seconds=1), 5.0)]
    next_sample(meter)
    assert meter.accuracy is None


@pytest.mark.parametrize(
    ("replies", "problem"),
    [
        ({"Hello": "220 mail.example.org ESMTP"}, "not a PTDaemon: it answered '220 mail"),
        ({"Go": "Error: no meter"}, "does not measure: Error: no meter"),
        ({"RL": "Error: internal"}, r"answered 'Error: internal' to RL,\*"),
        ({"RL": "Last 1 samples\r\nTime,03-04-2026 12:00:00.000,Volts,1.0"}, "not a sample"),
        ({"RL": "Last 2 samples\r\n\xff\xfe"}, "not a sample"),
    ],
)
def test_a_wrong_answer_fails_and_later_readings_succeed(
    ptd: Ptd, peer: LinePeer, replies: dict[str, str], problem: str
) -> None:
    ptd.replies = replies
    meter = SpecPtd(host=peer.host)
    assert re.search(problem, str(next_error(meter)))
    ptd.replies = {}
    ptd.unread += [sample(NOON, 5.0)]
    assert next_sample(meter).watts == 5.0


def test_a_temperature_sensor_is_refused(ptd: Ptd, peer: LinePeer) -> None:
    ptd.mode = "temperature"
    assert "temperature sensor" in str(next_error(SpecPtd(host=peer.host)))


@pytest.mark.parametrize("command", ["Hello", "Identify", "Go", "RL"])
def test_a_ptdaemon_that_never_answers(ptd: Ptd, peer: LinePeer, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ptd.silent = {command}
    meter = SpecPtd(host=peer.host, interval_ms=1)
    assert meter.read() is None
    monkeypatch.setattr(spec_ptd, "_PATIENCE_S", 0.0)
    assert f"does not answer {command}" in str(next_error(meter))
    ptd.silent = set()
    ptd.unread += [sample(NOON, 5.0)]
    monkeypatch.undo()
    assert next_sample(meter).watts == 5.0


def test_a_ptdaemon_that_goes_away_and_comes_back(ptd: Ptd, peer: LinePeer) -> None:
    meter = SpecPtd(host=peer.host)
    ptd.unread += [sample(NOON, 5.0)]
    next_sample(meter)
    peer.close()
    with pytest.raises(OSError, match=r"closed the connection|reset|roken pipe"):
        meter.read()
    with pytest.raises(OSError, match="cannot reach " + peer.host):
        meter.read()
    peer.open()
    ptd.unread += [sample(NOON + timedelta(seconds=9), 6.0)]
    assert next_sample(meter).watts == 6.0


@pytest.mark.parametrize(
    "options",
    [{"host": "http://ptd"}, {"host": 8888}, {"interval_ms": 0}, {"interval_ms": 0.5}, {"boundary": "mains"}],
)
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as refused:
        SpecPtd(**options)
    assert "meter.options" in refused.value.hint
