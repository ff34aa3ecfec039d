"""PEERS that speak the protocol of an RDTech UM meter on a pseudo-terminal: no meter is connected."""

from __future__ import annotations

import os
import select
import struct
import threading
import time
import tty
from collections.abc import Callable
from pathlib import Path

UM24C, UM25C, UM34C = 0x0963, 0x09C9, 0x0D4C
# What a UM34C's checksum covers (libsigrok, src/hardware/rdtech-um/protocol.c).
COVERED = [1, 3, 7, 9, 15, 17, 19, 23, 31, 39, 41, 45, 49, 53, 55, 57, 59, 63, 67, 69, 73, 79, 83, 89, 97, 99, 109, 111]
COVERED += [113, 119, 121, 127]


def frame(model: int, volts: int, amperes: int) -> bytes:
    """An answer, with the voltage and the current in the model's steps."""
    data = bytearray(130)
    struct.pack_into(">3H", data, 0, model, volts, amperes)
    struct.pack_into(">H", data, 10, 25)  # degrees Celsius
    if model == UM34C:
        for place in COVERED:
            data[129] ^= data[place]
    else:
        data[128:] = b"\xff\xf1"
    return bytes(data)


FRAME = frame(UM25C, 5062, 1146)  # the example of rdserialtool's README: 5.062 V, 0.1146 A, 0.580 W


class Peer:
    """A meter on a pseudo-terminal, which `path` points at: `answer` returns the pieces that it sends for a request."""

    def __init__(self, path: Path, answer: Callable[[], list[bytes]] = lambda: [FRAME]) -> None:
        self.answer = answer
        self.requests: list[bytes] = []
        self._own, self._other = os.openpty()
        tty.setraw(self._other)
        path.unlink(missing_ok=True)
        path.symlink_to(os.ttyname(self._other))
        self._stop, self._stopping = os.pipe()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        if self._thread.is_alive():
            os.write(self._stopping, b"x")
            self._thread.join()
            for number in (self._own, self._other, self._stop, self._stopping):
                os.close(number)

    def send(self, piece: bytes) -> None:
        """Send without a request, and wait until it has arrived."""
        os.write(self._own, piece)
        select.select([self._other], [], [])

    def _serve(self) -> None:
        while self._stop not in (ready := select.select([self._own, self._stop], [], [])[0]):
            assert ready
            for byte in os.read(self._own, 100):
                self.requests.append(bytes([byte]))
                for piece in self.answer():
                    os.write(self._own, piece)
                    time.sleep(0.001)
