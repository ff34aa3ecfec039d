"""Files that are on the disk once they are renamed: a power cut leaves the old content or the new, never half."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edlab.agent.errors import DISK_FIXES
from edlab.errors import StorageError

# Errors of a full, protected or failing disk, and how to fix each.
_FIXES = {
    **DISK_FIXES,
    errno.EACCES: "make it writable",
    errno.EPERM: "make it writable",
    errno.EIO: "check that disk",
}


def storage_error(error: BaseException, place: Path | str, alternative: str = "") -> StorageError | None:
    """The `StorageError` for a full, protected or failing disk; None for any other error.

    `place` is named if the system does not state which file failed; `alternative` is another fix. If a file was being
    copied, the copy has no space.
    """
    if not isinstance(error, OSError) or error.errno not in _FIXES:
        return None
    action = "read or write" if error.errno == errno.EIO else "write"
    hint = ", or ".join(filter(None, (_FIXES[error.errno], alternative)))
    return StorageError(f"cannot {action} {error.filename2 or error.filename or place}: {error.strerror}", hint=hint)


@contextmanager
def writing(place: Path | str, alternative: str = "") -> Iterator[None]:
    """Raise `StorageError` if the block fails because of a full, protected or failing disk: see `storage_error`."""
    try:
        yield
    except OSError as error:
        if explained := storage_error(error, place, alternative):
            raise explained from error
        raise


def write_text(path: Path, text: str) -> None:
    """Write a file, completely or not at all."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        with open(scratch, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        rename(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


def rename(source: Path, target: Path) -> None:
    """Rename a file or a folder, and flush the new name to the disk."""
    source.replace(target)
    sync(target.parent)


def sync(path: Path) -> None:
    """Flush a file's content, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Flush all files of a folder, and then the folder itself."""
    for path in [*folder.rglob("*"), folder]:
        if path.is_file() or path.is_dir():
            sync(path)
