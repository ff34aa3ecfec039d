"""A PEER that exchanges lines over TCP in place of an instrument."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable

Answer = Callable[[str], str | bytes | None]


class LinePeer:
    """Answers each line with `answer(line)`: text, to which the end of a line is added, bytes as they are, or nothing.

    It serves on `host` until `close`, which drops its connections; `open` serves on the same port again.
    """

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.lines: list[str] = []  # that were received
        self._port = 0
        self.open()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._port}"

    def open(self) -> None:
        self._server = socket.create_server(("127.0.0.1", self._port))
        self._port = self._server.getsockname()[1]
        self._connections: list[socket.socket] = []
        threading.Thread(target=self._serve, args=(self._server, self._connections), daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)  # which ends the accept of another thread
        self._server.close()
        self.drop()

    def drop(self) -> None:
        """End the connections, and serve on."""
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def push(self, data: bytes) -> None:
        """Send bytes that answer nothing."""
        self._connections[-1].sendall(data)

    def _serve(self, server: socket.socket, connections: list[socket.socket]) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                connection, _ = server.accept()
                connections.append(connection)
                threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection, connection.makefile("rb") as received:
            for line in received:
                text = line.decode().strip()
                self.lines.append(text)
                answer = self.answer(text)
                if answer is not None:
                    connection.sendall(answer.encode() + b"\r\n" if isinstance(answer, str) else answer)
