"""What the benchmarks measure: a model that edlab has converted."""

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
    """A configuration, and what the first two steps of its run give."""

    config: EdlabConfig
    inputs: Inputs
    artifact: Artifact


def quiet(phase: str, fraction: float | None, message: str) -> None:
    """No progress: the table is all that is printed."""


def converted(words: list[str], cache: Cache, folder: Path) -> Converted:
    """Load and convert what these words of the command line name; `folder` keeps the logs of the conversion."""
    config = compose_config(words)
    inputs = load(config, cache, folder, quiet)
    return Converted(config, inputs, convert(config, inputs, cache, quiet))
