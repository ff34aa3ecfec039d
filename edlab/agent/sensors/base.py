"""The interface of a power sensor, and the thread that records one during inference."""

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

_PATIENCE_S = 10.0  # with a reading when the recording ends

# Watts of one counter. No processor package uses more; a counter that was reset seems to jump by megawatts.
_MOST_WATTS = 2000.0


class Sample(NamedTuple):
    """Power at one moment of the monotonic clock (time.perf_counter_ns)."""

    t_ns: int
    watts: float


class Found(NamedTuple):
    """The result of the search for sensors."""

    sensors: list[Sensor]
    unusable: list[UnusableSensor]


class Sensor(ABC):
    """A source of power readings. `boundary`, one of BOUNDARIES, defines what its watts include.

    `lag_s` is how far back a reading may reach: the time over which it is averaged, plus the time for which it is not
    updated.
    """

    paced = True  # False: `read` itself waits for the next reading, at most a second, and reads follow each other
    resolution_w = None  # type: float | None  # one step of a reading, in watts; None: unknown
    accuracy = None  # type: float | None  # of a reading, as a fraction of it; None: unknown
    knows_time = True  # False: the times of its samples are wrong by up to `late_s`, always by the same
    renewed_s = None  # type: float | None  # of a counter of energy: how often it is updated; None: not a counter
    late_s = 0.0  # how much later than its time a reading may arrive: in a recording, the last ones are waited for

    def __init__(self, name: str, kind: str, boundary: str, lag_s: float = 0.0) -> None:
        self.name = name
        self.kind = kind
        self.boundary = boundary
        self.lag_s = lag_s

    @abstractmethod
    def read(self) -> Sample | None:
        """The power now, or None if that needs another reading.

        Raises `OSError` or `ValueError` if this reading failed; the next one may succeed.
        """

    def close(self) -> None:  # noqa: B027
        """Release the device; a later `read` opens it again."""


class PowerSensor(Sensor):
    """A sensor that reports watts."""

    @abstractmethod
    def watts(self) -> float:
        """The power now."""

    def read(self) -> Sample:
        before = time.perf_counter_ns()
        watts = self.watts()
        return Sample((before + time.perf_counter_ns()) // 2, watts)


class EnergyCounter(Sensor):
    """A sensor that counts energy. A sample is the mean power from the reading before it to the reading after it.

    So the trapezoid over the samples telescopes to the counted energy, whenever the counters were read: its weight of a
    sample is half of that time. With the mean power since the last reading it would not, for a counter that is renewed
    more slowly than it is read: an early reading has more power, and the same weight.

    A reading at which no counter has moved is no sample: its energy is part of the next one.
    """

    renewed_s = 0.0  # type: float  # 0: far more often than the counters are read

    def __init__(self, name: str, kind: str, boundary: str, lag_s: float = 0.0) -> None:
        super().__init__(name, kind, boundary, lag_s)
        self._readings: list[_Reading] = []  # the last two, since the counters were reset

    @abstractmethod
    def joules(self) -> list[float]:
        """The present counts in joules, one for each counter."""

    @abstractmethod
    def spans(self) -> list[float]:
        """The joules after which each counter starts again from 0."""

    def read(self) -> Sample | None:
        """See `Sensor.read`. A counter that was reset, instead of reaching its limit, is a failed reading."""
        now, counts = time.perf_counter_ns(), self.joules()
        earlier = self._readings
        if earlier and all(new == old for new, old in zip(counts, earlier[-1].counts)):
            return None
        self._readings = [_Reading(now, counts, 0.0)]  # the first, also after a reset
        if not earlier:
            return None
        last = earlier[-1]
        joules = self._joules_between(last, self._readings[0])
        self._readings = [last, _Reading(now, counts, joules)]
        if len(earlier) == 1:
            return None
        return Sample(last.t_ns, (last.joules + joules) / ((now - earlier[0].t_ns) / 1e9))

    def _joules_between(self, before: _Reading, after: _Reading) -> float:
        """The energy of all counters. Raises `ValueError` if one was reset."""
        seconds = (after.t_ns - before.t_ns) / 1e9
        total = 0.0
        for new, old, span in zip(after.counts, before.counts, self.spans()):
            joules = (new - old) % span
            if joules > _MOST_WATTS * (seconds + self.renewed_s):
                message = "its counter went from %.6g J to %.6g J in %.3f s: it was reset" % (old, new, seconds)
                raise ValueError(message)
            total += joules
        return total


class _Reading(NamedTuple):
    """Counts at one moment."""

    t_ns: int
    counts: list[float]
    joules: float  # since the reading before it


def pause(interval_s: float, generator: random.Random) -> float:
    """Seconds from one reading to the next: uniform between half and one and a half of the interval.

    Readings at equal intervals always hit the same phase of a load that repeats at that interval, or at a fraction of
    it. A pause that varies by a whole interval makes the phases of consecutive readings independent for exactly those
    periods. The pause is at least half an interval: in less time, a counter's own steps would look like power.
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
    """Reads a sensor about every `interval_s` in its own thread, from `start` to `stop`. Failed readings are gaps."""

    def __init__(self, sensor: Sensor, interval_s: float) -> None:
        self._sensor = sensor
        self._interval_s = interval_s
        self._samples: list[Sample] = []
        self._failures: list[tuple[int, str]] = []  # time and error
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Read now, and then repeatedly."""
        self._thread.start()

    def catch_up(self) -> None:
        """Wait for a reading of now or later, if readings arrive late; at most the sensor's `late_s`."""
        now_ns, end = time.perf_counter_ns(), time.monotonic() + self._sensor.late_s
        while time.monotonic() < end and not (self._samples and self._samples[-1].t_ns >= now_ns):
            time.sleep(0.01)

    def stop(self) -> None:
        """Stop reading, and wait for a reading in progress; one that does not return is abandoned."""
        self._stop.set()
        self._thread.join(_PATIENCE_S)
        if self._thread.is_alive():
            self._failures.append((time.perf_counter_ns(), "a reading has not returned for %g s" % _PATIENCE_S))

    def series(self, start_ns: int, end_ns: int) -> np.ndarray:
        """The samples of a span, as from `spanning`; no rows if nothing could be read."""
        return spanning(self._samples[:], start_ns, end_ns)

    def failures(self, start_ns: int, end_ns: int) -> Readings:
        """How many readings failed in a span, and the last error."""
        errors = [error for t_ns, error in self._failures if start_ns <= t_ns <= end_ns]
        return Readings(len(errors), errors[-1] if errors else "")

    def _run(self) -> None:
        generator = random.Random(os.getpid())
        while True:
            waits = self._sensor.paced
            try:
                sample = self._sensor.read()
                if sample is not None:
                    self._samples.append(sample)
            except Exception as error:  # a thread that dies reports nothing: the samples would end without a reason
                self._failures.append((time.perf_counter_ns(), _message(error)))
                waits = True  # else a sensor that fails at once would be asked again without a pause
            if self._stop.wait(pause(self._interval_s, generator) if waits else 0):
                return


def _message(error: Exception) -> str:
    """The message of a failed reading; other errors are bugs of the sensor, whose type says more."""
    expected = isinstance(error, (OSError, ValueError)) and str(error)
    return str(error) if expected else "%s: %s" % (type(error).__name__, error)
