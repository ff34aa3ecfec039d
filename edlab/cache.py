"""A content-addressed store of folders: created once, completely or not at all, and checked when they are read."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from edlab import checksums, durable, scratch
from edlab.errors import StorageError

_CHUNK = 1 << 20
_USE_FILE = ".in-use.lock"
_IN_USE_S = 6 * 3600  # entries read this recently may be in use by a run: they are not evicted


def sha256_files(paths: Iterable[Path]) -> str:
    """The hex SHA-256 over the contents of the files, in the order given."""
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()


def digest(value: Any) -> str:
    """The hex SHA-256 of a JSON-serialisable value, independent of key order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def default_cache_dir() -> Path:
    """`$EDLAB_CACHE`, else `edlab` in the user's cache folder (XDG base directory specification)."""
    if explicit := os.environ.get("EDLAB_CACHE"):
        return Path(explicit).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "edlab"


@dataclass(frozen=True)
class Entry:
    """A folder of the cache."""

    kind: str
    key: str
    folder: Path
    size_bytes: int
    used_at: float  # seconds since the epoch


class Cache:
    """Folders `<root>/<kind>/<key>`. Each was complete when it was created; checksums show whether it still is."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or default_cache_dir()
        self.dropped: list[str] = []  # damaged entries and the reasons; they are rebuilt

    def find(self, kind: str, key: str) -> Path | None:
        """The folder of this key, or None if it does not exist. A damaged one is removed."""
        folder = self.root / kind / key
        if not folder.is_dir():
            return None
        if damage := checksums.find_damage(folder):
            with contextlib.suppress(OSError), self._lock(kind, key):  # in a read-only cache it stays
                self._drop(folder, damage)
            return None
        with contextlib.suppress(OSError):
            os.utime(folder / checksums.FILE)
        return folder

    def get_or_make(self, kind: str, key: str, make: Callable[[Path], None]) -> Path:
        """The folder of this key; `make(empty_folder)` fills it the first time, while other processes wait.

        If `make` raises an error, nothing is left behind. A disk that cannot be written to raises `StorageError`.
        """
        if (found := self.find(kind, key)) is not None:
            return found
        parent = self.root / kind
        with self._making(kind, key):
            if (parent / key).is_dir():  # made by another while this one waited
                return parent / key
            prefix = f".{key[:16]}-"
            scratch.remove_abandoned(parent, prefix)
            with scratch.locked_folder(parent, prefix) as folder:
                make(folder)
                checksums.write(folder)
                folder.chmod(0o755)
                durable.rename(folder, parent / key)
        return parent / key

    def find_in_place(self, kind: str, key: str) -> Path | None:
        """The folder that `get_or_make_in_place` created for this key, or None."""
        listed = self.root / kind / key / checksums.FILE
        if not listed.exists():
            return None
        with contextlib.suppress(OSError):
            os.utime(listed)
        return listed.parent

    def get_or_make_in_place(self, kind: str, key: str, make: Callable[[Path], None]) -> Path:
        """`get_or_make` for a folder that cannot be moved because its files contain its path; they are not checked."""
        if (found := self.find_in_place(kind, key)) is not None:
            return found
        folder = self.root / kind / key
        with self._making(kind, key):
            if (found := self.find_in_place(kind, key)) is not None:  # made by another while this one waited
                return found
            shutil.rmtree(folder, ignore_errors=True)  # left by a process that was killed
            folder.mkdir()
            try:
                make(folder)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
            checksums.write_unchecked(folder)
        return folder

    @contextlib.contextmanager
    def _making(self, kind: str, key: str) -> Iterator[None]:
        """Lock this key, in an existing folder of its kind; explain a disk that cannot be written to."""
        parent = self.root / kind
        with durable.writing(parent, f"set EDLAB_CACHE to a folder on a disk with free space (now {self.root})"):
            parent.mkdir(parents=True, exist_ok=True)
            with self._lock(kind, key):
                yield

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Prevent `clear` from removing what the block reads. Any number of processes can do so at the same time."""
        with contextlib.ExitStack() as ending:
            with contextlib.suppress(OSError):  # a read-only cache cannot be cleared either
                ending.enter_context(self._use(fcntl.LOCK_SH))
            yield

    def clear(self) -> list[Entry]:
        """Remove all entries, and return them. Raises `StorageError` while a run is using the cache."""
        try:
            with self._use(fcntl.LOCK_EX | fcntl.LOCK_NB):
                return [entry for entry in self.entries() if self.remove(entry)]
        except BlockingIOError as error:
            raise StorageError(f"a run is using {self.root}", hint="try again after that run") from error

    @contextlib.contextmanager
    def _use(self, how: int) -> Iterator[None]:
        self.root.mkdir(parents=True, exist_ok=True)
        with open(self.root / _USE_FILE, "ab") as file:
            fcntl.flock(file, how)
            yield

    def entries(self) -> Iterator[Entry]:
        """All entries."""
        for listed in sorted(self.root.glob(f"*/*/{checksums.FILE}")):
            folder = listed.parent
            with contextlib.suppress(FileNotFoundError):  # removed in the meantime
                size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
                yield Entry(folder.parent.name, folder.name, folder, size, listed.stat().st_mtime)

    def verify(self) -> Iterator[tuple[Entry, str]]:
        """Each entry, and its damage (empty: none)."""
        for entry in self.entries():
            yield entry, checksums.find_damage(entry.folder)

    def remove(self, entry: Entry) -> bool:
        """Remove an entry, unless another process is creating it; return whether it was removed."""
        try:
            with self._lock(entry.kind, entry.key, timeout_s=0):
                scratch.discard(entry.folder)
        except (Timeout, OSError):
            return False
        return True

    def tidy(self, max_gb: float | None = None) -> None:
        """Remove the leftovers of killed processes, and above `max_gb` the least recently used entries."""
        for kind in self.root.glob("*/"):
            scratch.remove_abandoned(kind, ".")
        if max_gb is None:
            return
        entries = sorted(self.entries(), key=lambda entry: entry.used_at)
        excess = sum(entry.size_bytes for entry in entries) - max_gb * 1e9
        for entry in entries:
            if excess <= 0 or time.time() - entry.used_at < _IN_USE_S:
                break
            if self.remove(entry):
                excess -= entry.size_bytes

    def _lock(self, kind: str, key: str, timeout_s: float = -1) -> FileLock:
        return FileLock(self.root / kind / f"{key}.lock", timeout=timeout_s)

    def _drop(self, folder: Path, damage: str) -> None:
        """Remove a damaged entry, unless another process has rebuilt it in the meantime."""
        if folder.is_dir() and checksums.find_damage(folder):
            scratch.discard(folder)
            self.dropped.append(f"{folder.parent.name}/{folder.name[:16]}: {damage}")
