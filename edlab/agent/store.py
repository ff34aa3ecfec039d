"""Files on a board under the SHA-256 of what they hold, so that each travels once; and scratch that ends with a run.

<workdir>/files/<key>/<name>        complete: what `accept` has checked, and the disk has; `_CHECKED_NS` says so
<workdir>/files/<key>.part/<name>   on its way, perhaps since a link broke
<workdir>/scratch/<random>/         what an agent writes for the host to fetch, locked while that agent lives
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
from typing import Callable

from .errors import AgentError, StorageError
from .messages import Accepted, Expected

_CHUNK = 1 << 20
_CHUNKS_A_REPORT = 256
_PART = ".part"
# The time of change that a checked file is given: whoever writes to it changes that, and it is checked again. It is one
# that every file system can hold.
_CHECKED_NS = 1_000_000_000 * 10**9


class Store:
    """The files of one work directory, as the agent of one run uses them."""

    def __init__(self, workdir: str) -> None:
        self._files = os.path.join(workdir, "files")
        self._scratches = os.path.join(workdir, "scratch")
        self._scratch: str | None = None
        self._in_use: set[str] = set()

    def use(self, key: str) -> None:
        """Keep these files, whole or on their way, as long as this agent lives; they are the latest to go after it."""
        self._in_use.add(key)
        for folder in (self._folder(key), self._folder(key) + _PART):
            if os.path.isdir(folder):
                os.utime(folder)

    def expect(
        self, key: str, sizes: dict[str, int], digests: dict[str, str], limit_bytes: float, checking: Callable[[], None]
    ) -> Expected:
        """Either the `folder` that holds these files, or the `part` to send them to, with the bytes `present` of each.

        `sizes` are in bytes, by name, and `digests` SHA-256 (hex); `checking` is as for `accept`. The files that were
        not used for longest are removed where the store would pass `limit_bytes`, or the disk has no room. Raises
        `AgentError` where this run alone needs more, `StorageError` where the disk is full nevertheless.
        """
        folder = self._folder(key)
        if self._sizes(folder) == sizes and not _damaged(folder, digests, checking):
            self.use(key)
            return Expected(folder=folder)
        shutil.rmtree(folder, ignore_errors=True)
        part = folder + _PART
        os.makedirs(part, exist_ok=True)
        self.use(key)
        present = {}
        for name, size in sizes.items():
            present[name] = self._sizes(part).get(name, 0)
            if present[name] > size:
                os.remove(os.path.join(part, name))
                present[name] = 0
        self._make_room(part, sum(sizes.values()) - sum(present.values()), limit_bytes)
        return Expected(part=part, present=present)

    def accept(self, key: str, digests: dict[str, str], checking: Callable[[], None]) -> Accepted:
        """Make whole what was sent: its `folder`, or the names that arrived `damaged` (SHA-256, hex) and are removed.

        Once it gives the folder a board that loses its power loses none of it. `checking` is called now and then
        meanwhile.
        """
        folder, part = self._folder(key), self._folder(key) + _PART
        damaged = _damaged(part, digests, checking)
        for name in damaged:
            os.remove(os.path.join(part, name))
        if damaged:
            return Accepted(damaged=damaged)
        _sync(part)
        os.rename(part, folder)
        _sync(self._files)
        return Accepted(folder=folder)

    def scratch(self) -> str:
        """This agent's own scratch folder; those of agents that were killed are removed."""
        if self._scratch is None:
            os.makedirs(self._scratches, exist_ok=True)
            everyone = os.open(self._scratches, os.O_RDONLY)
            fcntl.flock(everyone, fcntl.LOCK_EX)  # a folder that is new is not to be taken for a dead agent's
            for entry in os.scandir(self._scratches):
                dead = _lock(entry.path)
                if dead is not None:
                    shutil.rmtree(entry.path, ignore_errors=True)
                    os.close(dead)
            self._scratch = tempfile.mkdtemp(dir=self._scratches)
            _lock(self._scratch)  # the descriptor stays open as long as this process
            os.close(everyone)
        return self._scratch

    def close(self) -> None:
        """Remove the scratch folder."""
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def _folder(self, key: str) -> str:
        return os.path.join(self._files, key)

    def _sizes(self, folder: str) -> dict[str, int]:
        if not os.path.isdir(folder):
            return {}
        with os.scandir(folder) as entries:
            return {entry.name: entry.stat().st_size for entry in entries}

    def _make_room(self, part: str, needed: int, limit_bytes: float) -> None:
        folders = [entry.path for entry in os.scandir(self._files)]
        held = {folder: sum(self._sizes(folder).values()) for folder in folders}
        oldest_first = sorted(folders, key=lambda folder: os.stat(folder).st_mtime)
        removable = [folder for folder in oldest_first if self._key(folder) not in self._in_use]
        for folder in removable:
            if sum(held.values()) + needed <= limit_bytes and needed <= shutil.disk_usage(part).free:
                return
            shutil.rmtree(folder, ignore_errors=True)
            del held[folder]
        if sum(held.values()) + needed > limit_bytes:
            raise AgentError(
                "the files of this run need %.2f GB on the target, more than device.workdir_limit_gb=%g"
                % ((sum(held.values()) + needed) / 1e9, limit_bytes / 1e9),
                hint="raise device.workdir_limit_gb, or use fewer images with dataset.images",
            )
        free = shutil.disk_usage(part).free
        if needed > free:
            shortage = "%.1f MB are needed, %.1f MB are free" % (needed / 1e6, free / 1e6)
            raise StorageError(part, OSError(errno.ENOSPC, shortage))

    def _key(self, folder: str) -> str:
        name = os.path.basename(folder)
        return name[: -len(_PART)] if name.endswith(_PART) else name


def _damaged(folder: str, digests: dict[str, str], checking: Callable[[], None]) -> list[str]:
    """The names of the files there that have not this SHA-256; those that have it are marked, and not read again."""
    damaged = []
    for name, wanted in digests.items():
        path = os.path.join(folder, name)
        if os.stat(path).st_mtime_ns == _CHECKED_NS:
            continue
        if _sha256(path, checking) == wanted:
            _sync(path)  # before the mark: it says that the disk has what was read
            os.utime(path, ns=(_CHECKED_NS, _CHECKED_NS))
        else:
            damaged.append(name)
    return damaged


def _sync(path: str) -> None:
    """Return once the disk has this file, or the names in this folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha256(path: str, checking: Callable[[], None]) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for count, chunk in enumerate(iter(lambda: file.read(_CHUNK), b""), 1):
            digest.update(chunk)
            if count % _CHUNKS_A_REPORT == 0:
                checking()
    return digest.hexdigest()


def _lock(folder: str) -> int | None:
    """The descriptor that locks a folder until it is closed or this process ends; None where another has it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
