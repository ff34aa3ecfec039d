"""The files of a run besides its record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RESULT = "result.json"  # the record of a run, in its folder and in its artifacts
CONVERTED = "converted"  # the folder in a run's artifacts with the file that ran


@dataclass(frozen=True)
class DatasetInfo:
    """The images on which a run was scored."""

    name: str
    digest: str  # of the images and labels
    source: str  # a folder, an address, or the name of a package's data set
    profile: Mapping[str, Any] = field(default_factory=dict)  # such as counts


@dataclass(frozen=True)
class Files:
    """Files that a run did not reach are missing or None."""

    converted: tuple[Path, ...] = ()  # the file that ran, and the files next to it
    named: Mapping[str, Path] = field(default_factory=dict)  # the single files, by their name in MLflow
    dataset: DatasetInfo | None = None
