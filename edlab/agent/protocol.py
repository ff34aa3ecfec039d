"""Line-delimited JSON between host and agent: requests in, replies, events and heartbeats out.

    {"id": 1, "method": "open", "params": {...}}
    {"event": "progress", "id": 1, "phase": "latency", "fraction": 0.4, "message": "..."}
    {"event": "heartbeat", "pid": 4711}
    {"id": 1, "result": {...}}
    {"id": 1, "error": {"type": "...", "message": "...", "hint": "...", "traceback": "..."}}

A remote host sends heartbeats too, because a link can break silently. One request at a time. Arrays are sent as paths
of .npy files on the target.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import select
import signal
import threading
import time
import traceback
from typing import Any, Callable, Iterator, NoReturn

from . import messages
from .errors import storage_error

HEARTBEAT_S = 2.0
MARK_VARIABLE = "EDLAB_AGENT"  # with it the host finds, and ends, processes that an agent on its machine leaves behind
_CHUNK = 1 << 16
_MOST_CHARACTERS = 20000  # for the text of an error and for its traceback
_GRACE_S = 2.0  # for the method in progress to end, once the host is gone


class Channel:
    """Writes whole lines, from any thread."""

    def __init__(self, descriptor: int) -> None:
        self._file = os.fdopen(descriptor, "w", encoding="utf-8")
        self._lock = threading.Lock()
        self._sent_s = time.monotonic()

    def send(self, message: dict[str, Any]) -> None:
        """Write one message; it has been sent when this returns."""
        line = json.dumps(message, default=_plain)
        with self._lock:
            self._file.write(line + "\n")
            self._file.flush()
            self._sent_s = time.monotonic()

    def beat(self) -> NoReturn:
        """Send a heartbeat now, and whenever nothing else was sent for `HEARTBEAT_S`: any message is a sign of life."""
        while True:
            self.send({"event": "heartbeat", "pid": os.getpid()})
            while True:
                rest_s = self._sent_s + HEARTBEAT_S - time.monotonic()
                if rest_s <= 0:
                    break
                time.sleep(rest_s)


def _plain(value: Any) -> Any:
    """A numpy scalar or array as Python's own type."""
    return value.tolist()


def serve(load: Callable[[], object], requests: int, replies: int, host_silence_s: float | None = None) -> None:
    """Answer the requests of one file descriptor on another until the first closes; then end everything that was
    started.

    `load` returns the object with the methods of `messages.METHODS`; heartbeats start before it, because imports take
    many seconds on a small board. If the host sends nothing, not even a heartbeat, for `host_silence_s`, the agent ends
    too; None: the host may be silent. Does not return: vendor libraries crash or hang in their destructors, so the
    process group is killed, including the children of those libraries.
    """
    if os.getpgrp() != os.getpid():
        os.setpgrp()
    channel = Channel(replies)
    inbox: queue.Queue[dict[str, Any] | None] = queue.Queue()
    threading.Thread(target=_read, args=(requests, inbox, host_silence_s), daemon=True).start()
    threading.Thread(target=channel.beat, daemon=True).start()
    agent = load()
    with contextlib.suppress(BrokenPipeError):  # the host ended while an answer was being sent
        for request in iter(inbox.get, None):
            channel.send(_answer(agent, request, channel))
        _call(agent, messages.CLOSE, {}, lambda fraction, message: None)
    _end_group()


def _answer(agent: object, request: dict[str, Any], channel: Channel) -> dict[str, Any]:
    identity = request["id"]

    def progress(fraction: float | None, message: str) -> None:
        channel.send({"event": "progress", "id": identity, "fraction": fraction, "message": message})

    try:
        method = messages.METHODS.get(request["method"])
        if method is None:
            known = ", ".join(sorted(messages.METHODS))
            raise ValueError("the agent has no method '%s'; it has %s" % (request["method"], known))
        return {"id": identity, "result": _call(agent, method, request["params"], progress)}
    except Exception as error:
        reported = storage_error(error) or error
        return {
            "id": identity,
            "error": {
                "type": type(reported).__name__,
                "message": _text(reported),
                "hint": getattr(reported, "hint", ""),
                "traceback": traceback.format_exc()[-_MOST_CHARACTERS:],
            },
        }


def _call(
    agent: object, method: messages.Method[Any, Any], params: dict[str, Any], progress: messages.OnProgress
) -> Any:
    return messages.encode(getattr(agent, method.name)(progress, messages.decode(method.request, params)))


def _text(error: BaseException) -> str:
    """The text of an error, without megabytes of it; some errors cannot even be converted to text."""
    try:
        return str(error)[:_MOST_CHARACTERS]
    except Exception:
        return type(error).__name__


def _read(descriptor: int, inbox: queue.Queue[dict[str, Any] | None], silence_s: float | None) -> None:
    """Forward requests; when the host is gone, give the method in progress a moment, then end the process.

    An invalid request is the end too: without this thread no one would notice the end of the host.
    """
    try:
        for line in _lines(descriptor, silence_s):
            message = json.loads(line)
            if message.get("event") != "heartbeat":
                inbox.put(message)
    except Exception:
        traceback.print_exc()
    inbox.put(None)
    time.sleep(_GRACE_S)
    _end_group()


def _lines(descriptor: int, silence_s: float | None) -> Iterator[bytes]:
    """The lines of the stream, until it ends or is silent for `silence_s`.

    The system measures the silence, not this process: native code may hold Python's lock for longer than that.
    """
    rest = b""
    while select.select([descriptor], [], [], silence_s)[0]:
        chunk = os.read(descriptor, _CHUNK)
        if not chunk:
            return
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines


def _end_group() -> None:
    os.killpg(os.getpgrp(), signal.SIGKILL)
