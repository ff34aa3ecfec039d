"""Jetperch's Joulescope JS110, JS220 and JS320, through the vendor's package pyjoulescope_driver.

Sources, of version 2.2.12: the docstrings of `pyjoulescope_driver.Driver`; its programs entry_points/statistics.py
(JS110, JS220) and entry_points/measure.py; binding.pyx for the fields of a statistics value; doc/js220.txt and
tools/build.py (JS320) of github.com/jetperch/joulescope_driver. A device is `u/js220/001234`. Its topics:

    s/i/range/mode    "auto" (JS110: s/i/range/select): the device selects the current range
    s/stats/scnt      samples in a block, at 1 MHz
    s/stats/ctrl      1 starts the statistics, 0 stops them
    s/stats/value     the statistics of a block; of a JS110 s/sstats/value, twice a second, without the three above

A value has `time.range`, the start and end of its block in seconds of the device's clock, and `signals.power.avg`, the
mean power over the block. The blocks have no gaps between them.

The device's clock is compared with this machine's by the arrival of the values: a value cannot arrive before the end of
its block. The driver asks a JS110 for its statistics every 0.1 s. No accuracy is set: it depends on the ranges that the
device selects. Not tried on hardware.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from edlab.agent.sensors.base import Sample, Sensor
from edlab.errors import ConfigError
from edlab.power import options

_MODELS = ("js110", "js220", "js320")
_SAMPLES_PER_S = 1_000_000  # of s/stats/scnt
_JS110_INTERVAL_S = 0.5
_POLL_S = 0.1
_LONGEST_S = 1.0
_WAIT_S = 0.9
_RETRY_S = 0.9  # from a failure to the next attempt
_SILENCE_S = 3.0  # without a value, after which the device is opened again
_VALUES = 600  # that wait to be read; older ones are discarded
_CLOCKS = 60  # values, by which the clocks are compared
_NOISE_W = 1e-3  # below zero, without a load


class Joulescope(Sensor):
    """The mean power over each block of the device's statistics, at the middle of the block.

    Opening the device takes seconds. It is opened and closed in a thread, and readings are None until it is open. The
    current range is set to automatic, which connects the target's supply; closing the device does not change it.
    """

    paced = False

    def __init__(self, *, serial: str | None = None, interval_s: float = 0.1, boundary: str = "board_dc") -> None:
        """`serial` is the serial number, if several devices are connected.

        Raises `ConfigError`, and `MissingDependencyError` without the package.
        """
        self._serial = None if serial is None else options.text("serial", serial)
        self._interval_s = options.number("interval_s", interval_s, least=0.001)
        if self._interval_s > _LONGEST_S:
            raise ConfigError(
                f"the meter option interval_s is {interval_s!r}",
                hint=f"set meter.options.interval_s to {_LONGEST_S:g} or less",
            )
        slowest_s = max(self._interval_s, _JS110_INTERVAL_S)
        name = "joulescope" if self._serial is None else f"joulescope {self._serial}"
        super().__init__(name, "joulescope", options.boundary(boundary), slowest_s + _POLL_S)
        self.late_s = 2 * slowest_s + _POLL_S
        self._package = options.package("the meter joulescope", "pyjoulescope_driver", "pyjoulescope_driver>=2.2")
        self._worker: ThreadPoolExecutor | None = None
        self._opening: Future[_Device] | None = None
        self._failed_at = -math.inf

    def read(self) -> Sample | None:
        """See `Sensor.read`: the next block. None: there is none yet. A negative power is a failed reading."""
        deadline = time.monotonic() + _WAIT_S
        if self._opening is None:
            time.sleep(max(0.0, self._failed_at + _RETRY_S - time.monotonic()))  # the next reading follows at once
            self._worker = self._worker or ThreadPoolExecutor(1, "joulescope")
            self._opening = self._worker.submit(_Device, self._package, self._serial, self._interval_s)
        wait([self._opening], max(0.0, deadline - time.monotonic()))
        if not self._opening.done():
            return None
        try:
            device = self._opening.result()
        except OSError:
            self._fail()
            raise
        arrived = device.next(deadline)
        if arrived is None:
            if device.silent_s() < _SILENCE_S:
                return None
            self._fail()
            raise TimeoutError(f"{device.path} sent nothing for {_SILENCE_S:g} s: is it connected?")
        return device.sample(*arrived)

    def close(self) -> None:
        """See `Sensor.close`. Waits for the thread, which stops the statistics."""
        self._release()
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.shutdown()

    def _fail(self) -> None:
        self._failed_at = time.monotonic()
        self._release()

    def _release(self) -> None:
        """Close the device in the thread, which opens it again only after that."""
        opening, self._opening = self._opening, None
        if opening is not None and self._worker is not None:
            self._worker.submit(_close, opening)


class _Device:
    """An open device."""

    def __init__(self, package: Any, serial: str | None, interval_s: float) -> None:
        """Raises `OSError`."""
        self.path = "the Joulescope"
        self._values: deque[tuple[int, Any]] = deque(maxlen=_VALUES)
        self._new = threading.Condition()
        self._callback = self._arrived  # the same object must end the subscription
        self._delays: deque[int] = deque(maxlen=_CLOCKS)  # arrival less the block's end: the clocks' difference
        self._end_ns = self._last_ns = 0
        self._heard = time.monotonic()
        self._undo: list[Callable[[], object]] = []  # from last to first
        try:
            self._driver = package.Driver()
        except Exception as error:  # of the package: RuntimeError or TimeoutError
            raise OSError(f"pyjoulescope_driver does not start: {error}") from error
        self._undo.append(self._driver.finalize)
        try:
            self.path = _only(self._driver.device_paths(), serial)
            self._start(interval_s)
        except Exception as error:
            self.close()
            if isinstance(error, ConnectionError):
                raise
            raise OSError(f"{self.path} cannot be opened: {error}; does another program use it?") from error
        self._heard = time.monotonic()

    def next(self, deadline: float) -> tuple[int, Any] | None:
        """The next value and the time of its arrival; None if there is none until `deadline`."""
        with self._new:
            self._new.wait_for(lambda: self._values, max(0.0, deadline - time.monotonic()))
            return self._values.popleft() if self._values else None

    def silent_s(self) -> float:
        """Seconds since the last value."""
        return time.monotonic() - self._heard

    def sample(self, arrived_ns: int, value: Any) -> Sample:
        """The power of a block. Raises `ValueError`."""
        try:
            start_s, end_s = (float(moment) for moment in value["time"]["range"]["value"])
            watts = float(value["signals"]["power"]["avg"]["value"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{self.path} sent a value that is not a statistic: {str(value)[:120]}") from error
        if not all(map(math.isfinite, (start_s, end_s, watts))) or end_s <= start_s:
            raise ValueError(f"{self.path} sent {watts:g} W from {start_s:g} s to {end_s:g} s")
        end_ns = round(end_s * 1e9)
        if end_ns < self._end_ns:  # the device has started again
            self._delays.clear()
        self._end_ns = end_ns
        self._delays.append(arrived_ns - end_ns)
        middle_ns = round((start_s + end_s) / 2 * 1e9) + min(self._delays)
        t_ns = self._last_ns = max(middle_ns, self._last_ns + 1)
        if watts < -_NOISE_W:
            raise ValueError(f"{self.path} reports {watts:g} W: is the current the wrong way round?")
        return Sample(t_ns, max(0.0, watts))

    def close(self) -> None:
        """Undo what was done, whatever state the device is in."""
        while self._undo:
            with contextlib.suppress(Exception):  # of the package: the device was unplugged
                self._undo.pop()()

    def _start(self, interval_s: float) -> None:
        driver, path = self._driver, self.path
        driver.open(path)
        self._undo.append(lambda: driver.close(path))
        if _model(path) == "js110":
            driver.publish(f"{path}/s/i/range/select", "auto")
            topic = f"{path}/s/sstats/value"
        else:
            driver.publish(f"{path}/s/i/range/mode", "auto")
            driver.publish(f"{path}/s/stats/scnt", round(_SAMPLES_PER_S * interval_s))
            driver.publish(f"{path}/s/stats/ctrl", 1)
            self._undo.append(lambda: driver.publish(f"{path}/s/stats/ctrl", 0))
            topic = f"{path}/s/stats/value"
        driver.subscribe(topic, "pub", self._callback)
        self._undo.append(lambda: driver.unsubscribe(topic, self._callback))

    def _arrived(self, topic: str, value: Any) -> None:
        """Called in a thread of the package, which logs exceptions and goes on."""
        with self._new:
            self._heard = time.monotonic()
            self._values.append((time.perf_counter_ns(), value))
            self._new.notify()


def _close(opening: Future[_Device]) -> None:
    if opening.exception() is None:
        opening.result().close()


def _model(path: str) -> str:
    """The part after the backend: u/js220/001234. That of a device which waits for firmware begins with &."""
    return path.split("/")[1] if path.count("/") == 2 else ""


def _only(paths: Sequence[str], serial: str | None) -> str:
    """The path of the device. Raises `ConnectionError`."""
    found = [path for path in paths if _model(path) in _MODELS]
    chosen = [path for path in found if serial in (None, path.rsplit("/", 1)[-1])]
    if len(chosen) == 1:
        return chosen[0]
    if not found:
        raise ConnectionError(
            "no Joulescope is connected; if one is, install the udev rules of pyjoulescope_driver: see 'Ubuntu' on "
            "https://pypi.org/project/pyjoulescope_driver"
        )
    raise ConnectionError(
        f"set meter.options.serial to one of the Joulescopes that are connected: {', '.join(sorted(found))}"
    )
