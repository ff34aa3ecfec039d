"""A slow or dead network on loopback: passes TCP bytes on at a rate, and can stop without closing anything."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from types import TracebackType
from typing import Self

_CHUNK = 16_384


class Relay:
    """Listens on `port` and passes on to `target`, a port of this machine, at `bytes_per_s` each way."""

    def __init__(self, target: int, bytes_per_s: float = float("inf")) -> None:
        self._target = target
        self._bytes_per_s = bytes_per_s
        self._open = threading.Event()
        self._open.set()
        self._sockets: list[socket.socket] = []
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.set()
        self.cut()
        self._listener.close()

    def hold(self) -> None:
        """Pass nothing on from now, and say so to neither end."""
        self._open.clear()

    def cut(self) -> None:
        """Close every connection."""
        for end in self._sockets:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the listener was closed
            while True:
                near = self._listener.accept()[0]
                far = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += [near, far]
                for end in (near, far):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _CHUNK)
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._pass_on, args=pair, daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK):
                self._open.wait()
                sink.sendall(data)
                time.sleep(len(data) / self._bytes_per_s)
            sink.shutdown(socket.SHUT_WR)
