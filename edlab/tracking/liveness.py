"""Which runs are still in progress. `kill -9` leaves a run RUNNING for ever; its lock shows that it is dead.

Each run in progress holds a lock that the kernel releases when its process ends, however it ends. A process id alone is
not enough: it is reused, and has no meaning in another container or after a restart.
"""

from __future__ import annotations

import os
import platform
import secrets
import uuid
from collections.abc import Mapping
from pathlib import Path

from filelock import FileLock, Timeout

HIDDEN = "mlflow.edlab."  # MLflow's pages show no tag that begins with mlflow.
_SHOWN = "edlab."  # older versions wrote the same names as visible tags


class Alive:
    """The sign of life of one run: its `tags`, and a lock that is held until `end`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{secrets.token_hex(8)}.lock"
        self._path = folder / name
        self._lock = FileLock(self._path, thread_local=False)
        self._lock.acquire()
        self.tags = {
            "edlab.host": platform.node(),
            f"{HIDDEN}machine": _machine_id(),
            f"{HIDDEN}boot_id": _boot_id(),
            f"{HIDDEN}pid": str(os.getpid()),
            f"{HIDDEN}lock": name,
        }

    def end(self) -> None:
        """Release the lock and remove it."""
        self._path.unlink(missing_ok=True)
        self._lock.release()

    def let_go(self) -> None:
        """Release the lock and leave its file: the run with these tags is dead from now on."""
        self._lock.release()


def hidden(tags: Mapping[str, str], name: str) -> str | None:
    """The value of an internal tag of a run, also of a run of an older version; None if it has none."""
    return tags.get(HIDDEN + name, tags.get(_SHOWN + name))


def remove_lock(tags: Mapping[str, str], folder: Path) -> None:
    """Remove the released lock of a run of this machine, once the run with these tags has ended in MLflow."""
    if hidden(tags, "machine") == _machine_id() and (name := hidden(tags, "lock")):
        (folder / name).unlink(missing_ok=True)


def is_dead(tags: Mapping[str, str], folder: Path) -> bool:
    """Whether the process of the run with these tags is gone; False if that is unknown: on another machine.

    Its lock is missing if it is in another folder: then only a restart since then proves that the run is dead.
    """
    if hidden(tags, "machine") != _machine_id():
        return False
    if hidden(tags, "boot_id") != _boot_id():
        return True
    path = folder / (hidden(tags, "lock") or "")
    if not path.is_file():
        return False
    try:
        with FileLock(path, timeout=0):
            return True
    except Timeout:
        return False


def _machine_id() -> str:
    """The id of this machine, since names are not unique: machine-id(5), else the address of the network interface."""
    path = Path("/etc/machine-id")
    identity = path.read_text().strip() if path.is_file() else ""
    return identity or f"{uuid.getnode():012x}"


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
