"""The agent's own errors, which reach the host with what to do."""

from __future__ import annotations

import errno

# Errors of a disk that takes no more, and what to do about each. The host reads this list too.
DISK_FIXES = {
    errno.ENOSPC: "free space there",
    errno.EDQUOT: "free space there",
    errno.EROFS: "make it writable",
}


class AgentError(Exception):
    """What failed (`message`) and what to do (`hint`)."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class StorageError(AgentError):
    """A file that the target's disk does not take."""

    def __init__(self, path: str, error: OSError) -> None:
        super().__init__(
            "cannot write %s: %s" % (path, error.strerror or error),
            hint="free space on the target's disk, or make this folder writable",
        )


class FixedBatchError(AgentError):
    """The model takes no batch but its own."""


def takes_no_more(error: BaseException) -> bool:
    """Whether this error means that a disk is full or read-only."""
    return isinstance(error, OSError) and error.errno in DISK_FIXES


def storage_error(error: Exception) -> StorageError | None:
    """The error that says so, where this one means that a disk takes no more; else None."""
    if takes_no_more(error):
        assert isinstance(error, OSError)
        return StorageError(error.filename or "to the target's disk", error)
    return None
