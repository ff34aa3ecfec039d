"""The file with the predictions of a run, so that accuracies are compared image by image."""

from __future__ import annotations

import functools
import hashlib
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edlab.errors import StorageError
from edlab.record import RunRecord

FILE = "predictions.npz"  # in the run's folder, and in MLflow

#: Of a run: which of the scored images have the right class, (N,) bool; None if that is not recorded.
Right = Callable[[RunRecord], NDArray[np.bool_] | None]


def unknown(record: RunRecord) -> None:
    """The `Right` that knows no run."""


def below(folder: Path) -> Right:
    """The `Right` of the runs of a sweep, from the files in their folders below this one."""

    @functools.cache
    def files() -> dict[str, Path]:
        return {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in folder.glob(f"*/{FILE}")}

    @functools.cache  # the best run is compared with every other one
    def right(digest: str) -> NDArray[np.bool_] | None:
        return read(files()[digest], digest) if digest in files() else None

    return lambda record: right(digest_of(record))


def digest_of(record: RunRecord) -> str:
    """The SHA-256 of a run's file; empty if it has none."""
    return record.tags.get("predictions_sha256", "")


def read(path: Path, digest: str) -> NDArray[np.bool_]:
    """Which of the scored images have the right class, (N,).

    Raises `StorageError` if the file is not the one with this SHA-256, or cannot be read.
    """
    try:
        if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            raise StorageError(f"{FILE} was changed: its SHA-256 is not that of the run")
        with np.load(path) as arrays:
            return np.asarray(arrays["right"], bool)
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise StorageError(f"cannot read {FILE}: {error}") from error
