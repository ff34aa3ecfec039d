"""Folders for work in progress. The kernel unlocks them when their process ends, so leftovers are known."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

_PREFIX = "edlab-run-"


@contextmanager
def locked_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """A new folder in `parent`, removed at the end unless the block has renamed it.

    `remove_abandoned` leaves it alone while this process lives.
    """
    folder, descriptor = _create(parent, prefix)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def remove_abandoned(parent: Path, prefix: str) -> None:
    """Remove the folders of `locked_folder` that no process has locked. Folders that cannot be removed stay."""
    for folder in parent.glob(f"{prefix}*"):
        with suppress(OSError):  # it belongs to another user, or is in use
            descriptor = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)


def discard(folder: Path) -> None:
    """Remove a folder: atomically for other processes, and also on a full disk."""
    gone = folder.with_name(f".{folder.name[:16]}-{secrets.token_hex(4)}")
    folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


@contextmanager
def temporary_folder() -> Iterator[None]:
    """Put every temporary file of this process and its children into one folder, which is removed at the end.

    A vendor's tool that is killed leaves gigabytes in TMPDIR; the next command removes them. On a full disk this does
    nothing: code that needs a file reports the error itself.
    """
    before, root = os.environ.get("TMPDIR"), Path(tempfile.gettempdir())
    remove_abandoned(root, _PREFIX)
    with ExitStack() as ending:
        with suppress(OSError):
            folder = ending.enter_context(locked_folder(root, _PREFIX))
            tempfile.tempdir = os.environ["TMPDIR"] = str(folder)
        try:
            yield
        finally:
            tempfile.tempdir = None
            os.environ.pop("TMPDIR", None)
            if before is not None:
                os.environ["TMPDIR"] = before


def _create(parent: Path, prefix: str) -> tuple[Path, int]:
    """Create a folder and the descriptor that locks it."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        try:
            descriptor = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:  # another process removed it before it was locked
            continue
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if folder.exists():
            return folder, descriptor
        os.close(descriptor)
