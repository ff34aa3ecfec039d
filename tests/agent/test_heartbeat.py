"""Heartbeats by a clock that only the test moves."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from edlab.agent import protocol


class Clock:
    """In place of the module `time`: sleeping moves it, and lets the test do something meanwhile."""

    def __init__(self, *meanwhile: Any) -> None:
        self.now = 100.0
        self._meanwhile = list(meanwhile)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        if not self._meanwhile:
            raise InterruptedError
        start = self.now
        self._meanwhile.pop(0)()
        self.now = start + seconds


def nothing() -> None:
    pass


def events(monkeypatch: pytest.MonkeyPatch, clock: Clock, channel: protocol.Channel, reader: int) -> list[str]:
    with pytest.raises(InterruptedError):
        channel.beat()
    return [json.loads(line)["event"] for line in os.read(reader, 1 << 16).splitlines()]


@pytest.fixture
def pipe() -> Any:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)


def test_a_silent_agent_beats_each_period(monkeypatch: pytest.MonkeyPatch, pipe: Any) -> None:
    clock = Clock(nothing, nothing)
    monkeypatch.setattr(protocol, "time", clock)
    channel = protocol.Channel(pipe[1])
    assert events(monkeypatch, clock, channel, pipe[0]) == ["heartbeat"] * 3
    assert clock.now == 100.0 + 2 * protocol.HEARTBEAT_S


def test_no_heartbeat_follows_another_message_within_its_period(monkeypatch: pytest.MonkeyPatch, pipe: Any) -> None:
    def report() -> None:
        clock.now += protocol.HEARTBEAT_S - 0.5
        channel.send({"event": "progress"})

    clock = Clock(report, report, nothing, nothing)
    monkeypatch.setattr(protocol, "time", clock)
    channel = protocol.Channel(pipe[1])
    sent = events(monkeypatch, clock, channel, pipe[0])
    assert sent[:3] == ["heartbeat", "progress", "progress"]
    assert sent[3:] == ["heartbeat"] * (len(sent) - 3)
    assert len(sent) > 3  # once it is silent again
