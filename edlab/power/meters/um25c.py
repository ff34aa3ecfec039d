"""RDTech UM24C, UM25C and UM34C: USB meters with a serial port over Bluetooth (`rfcomm bind`, `/dev/rfcomm0`).

Sources: the driver `rdtech-um` of libsigrok (src/hardware/rdtech-um/protocol.c), rdserialtool
(github.com/rfinnie/rdserialtool, rdserial/um) and sigrok.org/wiki/RDTech_UM_series. The byte 0xF0 requests 130 bytes,
big-endian: the model at 0, the voltage at 2 and the current at 4 (2 bytes each), whose scales the model decides. A
UM24C and a UM25C end with 0xFFF1, a UM34C with the exclusive or of some of the bytes. 9600 baud.

The meter updates twice a second, and a UM25C is accurate to 0.05 % + 2 digits in voltage and 0.1 % + 4 digits in
current (the vendor's data, as github.com/davatorium/um25c-client quotes them). Over which time it averages is not
documented: `lag_s` assumes the entire half second before an update. Not tried on hardware.
"""

from __future__ import annotations

import errno
import functools
import operator
import os
import select
import struct
import termios
import time
from io import FileIO
from typing import NamedTuple

from edlab.agent.sensors.base import Sample, Sensor
from edlab.power import options

_REQUEST = b"\xf0"
_LENGTH = 130
_ANSWER_S = 0.9
_MOST_SILENCES = 10  # in a row, after which the port is opened again
_LAG_S = 1.0

# The bytes that the checksum of a UM34C covers.
_COVERED = (
    *(1, 3, 7, 9, 15, 17, 19, 23, 31, 39, 41, 45, 49, 53, 55, 57),
    *(59, 63, 67, 69, 73, 79, 83, 89, 97, 99, 109, 111, 113, 119, 121, 127),
)


class _Model(NamedTuple):
    name: str
    volts: float  # one step
    amperes: float  # one step
    accuracy: float | None  # of the power, as a fraction


_MODELS = {
    0x0963: _Model("UM24C", 1e-2, 1e-3, None),
    0x09C9: _Model("UM25C", 1e-3, 1e-4, 0.0005 + 0.001),
    0x0D4C: _Model("UM34C", 1e-2, 1e-3, None),
}


class Um25c(Sensor):
    """The power through the meter. `resolution_w` and `accuracy` are set by a reading: they depend on the model."""

    def __init__(self, *, port: str, boundary: str = "usb") -> None:
        """`port` is the device file. Raises `ConfigError`."""
        self._path = options.text("port", port)
        super().__init__(f"um25c {self._path}", "um25c", options.boundary(boundary), _LAG_S)
        self._port: FileIO | None = None
        self._silences = 0

    def read(self) -> Sample:
        """See `Sensor.read`."""
        deadline = time.monotonic() + _ANSWER_S
        port = self._open()
        try:
            termios.tcflush(port, termios.TCIFLUSH)  # an answer that came too late for the last reading
            before_ns = time.perf_counter_ns()
            port.write(_REQUEST)
            frame = _frame(port, deadline)
            t_ns = (before_ns + time.perf_counter_ns()) // 2
        except TimeoutError:
            # Closing the port would end the Bluetooth connection, which takes seconds to come up.
            self._silences += 1
            if self._silences >= _MOST_SILENCES:
                self.close()
            raise
        except (OSError, termios.error) as error:
            if not (isinstance(error, OSError) and error.errno == errno.ENOTCONN):
                self.close()
            raise OSError(f"{self._path} cannot be read: {error}") from error
        self._silences = 0
        return Sample(t_ns, self._watts(frame))

    def close(self) -> None:
        """See `Sensor.close`."""
        port, self._port, self._silences = self._port, None, 0
        if port is not None:
            port.close()

    def _open(self) -> FileIO:
        if self._port is None:
            # Without O_NONBLOCK, an rfcomm device waits for the connection for many seconds.
            flags = os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK
            try:
                port = FileIO(self._path, "r+", opener=lambda path, _: os.open(path, flags))
            except FileNotFoundError as error:
                how = "pair the meter, then: sudo rfcomm bind 0 ADDRESS"
                raise FileNotFoundError(f"the serial device {self._path} does not exist: {how}") from error
            except PermissionError as error:
                raise PermissionError(
                    f"{self._path} cannot be opened: sudo usermod -aG dialout $USER, then log in again"
                ) from error
            try:
                _set_raw(port)
            except termios.error as error:
                port.close()
                raise OSError(f"{self._path} is not a serial port: {error.args[-1]}") from error
            self._port = port
        return self._port

    def _watts(self, frame: bytes) -> float:
        number, volts, amperes = struct.unpack_from(">3H", frame)
        model = _MODELS[number]
        self.accuracy = model.accuracy
        self.resolution_w = model.amperes * volts * model.volts  # a step of the voltage changes much less
        return float(volts * model.volts * amperes * model.amperes)


def _set_raw(port: FileIO) -> None:
    """9600 baud, 8 data bits, no parity, one stop bit, no flow control, no translation."""
    attributes = termios.tcgetattr(port)
    attributes[0] = attributes[1] = attributes[3] = 0
    attributes[2] = termios.CS8 | termios.CREAD | termios.CLOCAL
    attributes[4] = attributes[5] = termios.B9600
    attributes[6][termios.VMIN], attributes[6][termios.VTIME] = 1, 0  # with 0, no data would look like a closed port
    termios.tcsetattr(port, termios.TCSANOW, attributes)


def _frame(port: FileIO, deadline: float) -> bytes:
    """The first valid answer, whatever comes before it. Raises `OSError` if the port is closed, and `TimeoutError`."""
    poll = select.poll()
    poll.register(port, select.POLLIN)
    window, count = b"", 0
    while True:
        left_s = deadline - time.monotonic()
        if left_s <= 0 or not poll.poll(left_s * 1000):
            raise TimeoutError(f"the meter sent {count} bytes, not an answer of {_LENGTH}: is it on, and connected?")
        received = port.read(4096)
        if received == b"":
            raise OSError("the other end closed the port")
        count += len(received or b"")
        window += received or b""
        for start in range(len(window) - _LENGTH + 1):
            if _is_valid(window[start : start + _LENGTH]):
                return window[start : start + _LENGTH]
        window = window[-(_LENGTH - 1) :]


def _is_valid(frame: bytes) -> bool:
    model = _MODELS.get(int.from_bytes(frame[:2], "big"))
    if model is None:
        return False
    if model.name == "UM34C":
        return frame[-1] == functools.reduce(operator.xor, (frame[place] for place in _COVERED))
    return frame[-2:] == b"\xff\xf1"
