"""A TCP connection over which an instrument exchanges lines of text. No step of it waits longer than its deadline."""

from __future__ import annotations

import contextlib
import socket
import time
from urllib.parse import urlsplit

from edlab.power.network import unreachable
from edlab.power.within import within

_SEND_S = 0.5
_MOST_BYTES = 100_000  # of one line


class LineConnection:
    """A connection to `address`, "host" or "host:port". Deadlines are of time.monotonic."""

    def __init__(self, address: str, default_port: int, deadline: float) -> None:
        """Connect. Raises `OSError`; `TimeoutError` after `deadline`."""
        parts = urlsplit(f"//{address}")
        self.address = address
        self._socket = _connect(parts.hostname or "", parts.port or default_port, deadline)
        self._received = b""

    def send(self, line: str) -> None:
        """Send a line; its end is added. Raises `OSError`."""
        self._socket.settimeout(_SEND_S)
        self._socket.sendall(line.encode() + b"\n")

    def receive(self, deadline: float) -> str | None:
        """The next line without its end; None if it is not complete before `deadline`.

        Raises `OSError` if the instrument closed the connection, or sends bytes without end.
        """
        while b"\n" not in self._received:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return None
            self._socket.settimeout(left_s)
            try:
                self._take(self._socket.recv(65536))
            except TimeoutError:
                return None
            if len(self._received) > _MOST_BYTES and b"\n" not in self._received:
                raise OSError(f"{self.address} sent {len(self._received)} bytes without the end of a line")
        line, _, self._received = self._received.partition(b"\n")
        return line.decode(errors="replace").strip()

    def discard(self) -> None:
        """Drop what has arrived, such as an answer that came too late. Raises `OSError`."""
        self._socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                self._take(self._socket.recv(65536))
                self._received = b""
        self._received = b""

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _take(self, received: bytes) -> None:
        if not received:
            raise ConnectionError(f"{self.address} closed the connection")
        self._received += received


def _connect(host: str, port: int, deadline: float) -> socket.socket:
    def connect(left_s: float) -> socket.socket:
        try:
            return socket.create_connection((host, port), timeout=left_s)
        except OSError as error:
            raise unreachable(f"{host}:{port}", error) from error

    return within(deadline, str(unreachable(f"{host}:{port}", "no answer in time")), connect)
