"""The agent's own errors, which reach the host with their mend."""

from __future__ import annotations

import errno

_DISK_TAKES_NO_MORE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


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
            hint="free space on the target's disk, or make that folder writable",
        )


class FixedBatchError(AgentError):
    """The model takes no batch but its own."""


def storage_error(error: Exception) -> StorageError | None:
    """The error that says so, where this one means that a disk takes no more; else None."""
    if isinstance(error, OSError) and error.errno in _DISK_TAKES_NO_MORE:
        return StorageError(error.filename or "to the target's disk", error)
    return None
