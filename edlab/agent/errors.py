"""The agent's own errors, which reach the host with a fix."""

from __future__ import annotations

import errno

# Errors of a full or read-only disk, and the fix for each. The host reads this list too.
DISK_FIXES = {
    errno.ENOSPC: "free space there",
    errno.EDQUOT: "free space there",
    errno.EROFS: "make it writable",
}


class AgentError(Exception):
    """What failed (`message`) and how to fix it (`hint`)."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class StorageError(AgentError):
    """A file that cannot be written to the target's disk."""

    def __init__(self, path: str, error: OSError) -> None:
        super().__init__(
            "cannot write %s: %s" % (path, error.strerror or error),
            hint="free space on the target's disk, or make this folder writable",
        )


class BusyError(AgentError):
    """Another run holds the machine."""


class FixedBatchError(AgentError):
    """The model supports only its own batch."""


def takes_no_more(error: BaseException) -> bool:
    """Whether this error means that a disk is full or read-only."""
    return isinstance(error, OSError) and error.errno in DISK_FIXES


def storage_error(error: Exception) -> StorageError | None:
    """The `StorageError` for an error that means that a disk is full or read-only; else None."""
    if takes_no_more(error):
        assert isinstance(error, OSError)
        return StorageError(error.filename or "to the target's disk", error)
    return None
