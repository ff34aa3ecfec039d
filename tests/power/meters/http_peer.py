"""A PEER that answers HTTP requests in place of a plug."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit


class Request(NamedTuple):
    path: str  # without the query
    query: dict[str, str]
    target: str  # with the query
    authorization: str


class Reply(NamedTuple):
    body: str | bytes
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    length: int | None = None  # claimed, if it is not that of the body


class HttpPeer:
    """Serves `answer(request)` on `host` until `close`; `open` serves on the same port again."""

    def __init__(self, answer: Callable[[Request], Reply]) -> None:
        self.answer = answer
        self.requests: list[Request] = []
        self._port = 0
        self.open()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._port}"

    def open(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), self._handler())
        self._port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        peer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
                request = Request(parts.path, query, self.path, self.headers.get("Authorization", ""))
                peer.requests.append(request)
                reply = peer.answer(request)
                body = reply.body.encode() if isinstance(reply.body, str) else reply.body
                self.send_response(reply.status)
                for name, value in reply.headers:
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body) if reply.length is None else reply.length))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler


class SilentPeer:
    """Accepts connections, and never answers; `drip` sends a byte of an endless answer now and then instead."""

    def __init__(self, drip: bytes = b"") -> None:
        self._drip = drip
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._stop = threading.Event()
        self._connections: list[socket.socket] = []
        self.host = f"127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._stop.set()
        self._socket.close()
        for connection in self._connections:
            connection.close()

    def _serve(self) -> None:
        try:
            while True:
                connection, _ = self._socket.accept()
                self._connections.append(connection)
                threading.Thread(target=self._bore, args=(connection,), daemon=True).start()
        except OSError:  # closed
            pass

    def _bore(self, connection: socket.socket) -> None:
        try:
            while self._drip and not self._stop.wait(0.05):
                connection.sendall(self._drip)
        except OSError:  # closed
            pass
