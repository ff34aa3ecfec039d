"""Which runs are still being made. `kill -9` leaves a run RUNNING for ever; a lock that it held tells so.

Each run in progress holds a lock that the kernel drops when its process ends, however it ends. A process id alone
would not do: it is used again, and means nothing in another container or after a restart.
"""

from __future__ import annotations

import os
import platform
import secrets
import uuid
from collections.abc import Mapping
from pathlib import Path

from filelock import FileLock, Timeout


class Alive:
    """The sign of life of one run: `tags` to put on it, and a lock that is held until `end`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{secrets.token_hex(8)}.lock"
        self._path = folder / name
        self._lock = FileLock(self._path, thread_local=False)
        self._lock.acquire()
        self.tags = {
            "edlab.host": platform.node(),
            "edlab.machine": _machine_id(),
            "edlab.boot_id": _boot_id(),
            "edlab.pid": str(os.getpid()),
            "edlab.lock": name,
        }

    def end(self) -> None:
        """Let go of the lock and remove it."""
        self._path.unlink(missing_ok=True)
        self._lock.release()

    def let_go(self) -> None:
        """Let go of the lock and leave its file: the run so tagged is dead from now on."""
        self._lock.release()


def remove_lock(tags: Mapping[str, str], folder: Path) -> None:
    """Remove the lock of a run of this machine that has been let go of, once the run so tagged has ended in MLflow."""
    if tags.get("edlab.machine") == _machine_id() and (name := tags.get("edlab.lock")):
        (folder / name).unlink(missing_ok=True)


def is_dead(tags: Mapping[str, str], folder: Path) -> bool:
    """Whether the run so tagged has lost its process; False where that cannot be told: on another machine.

    Its lock is absent where another folder was used for it: only a restart since then proves such a run dead.
    """
    if tags.get("edlab.machine") != _machine_id():
        return False
    if tags.get("edlab.boot_id") != _boot_id():
        return True
    path = folder / tags.get("edlab.lock", "")
    if not path.is_file():
        return False
    try:
        with FileLock(path, timeout=0):
            return True
    except Timeout:
        return False


def _machine_id() -> str:
    """What tells apart machines of one name: machine-id(5), else the address of the network interface."""
    path = Path("/etc/machine-id")
    identity = path.read_text().strip() if path.is_file() else ""
    return identity or f"{uuid.getnode():012x}"


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
