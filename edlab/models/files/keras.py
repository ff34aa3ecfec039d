"""Keras files (.keras)."""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from edlab.config import ModelConfig
from edlab.errors import ModelError
from edlab.models.complexity import count_keras
from edlab.models.files import keras_stated
from edlab.models.files.base import ModelFile, damaged, read_input, some
from edlab.models.keras_models import require_keras
from edlab.models.outputs import choose_outputs, shapes_of
from edlab.packages import install

_UNKNOWN = re.compile(r"Could not locate (?:class|function) '([^']+)'")
_OWN_MODULES = ("keras", "builtins")


def read(config: ModelConfig, path: Path, copy: Path) -> ModelFile:
    """See `load_file`. The copy is unchanged, unless an output was chosen."""
    keras = require_keras()
    try:
        network = keras.models.load_model(path, compile=False)
    except (ValueError, OSError, TypeError, KeyError, AttributeError, ImportError, zipfile.BadZipFile) as error:
        raise _explain(path, error) from error
    if len(getattr(network, "inputs", None) or ()) != 1:
        raise ModelError(
            f"{path.name} does not have one input tensor", hint="save a functional or sequential model with one input"
        )
    source = read_input(config, path, list(network.inputs[0].shape), keras_stated.stated(network))
    outputs = outputs_of(network)
    chosen = choose_outputs(config, path.name, shapes_of(outputs), source.size)
    if chosen.all:
        shutil.copyfile(path, copy)
    else:
        network = with_outputs(network, chosen.positions)
        network.save(copy)
    return ModelFile(
        format="keras",
        path=copy,
        layout=source.layout,
        precision=_precision(network),
        outputs=chosen.read(source.size),
        preprocessing=source.preprocessing,
        preprocessing_origins=source.origins,
        preprocessing_note=source.note,
        complexity=count_keras(network, source.shape),
        reasons=keras_stated.reasons(network),
    )


def with_outputs(network: Any, positions: Sequence[int]) -> Any:
    """The network with a selection of the tensors of `outputs_of`."""
    tensors = [outputs_of(network)[position][1] for position in positions]
    return require_keras().Model(network.inputs, tensors if len(tensors) > 1 else tensors[0])


def outputs_of(network: Any) -> list[tuple[str, Any]]:
    """The outputs of a functional model with their names: the keys of a dictionary, else the layers'."""
    functional = getattr(network, "_functional", None) or network  # a sequential model has one inside
    structure = getattr(functional, "_outputs_struct", None)
    if isinstance(structure, dict):
        return [(str(key), tensor) for key, tensor in structure.items()]
    return list(zip(functional.output_names, functional.outputs, strict=True))


def _precision(network: Any) -> str:
    """Of the stored weights; `Model.quantize("int8")` of Keras quantizes activations at run time."""
    types = {str(weight.dtype) for weight in network.weights}
    if "int8" in types:
        return "int8_dynamic"
    return "fp16" if "float16" in types else "fp32"


def _explain(path: Path, error: Exception) -> ModelError:
    """The error for what an intact file needs and Keras does not have; "damaged" if there is nothing of that kind."""
    layers = list(_layers(path))
    if lambdas := [name for kind, _, name in layers if kind == "Lambda"]:
        return ModelError(
            f"{path.name} has a Lambda layer ({some(lambdas)}), whose Python code Keras does not load from a file",
            hint="rebuild it as a layer of Keras, or build the model in Python: model=python",
        )
    custom = [f"{kind} '{name}'" for kind, module, name in layers if not module.startswith(_OWN_MODULES)]
    if custom or (unknown := _UNKNOWN.search(str(error))):
        what = some(custom) if custom else unknown[1]  # type: ignore[index]
        return ModelError(
            f"{path.name} has classes that are not part of Keras: {what}",
            hint="rebuild them from Keras' own layers, or build the model in Python: model=python "
            "model.target=package.module:factory",
        )
    if newer := _newer(path):
        return ModelError(newer, hint=f"{install(['keras'], '-U')}, or save the model with this version")
    return damaged(path, "Keras", error)


def _layers(path: Path) -> Iterator[tuple[str, str, str]]:
    """Class, module and name of every object that the file's configuration describes."""
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))
    except (zipfile.BadZipFile, KeyError, ValueError, OSError):
        return
    yield from _objects(config)


def _objects(value: Any) -> Iterator[tuple[str, str, str]]:
    if isinstance(value, dict):
        inner = value.get("config")
        if "class_name" in value and isinstance(inner, dict) and "registered_name" in value:
            yield str(value["class_name"]), str(value.get("module") or ""), str(inner.get("name", value["class_name"]))
        for item in value.values():
            yield from _objects(item)
    elif isinstance(value, list):
        for item in value:
            yield from _objects(item)


def _newer(path: Path) -> str:
    """Why a file of a newer Keras may be unreadable here; "" if it is not from a newer version."""
    import keras

    try:
        with zipfile.ZipFile(path) as archive:
            version = str(json.loads(archive.read("metadata.json"))["keras_version"])
    except (zipfile.BadZipFile, KeyError, ValueError, OSError):
        return ""
    saved, installed = ([int(part) for part in re.findall(r"\d+", text)] for text in (version, keras.__version__))
    newer = saved > installed
    return f"{path.name} was saved by Keras {version}, and {keras.__version__} is installed" if newer else ""
