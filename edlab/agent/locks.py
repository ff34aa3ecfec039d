"""One run at a time on a device: a lock that its process holds until it ends, however it ends."""

from __future__ import annotations

import datetime
import fcntl
import json
import os
import time
from typing import Callable

from .errors import AgentError

_POLL_S = 0.5


def acquire(path: str, holder: str, pid: int, timeout_s: float, waiting: Callable[[str], None]) -> int:
    """The file descriptor that holds the lock `path`, flock(2), until it is closed or the process ends.

    The file says who holds it: `holder` (user@host) and `pid`, the one that a person would look for, and since when
    by this machine's clock. `waiting` is called with that again and again while another has it. Raises `AgentError`
    after `timeout_s`.
    """
    os.makedirs(os.path.dirname(path), exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            other = _holder(descriptor)
        if time.monotonic() >= deadline:
            os.close(descriptor)
            raise AgentError(
                "waited %g s for %s" % (timeout_s, other),
                hint="end that run, or wait longer with device.lock_timeout (seconds)",
            )
        waiting("waiting for " + other)
        time.sleep(_POLL_S)
    since = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps({"holder": holder, "pid": pid, "since": since}).encode(), 0)
    return descriptor


def _holder(descriptor: int) -> str:
    """Who has the lock, in words."""
    try:
        told = json.loads(os.pread(descriptor, 4096, 0).decode())
        return "%s (pid %d) since %s" % (told["holder"], told["pid"], told["since"])
    except (ValueError, KeyError, TypeError):  # it took the lock this instant
        return "another run"
