"""Line-delimited JSON between host and agent: requests in, replies and events out, a heartbeat beside them.

    {"id": 1, "method": "open", "params": {...}}
    {"event": "progress", "id": 1, "phase": "latency", "fraction": 0.4, "message": "..."}
    {"event": "heartbeat"}
    {"id": 1, "result": {...}}
    {"id": 1, "error": {"type": "...", "message": "...", "hint": "...", "traceback": "..."}}

One request at a time. Arrays travel as paths of .npy files on the target.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import threading
import time
import traceback
from typing import Any, Callable, Dict, Optional

from .errors import storage_error

Progress = Callable[[str, Optional[float], str], None]  # (phase, fraction 0..1 or None where unknown, message)
Method = Callable[..., Dict[str, Any]]  # (progress, **params) -> result

HEARTBEAT_S = 2.0
_GRACE_S = 2.0  # for the method in progress to end, once the host has gone


class _Channel:
    """Writes whole lines, whichever thread they come from."""

    def __init__(self, descriptor: int) -> None:
        self._file = os.fdopen(descriptor, "w", encoding="utf-8")
        self._lock = threading.Lock()

    def send(self, message: dict[str, Any]) -> None:
        line = json.dumps(message, default=_plain)
        with self._lock:
            self._file.write(line + "\n")
            self._file.flush()


def _plain(value: Any) -> Any:
    """A numpy scalar or array as Python's own."""
    return value.tolist()


def serve(methods: dict[str, Method], requests: int, replies: int) -> None:
    """Answer the requests of one file descriptor on another until the first closes; then end all that was started.

    Does not return: vendor libraries crash or hang in their destructors, so the process group is killed, which takes
    the children of those libraries along.
    """
    if os.getpgrp() != os.getpid():
        os.setpgrp()
    channel = _Channel(replies)
    inbox: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=_read, args=(requests, inbox), daemon=True).start()
    threading.Thread(target=_beat, args=(channel,), daemon=True).start()
    with contextlib.suppress(BrokenPipeError):  # the host went while an answer was on its way
        for line in iter(inbox.get, None):
            channel.send(_answer(methods, json.loads(line), channel))
        methods["close"](lambda phase, fraction, message: None)
    _end_group()


def _answer(methods: dict[str, Method], request: dict[str, Any], channel: _Channel) -> dict[str, Any]:
    identity = request["id"]

    def progress(phase: str, fraction: float | None, message: str) -> None:
        channel.send({"event": "progress", "id": identity, "phase": phase, "fraction": fraction, "message": message})

    try:
        if request["method"] not in methods:
            raise ValueError(
                "the agent has no method '%s'; it has %s" % (request["method"], ", ".join(sorted(methods)))
            )
        return {"id": identity, "result": methods[request["method"]](progress, **request.get("params", {}))}
    except Exception as error:
        told = storage_error(error) or error
        return {
            "id": identity,
            "error": {
                "type": type(told).__name__,
                "message": str(told),
                "hint": getattr(told, "hint", ""),
                "traceback": traceback.format_exc(),
            },
        }


def _read(descriptor: int, inbox: queue.Queue[str | None]) -> None:
    """Pass lines on; at the end of the stream give the method in progress a moment, then end the process."""
    with os.fdopen(descriptor, encoding="utf-8") as lines:
        for line in lines:
            inbox.put(line)
    inbox.put(None)
    time.sleep(_GRACE_S)
    _end_group()


def _beat(channel: _Channel) -> None:
    while True:
        channel.send({"event": "heartbeat"})
        time.sleep(HEARTBEAT_S)


def _end_group() -> None:
    os.killpg(os.getpgrp(), signal.SIGKILL)
