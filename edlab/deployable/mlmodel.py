"""MLmodel: the converted model as MLflow loads it (flavour python_function, by `edlab.deployable.pyfunc`).

It is written directly: MLflow's `save_model` starts processes to find out what the model needs.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

NAME = "MLmodel"
_FOLDER = "converted"  # in the run's artifacts
_EXAMPLE = "input_example.json"
_LOADER = "edlab.deployable.pyfunc"
_MOST_VALUES = 1_500_000  # of an input example, which is text: 640 x 640 x 3


def write(folder: Path, manifest: Mapping[str, Any]) -> list[Path]:
    """Write MLmodel and an input example for a model with this edlab.json; return the files."""
    from mlflow.models import Model, ModelSignature

    given, result = manifest["batch"]["input"], manifest["batch"]["output"]
    files = [folder / NAME]
    model = Model(
        artifact_path=_FOLDER,
        run_id=manifest["run"]["id"] or None,
        signature=ModelSignature(_schema(given), _schema(result) if result["shape"] else None),
        metadata={"edlab": {key: manifest[key] for key in ("task", "format", "precision")}},
    )
    if np.prod(given["shape"]) <= _MOST_VALUES:
        files.append(folder / _EXAMPLE)
        files[-1].write_text(_example(given))
        model.saved_input_example_info = {"artifact_path": _EXAMPLE, "type": "ndarray"}
    model.add_flavor("python_function", loader_module=_LOADER, python_version=platform.python_version())
    model.save(str(folder / NAME))
    return files


def _schema(array: Mapping[str, Any]) -> Any:
    from mlflow.types import Schema, TensorSpec

    return Schema([TensorSpec(np.dtype(array["dtype"]), (-1, *array["shape"]))])


def _example(array: Mapping[str, Any]) -> str:
    """A batch of one as JSON: all values in the middle of their range. It shows the form, and is no user's image."""
    text = "128" if array["dtype"] == "uint8" else "0.5"
    for length in (*reversed(array["shape"]), 1):
        text = f"[{','.join([text] * length)}]"
    return text
