"""What a power sensor is to the agent, and the thread that records one during inference."""

from __future__ import annotations

import os
import random
import threading
import time
from abc import ABC, abstractmethod
from typing import NamedTuple, Sequence

import numpy as np

from ..messages import Readings, UnusableSensor

BOUNDARIES = ("rail", "module", "package", "board_dc", "usb", "wall_ac")

# Watts of one counter. No processor package takes more; a counter that was reset seems to have jumped by megawatts.
_MOST_WATTS = 2000.0


class Sample(NamedTuple):
    """Power at one moment of the monotonic clock (time.perf_counter_ns)."""

    t_ns: int
    watts: float


class Found(NamedTuple):
    """What looking for sensors gives."""

    sensors: list[Sensor]
    unusable: list[UnusableSensor]


class Sensor(ABC):
    """A source of power readings. `boundary`, one of BOUNDARIES, says what its watts include.

    `lag_s` is how far back a reading may reach: the time that it is averaged over and the time for which it stays.
    """

    def __init__(self, name: str, kind: str, boundary: str, lag_s: float = 0.0) -> None:
        self.name = name
        self.kind = kind
        self.boundary = boundary
        self.lag_s = lag_s

    @abstractmethod
    def read(self) -> Sample | None:
        """The power now, or None where that takes another reading.

        Raises `OSError` or `ValueError` where this reading failed; the next may be good.
        """


class PowerSensor(Sensor):
    """A sensor that gives watts."""

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
        """See `Sensor.read`. A count that was reset, and did not start again by itself, is a failed reading."""
        now, counts = time.perf_counter_ns(), self.joules()
        last, self._last = self._last, (now, counts)
        if last is None:
            return None
        seconds = (now - last[0]) / 1e9
        watts = 0.0
        for new, old, span in zip(counts, last[1], self.spans()):
            joules = (new - old) % span
            if joules > _MOST_WATTS * seconds:
                message = "its counter went from %.6g J to %.6g J in %.3f s: it was reset" % (old, new, seconds)
                raise ValueError(message)
            watts += joules / seconds
        return Sample((last[0] + now) // 2, watts)


def pause(interval_s: float, generator: random.Random) -> float:
    """Seconds from one reading to the next: uniform from half to one and a half of the interval.

    Readings at equal intervals see one phase of a load that repeats at that interval, or at a part of it. A pause whose
    width is a whole interval makes the phases of consecutive readings independent for exactly those periods. Half an
    interval remains at least: over less, a counter's own steps would be taken for power.
    """
    return interval_s * (0.5 + generator.random())


def spanning(samples: Sequence[Sample], start_ns: int, end_ns: int) -> np.ndarray:
    """float64 (n, 2) of t_ns and watts: the samples from `start_ns` to `end_ns`, and one beyond either end.

    `samples` are in order of time. The two beyond let the power at the ends be interpolated.
    """
    times = np.array([sample.t_ns for sample in samples], np.int64)
    first = max(0, int(np.searchsorted(times, start_ns)) - 1)
    last = int(np.searchsorted(times, end_ns, side="right")) + 1
    return np.array(samples[first:last], np.float64).reshape(-1, 2)


class Recorder:
    """Reads a sensor about each `interval_s` in a separate thread, from `start` to `stop`. Failed ones are gaps."""

    def __init__(self, sensor: Sensor, interval_s: float) -> None:
        self._sensor = sensor
        self._interval_s = interval_s
        self._samples: list[Sample] = []
        self._failures: list[tuple[int, str]] = []  # when, and the error
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Read now, and then on and on."""
        self._thread.start()

    def stop(self) -> None:
        """Read no more; a reading in progress is waited for."""
        self._stop.set()
        self._thread.join()

    def series(self, start_ns: int, end_ns: int) -> np.ndarray:
        """The samples of a span as `spanning` gives them; no rows where nothing could be read."""
        return spanning(self._samples[:], start_ns, end_ns)

    def failures(self, start_ns: int, end_ns: int) -> Readings:
        """How many readings failed in a span, and what the last one said."""
        errors = [error for t_ns, error in self._failures if start_ns <= t_ns <= end_ns]
        return Readings(len(errors), errors[-1] if errors else "")

    def _run(self) -> None:
        generator = random.Random(os.getpid())
        while True:
            try:
                sample = self._sensor.read()
                if sample is not None:
                    self._samples.append(sample)
            except Exception as error:  # a thread that dies says nothing: the samples would end without a reason
                self._failures.append((time.perf_counter_ns(), "%s: %s" % (type(error).__name__, error)))
            if self._stop.wait(pause(self._interval_s, generator)):
                return
