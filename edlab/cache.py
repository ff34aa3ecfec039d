"""A content-addressed store of folders: made once, whole or not at all, shared by parallel runs."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from filelock import FileLock

from edlab.errors import StorageError

_CHUNK = 1 << 20

# What the system says where files cannot be written, whatever edlab does.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EPERM)


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


class Cache:
    """Folders `<root>/<kind>/<key>`. A folder that exists is complete: it was renamed into place."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or default_cache_dir()

    def find(self, kind: str, key: str) -> Path | None:
        """The folder of this key, or None where it has not been made."""
        folder = self.root / kind / key
        return folder if folder.is_dir() else None

    def get_or_make(self, kind: str, key: str, make: Callable[[Path], None]) -> Path:
        """The folder of this key; `make(empty_folder)` fills it the first time, while other makers wait.

        Whatever `make` raises leaves nothing behind. A disk that cannot be written raises `StorageError`.
        """
        if (found := self.find(kind, key)) is not None:
            return found
        parent = self.root / kind
        try:
            parent.mkdir(parents=True, exist_ok=True)
            with FileLock(parent / f"{key}.lock"):
                if (found := self.find(kind, key)) is not None:
                    return found
                scratch = Path(tempfile.mkdtemp(prefix=f".{key[:16]}-", dir=parent))
                try:
                    make(scratch)
                    scratch.chmod(0o755)
                    scratch.rename(parent / key)
                finally:
                    shutil.rmtree(scratch, ignore_errors=True)
        except OSError as error:
            if error.errno in NO_ROOM:
                raise StorageError(
                    f"cannot write {error.filename or parent}: {error.strerror}",
                    hint=f"free space there, or point EDLAB_CACHE at a folder with room (now {self.root})",
                ) from error
            raise
        return parent / key
