"""Line-delimited JSON between host and agent: requests in, replies and events out, a heartbeat beside them.

    {"id": 1, "method": "open", "params": {...}}
    {"event": "progress", "id": 1, "phase": "latency", "fraction": 0.4, "message": "..."}
    {"event": "heartbeat", "pid": 4711}
    {"id": 1, "result": {...}}
    {"id": 1, "error": {"type": "...", "message": "...", "hint": "...", "traceback": "..."}}

A host that is far away sends heartbeats too, for a link can break without a word. One request at a time. Arrays travel
as paths of .npy files on the target.
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
MARK_VARIABLE = "EDLAB_AGENT"  # with it the host finds, and ends, what an agent on its machine leaves behind
_CHUNK = 1 << 16
_MOST_CHARACTERS = 20000  # of an error's text and of its traceback
_GRACE_S = 2.0  # for the method in progress to end, once the host has gone


class Channel:
    """Writes whole lines, whichever thread they come from."""

    def __init__(self, descriptor: int) -> None:
        self._file = os.fdopen(descriptor, "w", encoding="utf-8")
        self._lock = threading.Lock()
        self._sent_s = time.monotonic()

    def send(self, message: dict[str, Any]) -> None:
        """Write one message; it is on its way when this returns."""
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
    """A numpy scalar or array as Python's own."""
    return value.tolist()


def serve(load: Callable[[], object], requests: int, replies: int, host_silence_s: float | None = None) -> None:
    """Answer the requests of one file descriptor on another until the first closes; then end all that was started.

    `load` gives the object whose methods `messages.METHODS` names; heartbeats start before it, for imports take many
    seconds on a small board. Where the host
    gives not even a heartbeat for `host_silence_s` that is the end too; None: it may be silent.
    Does not return: vendor libraries crash or hang in their destructors, so the process group is killed, which takes
    the children of those libraries along.
    """
    if os.getpgrp() != os.getpid():
        os.setpgrp()
    channel = Channel(replies)
    inbox: queue.Queue[dict[str, Any] | None] = queue.Queue()
    threading.Thread(target=_read, args=(requests, inbox, host_silence_s), daemon=True).start()
    threading.Thread(target=channel.beat, daemon=True).start()
    agent = load()
    with contextlib.suppress(BrokenPipeError):  # the host went while an answer was on its way
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
        told = storage_error(error) or error
        return {
            "id": identity,
            "error": {
                "type": type(told).__name__,
                "message": _text(told),
                "hint": getattr(told, "hint", ""),
                "traceback": traceback.format_exc()[-_MOST_CHARACTERS:],
            },
        }


def _call(
    agent: object, method: messages.Method[Any, Any], params: dict[str, Any], progress: messages.OnProgress
) -> Any:
    return messages.encode(getattr(agent, method.name)(progress, messages.decode(method.request, params)))


def _text(error: BaseException) -> str:
    """What an error says, not its ten megabytes of it; some cannot even say that."""
    try:
        return str(error)[:_MOST_CHARACTERS]
    except Exception:
        return type(error).__name__


def _read(descriptor: int, inbox: queue.Queue[dict[str, Any] | None], silence_s: float | None) -> None:
    """Pass requests on; when the host has gone give the method in progress a moment, then end the process.

    What is no request is the end too: without this thread no one would notice the host's.
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
    """The lines that come, until the stream ends or nothing comes for `silence_s`.

    The system counts the silence, not this process: native code may hold Python's lock for longer than that.
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
