"""Files on a board by the SHA-256 of their content, so that each is sent once; and scratch folders for one run.

<workdir>/files/<key>/<name>        complete: checked by `accept`, and flushed to the disk; marked by `_CHECKED_NS`
<workdir>/files/<key>.part/<name>   being sent, perhaps since a link broke
<workdir>/scratch/<random>/         files for the host to fetch, locked while their agent runs
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
# The modification time of checked files: a write changes it, and the file is checked again. Every file system can store
# it.
_CHECKED_NS = 1_000_000_000 * 10**9


class Store:
    """The files of one work directory, as the agent of one run uses them."""

    def __init__(self, workdir: str) -> None:
        self._files = os.path.join(workdir, "files")
        self._scratches = os.path.join(workdir, "scratch")
        self._scratch: str | None = None
        self._in_use: set[str] = set()

    def use(self, key: str) -> None:
        """Keep these files, complete or being sent, while this agent runs; after it they are the last to be removed."""
        self._in_use.add(key)
        for folder in (self._folder(key), self._folder(key) + _PART):
            if os.path.isdir(folder):
                os.utime(folder)

    def expect(
        self, key: str, sizes: dict[str, int], digests: dict[str, str], limit_bytes: float, checking: Callable[[], None]
    ) -> Expected:
        """Either the `folder` that contains these files, or the `part` to send them to, with the bytes `present` of
        each.

        `sizes` are in bytes, by name, and `digests` SHA-256 (hex); `checking` is as in `accept`. The least recently
        used files are removed if the store would exceed `limit_bytes`, or the disk is full. Raises `AgentError` if this
        run alone needs more, `StorageError` if the disk is still full.
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
        """Check and complete the files that were sent: their `folder`, or the names of `damaged` files (SHA-256, hex),
        which are removed.

        Once it returns the folder, a power cut of the board loses none of it. `checking` is called from time to time.
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
            fcntl.flock(everyone, fcntl.LOCK_EX)  # a new folder must not look like a dead agent's
            for entry in os.scandir(self._scratches):
                dead = _lock(entry.path)
                if dead is not None:
                    shutil.rmtree(entry.path, ignore_errors=True)
                    os.close(dead)
            self._scratch = tempfile.mkdtemp(dir=self._scratches)
            _lock(self._scratch)  # the descriptor stays open while this process runs
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
    """The names of the files with another SHA-256; correct files are marked, and not read again."""
    damaged = []
    for name, wanted in digests.items():
        path = os.path.join(folder, name)
        if os.stat(path).st_mtime_ns == _CHECKED_NS:
            continue
        if _sha256(path, checking) == wanted:
            _sync(path)  # before the mark, which means that the content is on the disk
            os.utime(path, ns=(_CHECKED_NS, _CHECKED_NS))
        else:
            damaged.append(name)
    return damaged


def _sync(path: str) -> None:
    """Flush this file, or the names in this folder, to the disk."""
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
    """The descriptor that locks a folder until it is closed or this process ends; None if another process has it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
