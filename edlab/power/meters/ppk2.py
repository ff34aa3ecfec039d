"""Nordic Semiconductor's Power Profiler Kit II, through the package ppk2-api.

Nordic publishes no Python package; ppk2-api is IRNAS's (github.com/IRNAS/ppk2-api-python, GPL 2). Sources: its README,
example.py and src/ppk2_api/ppk2_api.py, version 0.9.2. The kit measures current, 100,000 times a second, 4 bytes each;
the package calculates microamperes with the kit's calibration. Nordic's application (pc-nrfconnect-ppk,
src/device/serialDevice.ts) shows that bits 18 to 23 of each measurement are a counter: by it, lost bytes are noticed,
which the package does not check.

The power is the current times `voltage_mv`: the kit does not measure the voltage, and the package needs it for its
calculation in both modes. What opening it does to the target's supply, in the order of example.py:

    source    set_source_voltage, use_source_meter, toggle_DUT_power("ON"): the kit supplies the target
    ampere    use_ampere_meter, set_source_voltage, toggle_DUT_power("ON"): another supply's current passes through

Nothing switches the supply off: closing the meter only stops the measurement. Nordic's documentation of the application
states that the output is on by default in the ampere mode.

Not tried on hardware. No accuracy or resolution is set: they depend on the range of the current.
"""

from __future__ import annotations

import contextlib
import math
import time
from typing import Any

import numpy as np

from edlab.agent.sensors.base import Sample, Sensor
from edlab.errors import ConfigError
from edlab.power import options

_MODES = ("source", "ampere")
_LEAST_MV, _MOST_MV = 800, 5000  # the package silently limits the voltage to these
_PERIOD_NS = 10_000  # of a measurement
_SIZE = 4
_WINDOW = 5000  # measurements in a mean: 50 ms
_LAG_S = 0.1  # the mean, and the way through the port
_WAIT_S = 0.9
_RETRY_S = 0.9  # from a failure to the next attempt
_WRITE_S = 0.2
_PAUSE_S = 0.001  # between two requests for data, as in the README
_QUIET_S = 0.05  # after "stop", until the last data has arrived
_GAP_S = 0.2  # without a request for data, after which measurements may be lost
_SILENCE_S = 1.0  # without data, after which the port is opened again
_MOST_LOST = 0.01  # of the measurements in a window
_NOISE_W = 1e-3  # below zero, without a load


class Ppk2(Sensor):
    """The mean power over 50 ms, at the middle of them. The first reading opens the port, and returns None."""

    paced = False

    def __init__(self, *, port: str, mode: str, voltage_mv: int, boundary: str = "board_dc") -> None:
        """`port` is the device file; `mode` is "source" or "ampere"; `voltage_mv` is the target's voltage.

        Raises `ConfigError`, and `MissingDependencyError` without the package.
        """
        self._path = options.text("port", port)
        if mode not in _MODES:
            raise ConfigError(
                f"the meter option mode is {mode!r}",
                hint="set meter.options.mode=source if the kit supplies the target, or ampere if another supply does",
            )
        self._mode = mode
        self._millivolts = options.integer("voltage_mv", voltage_mv, least=_LEAST_MV)
        if self._millivolts > _MOST_MV:
            raise ConfigError(
                f"the meter option voltage_mv is {voltage_mv!r}",
                hint=f"set meter.options.voltage_mv to {_MOST_MV} or less",
            )
        super().__init__(f"ppk2 {self._path}", "ppk2", options.boundary(boundary), _LAG_S)
        self.late_s = 0.5
        self._package = options.package("the meter ppk2", "ppk2_api.ppk2_api", "ppk2-api>=0.9.2")
        self._kit: Any = None
        self._failed_at = -math.inf
        self._last_ns = 0

    def read(self) -> Sample | None:
        """See `Sensor.read`: the next 50 ms. None: they are not complete yet."""
        deadline = time.monotonic() + _WAIT_S
        try:
            if self._kit is None:
                # The next reading follows at once.
                if (pause_s := self._failed_at + _RETRY_S - time.monotonic()) > 0:
                    time.sleep(pause_s)
                    deadline += pause_s
                self._open_kit(deadline)
                return None
            if time.monotonic() - self._asked > _GAP_S:
                self._restart()
            return self._window(deadline)
        except ValueError:
            raise
        except Exception as error:  # of the package, or of pyserial, whose errors are OSError
            self._failed_at = time.monotonic()
            self.close()
            if isinstance(error, TimeoutError):
                raise
            raise OSError(
                f"{self._path} cannot be read: {error}; `ls /dev/serial/by-id` shows the ports of a kit"
            ) from error

    def close(self) -> None:
        """Stop the measurement, and close the port. The target's supply stays as it is."""
        kit, self._kit = self._kit, None
        if kit is not None:
            with contextlib.suppress(Exception):  # it was unplugged
                kit.stop_measuring()
            with contextlib.suppress(Exception):
                kit.ser.close()

    def _open_kit(self, deadline: float) -> None:
        self._kit = kit = self._package.PPK2_API(self._path, timeout=1, write_timeout=_WRITE_S, exclusive=True)
        self._stop()  # the calibration is text, which must not follow the data of a measurement
        try:
            calibrated = kit.get_modifiers()
        except ValueError:  # of decoding it
            calibrated = None
        if not calibrated:
            raise OSError("it did not send its calibration, as a Power Profiler Kit II does")
        if self._mode == "source":
            kit.set_source_voltage(self._millivolts)
            kit.use_source_meter()
        else:
            kit.use_ampere_meter()
            kit.set_source_voltage(self._millivolts)
        kit.toggle_DUT_power("ON")
        if time.monotonic() > deadline:  # the package logs errors of writing, and goes on
            raise TimeoutError(f"{self._path} does not accept commands: is another program using the kit?")
        self._start()

    def _stop(self) -> None:
        """Stop measuring, and discard what the kit has sent."""
        assert self._kit
        self._kit.stop_measuring()
        time.sleep(_QUIET_S)
        end = time.monotonic() + _QUIET_S
        while self._kit.get_data() and time.monotonic() < end:
            pass

    def _start(self) -> None:
        assert self._kit
        self._kit.start_measuring()
        self._rest = b""  # the beginning of a measurement: the package is given whole ones, so that it keeps no rest
        self._asked = self._heard = time.monotonic()
        self._clear()

    def _restart(self) -> None:
        self._stop()
        self._start()

    def _clear(self) -> None:
        self._count, self._microamperes, self._lost = 0, 0.0, 0
        self._counter: int | None = None

    def _window(self, deadline: float) -> Sample | None:
        assert self._kit
        while self._count < _WINDOW:
            self._asked = time.monotonic()
            data = self._kit.get_data()
            t_ns = time.perf_counter_ns()
            if data:
                self._heard = self._asked
                self._add(data)
            elif self._asked - self._heard > _SILENCE_S:
                raise TimeoutError(f"{self._path} sent nothing for {_SILENCE_S:g} s: is the kit connected?")
            elif self._asked > deadline:
                return None
            else:
                time.sleep(_PAUSE_S)
        count, lost = self._count, self._lost
        watts = self._microamperes / count * 1e-6 * self._millivolts * 1e-3
        self._clear()
        if lost > _MOST_LOST * count:
            self._restart()
            raise ValueError(f"{self._path}: measurements were lost, {lost} gaps in {count}: is this machine too busy?")
        if not math.isfinite(watts) or watts < -_NOISE_W:
            raise ValueError(f"{self._path} reports {watts:g} W: is the current the wrong way round?")
        self._last_ns = max(t_ns - count * _PERIOD_NS // 2, self._last_ns + 1)
        return Sample(self._last_ns, max(0.0, watts))

    def _add(self, data: bytes) -> None:
        data = self._rest + data
        whole = len(data) - len(data) % _SIZE
        data, self._rest = data[:whole], data[whole:]
        if not data:
            return
        counters = np.frombuffer(data, "<u4") >> 18 & 63
        before = counters[:1] - 1 if self._counter is None else np.array([self._counter], np.uint32)
        self._lost += int(np.count_nonzero((np.diff(counters, prepend=before.astype(np.uint32)) & 63) != 1))
        self._counter = int(counters[-1])
        microamperes, _ = self._kit.get_samples(data)
        self._count += len(microamperes)
        self._microamperes += sum(microamperes)
