"""What a run has made beside its record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class DatasetInfo:
    """The images that a run was scored on."""

    name: str
    digest: str  # of the images and labels
    source: str  # a folder, an address, or the name of a package's data set
    profile: Mapping[str, Any] = field(default_factory=dict)  # counts and the like


@dataclass(frozen=True)
class Files:
    """Whatever a run did not get to is missing or None."""

    converted: tuple[Path, ...] = ()  # the file that ran, and those that lie beside it
    named: Mapping[str, Path] = field(
        default_factory=dict
    )  # the single files, by the name that MLflow keeps them under
    dataset: DatasetInfo | None = None
