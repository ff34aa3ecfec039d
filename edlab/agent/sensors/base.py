"""What a power sensor is to the agent, and the thread that samples one beside inference."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np

BOUNDARIES = ("rail", "module", "package", "board_dc", "usb", "wall_ac")


class Sample(NamedTuple):
    """Power at one moment of the monotonic clock (time.perf_counter_ns)."""

    t_ns: int
    watts: float


class Sensor(ABC):
    """A source of power readings. `boundary`, one of BOUNDARIES, says what its watts include."""

    def __init__(self, name: str, kind: str, boundary: str) -> None:
        self.name = name
        self.kind = kind
        self.boundary = boundary

    @abstractmethod
    def read(self) -> Sample | None:
        """The power now, or None where it takes another reading to tell."""


class PowerSensor(Sensor):
    """A sensor that tells watts."""

    @abstractmethod
    def watts(self) -> float:
        """The power now."""

    def read(self) -> Sample:
        before = time.perf_counter_ns()
        watts = self.watts()
        return Sample((before + time.perf_counter_ns()) // 2, watts)


class EnergyCounter(Sensor):
    """A sensor that counts energy: a sample is the mean power since the last reading, at the middle of that time."""

    def __init__(self, name: str, kind: str, boundary: str) -> None:
        super().__init__(name, kind, boundary)
        self._last: tuple[int, list[float]] | None = None

    @abstractmethod
    def joules(self) -> list[float]:
        """The present counts, one for each part that is counted."""

    @abstractmethod
    def spans(self) -> list[float]:
        """The joules after which each count starts again from 0."""

    def read(self) -> Sample | None:
        now, counts = time.perf_counter_ns(), self.joules()
        last, self._last = self._last, (now, counts)
        if last is None:
            return None
        energy = sum((new - old) % span for new, old, span in zip(counts, last[1], self.spans()))
        return Sample((last[0] + now) // 2, energy / ((now - last[0]) / 1e9))


class Sampler:
    """Reads a sensor each `interval_s` in a thread of its own, from entering the context to leaving it."""

    def __init__(self, sensor: Sensor, interval_s: float) -> None:
        self.sensor = sensor
        self._interval_s = interval_s
        self._samples: list[Sample] = []
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def between(self, start_ns: int, end_ns: int) -> np.ndarray:
        """float64 (n, 2) of t_ns and watts: the samples from `start_ns` to `end_ns`, and one beyond either end.

        The two beyond let the power at the ends be interpolated. Raises what reading the sensor raised.
        """
        if self._error is not None:
            raise self._error
        times = np.array([sample.t_ns for sample in self._samples], np.int64)
        first = max(0, int(np.searchsorted(times, start_ns)) - 1)
        last = int(np.searchsorted(times, end_ns, side="right")) + 1
        return np.array(self._samples[first:last], np.float64).reshape(-1, 2)

    def _run(self) -> None:
        due = time.perf_counter()
        try:
            while not self._stop.wait(max(0.0, due - time.perf_counter())):
                sample = self.sensor.read()
                if sample is not None:
                    self._samples.append(sample)
                due = max(due + self._interval_s, time.perf_counter())
        except (OSError, ValueError) as error:
            self._error = error
