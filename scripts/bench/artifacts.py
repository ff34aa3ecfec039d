"""The subject of the benchmarks: a model that edlab has converted."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from edlab.artifact import Artifact
from edlab.cache import Cache
from edlab.composition import compose_config
from edlab.config import EdlabConfig
from edlab.stages.convert import convert
from edlab.stages.load import Inputs, load


class Converted(NamedTuple):
    """A configuration, and the results of the first two stages of its run."""

    config: EdlabConfig
    inputs: Inputs
    artifact: Artifact


def quiet(phase: str, fraction: float | None, message: str) -> None:
    """No progress: only the table is printed."""


def converted(words: list[str], cache: Cache, folder: Path) -> Converted:
    """Load and convert the model of these overrides; `folder` stores the logs of the conversion."""
    config = compose_config(words)
    inputs = load(config, cache, folder, quiet)
    return Converted(config, inputs, convert(config, inputs, cache, quiet))
