"""One run at a time on a device: a lock that a process holds until it ends, however it ends.

The lock's file is at a place that is the same for all users of the machine, so that no run of another work directory,
cache or user runs at the same time.
"""

from __future__ import annotations

import datetime
import fcntl
import json
import os
import stat
import time
from typing import Callable

from .errors import AgentError, BusyError

FOLDER_VARIABLE = "EDLAB_LOCK_DIR"  # sets another folder
_SYSTEM_FOLDER, _OTHER_FOLDER = "/run/lock", "/tmp"
_POLL_S = 0.5


def acquire(name: str, holder: str, pid: int, timeout_s: float, waiting: Callable[[str], None]) -> int:
    """The file descriptor that holds this machine's lock `name` (flock(2)) until it is closed or the process ends.

    The file states who holds it: `holder` (user@host), its `pid`, and since when by this machine's clock. `waiting` is
    called repeatedly with that text while another process holds it. Raises `BusyError` after `timeout_s`, and
    `AgentError` if the file cannot be used.
    """
    path = os.path.join(_folder(), "edlab-%s.lock" % name)
    try:
        descriptor = _open(path)
    except OSError as error:
        raise AgentError(
            "cannot open the lock %s: %s" % (path, error.strerror),
            hint="remove that file, or set another folder on the target with device.env.%s" % FOLDER_VARIABLE,
        ) from error
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            other = _holder(descriptor)
        if time.monotonic() >= deadline:
            os.close(descriptor)
            waited = "; waited %g s" % timeout_s if timeout_s else ""
            raise BusyError(
                "the machine is in use by %s%s" % (other, waited),
                hint="stop that run, or raise device.lock_timeout (seconds)",
            )
        waiting("waiting for " + other)
        time.sleep(_POLL_S)
    since = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps({"holder": holder, "pid": pid, "since": since}).encode(), 0)
    return descriptor


def _folder() -> str:
    """The folder is the same for every user, even for one with more permissions."""
    folder = os.environ.get(FOLDER_VARIABLE)
    if folder:
        return folder
    for_all = os.path.isdir(_SYSTEM_FOLDER) and os.stat(_SYSTEM_FOLDER).st_mode & stat.S_IWOTH
    return _SYSTEM_FOLDER if for_all else _OTHER_FOLDER


def _open(path: str) -> int:
    """Open the file for reading and writing; create it for all users if it is missing.

    O_CREAT only if it is missing: for another user's file in a sticky folder the system may refuse that flag
    (Linux, admin-guide/sysctl/fs.rst, protected_regular).
    """
    flags = os.O_RDWR | os.O_NOFOLLOW
    while True:
        try:
            return os.open(path, flags)
        except FileNotFoundError:
            pass
        mask = os.umask(0)  # not chmod afterwards: another user may open it before
        try:
            return os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            continue  # another process has just created it
        finally:
            os.umask(mask)


def _holder(descriptor: int) -> str:
    """Who holds the lock, as text."""
    try:
        holder = json.loads(os.pread(descriptor, 4096, 0).decode())
        return "%s (pid %d) since %s" % (holder["holder"], holder["pid"], holder["since"])
    except (ValueError, KeyError, TypeError):  # it has just taken the lock
        return "another run"
