"""The layers of the float32 file that an artifact was made from: names, cost, and the modules they belong to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from edlab.artifact import Artifact
from edlab.cache import Cache, digest, sha256_files
from edlab.errors import EdlabError
from edlab.isolation import run_isolated
from edlab.metrics.profile import SourceLayer, with_modules
from edlab.models.complexity.layers import FORMATS
from edlab.source import Layout, SourceModel, input_shape

_VERSION = 1  # raise it when `read_layers` returns something else
_FILE = "layers.json"


class _Form(NamedTuple):
    """A file between the source and the artifact."""

    format: str
    precision: str
    layout: Layout
    path: Path


def source_layers(artifact: Artifact, source: SourceModel, cache: Cache) -> list[SourceLayer]:
    """The layers of the last float32 file before the artifact whose layers can be read; empty if there is none.

    The names in it are those that the converters keep. Of an exported torch program, its modules are known too.
    """
    forms = [
        _Form(source.format, source.precision, source.layout, source.path),
        *(_Form(step.format, step.precision, step.layout, step.files[0]) for step in artifact.steps),
    ]
    readable = [form for form in forms if form.format in FORMATS and form.precision in ("fp32", source.precision)]
    if not readable:
        return []
    layers = _layers(readable[-1], source, cache)
    return with_modules(layers, _layers(readable[0], source, cache)) if readable[0].format == "pt2" else layers


def _layers(form: _Form, source: SourceModel, cache: Cache) -> list[SourceLayer]:
    """The layers of one file; empty if they cannot be read, as if an operator is unknown."""

    def make(folder: Path) -> None:
        shape = input_shape(source.preprocessing, form.layout)
        arguments = {"path": str(form.path), "format": form.format, "shape": shape}
        try:
            layers = run_isolated("edlab.models.complexity.layers:read_layers", arguments, log=folder / "layers.log")
        except EdlabError:  # only the explanation of the run needs them
            layers = []
        (folder / _FILE).write_text(json.dumps(layers))

    folder = cache.get_or_make("layers", digest([sha256_files([form.path]), form.format, _VERSION]), make)
    return [SourceLayer(**fields) for fields in json.loads((folder / _FILE).read_text())]
