"""A power sensor of the target, which its agent reads on its own clock."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol

from edlab.agent.messages import SensorFound, Sensors
from edlab.power.base import Series, Source


class Target(Protocol):
    """The methods of a session that a source needs: `edlab.devices.AgentSession`."""

    def sensors(self) -> Sensors:
        """The sensors that its agent can read."""

    def clock(self) -> int:
        """Its agent's clock, ns."""

    def record_start(self, sensor: str, interval_s: float) -> None:
        """Let the agent read a sensor until it is stopped."""

    def record_stop(self, sensor: str) -> None:
        """Stop reading it."""

    def record_series(self, sensor: str, start_ns: int, end_ns: int) -> Series:
        """The readings in a span."""


class BoardSensor(Source):
    """A sensor that the agent found, read about every `interval_s`."""

    def __init__(self, target: Target, sensor: SensorFound, interval_s: float) -> None:
        super().__init__(
            sensor.name,
            sensor.boundary,
            sensor.lag_s,
            sensor.stand_in,
            resolution_w=sensor.resolution_w,
            accuracy=sensor.accuracy,
            renewed_s=sensor.renewed_s,
        )
        self._target = target
        self._interval_s = interval_s

    def start(self) -> None:
        self._target.record_start(self.name, self._interval_s)

    def stop(self) -> None:
        self._target.record_stop(self.name)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """After an error the agent may be dead or busy; its recording ends with it."""
        if error is None:
            self.stop()

    def series(self, start_ns: int, end_ns: int) -> Series:
        return self._target.record_series(self.name, start_ns, end_ns)
