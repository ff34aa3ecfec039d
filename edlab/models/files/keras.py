"""Keras files (.keras)."""

from __future__ import annotations

import shutil
from pathlib import Path

from edlab.config import ModelConfig
from edlab.models.complexity import count_keras
from edlab.models.files.base import ModelFile, classes_of, damaged, read_input
from edlab.models.keras_models import require_keras


def read(config: ModelConfig, path: Path, copy: Path) -> ModelFile:
    keras = require_keras()
    try:
        network = keras.models.load_model(path, compile=False)
    except (ValueError, OSError, TypeError, KeyError) as error:
        raise damaged(path, "Keras", error) from error
    source = read_input(config, path, list(network.input_shape))
    shutil.copyfile(path, copy)
    return ModelFile(
        format="keras",
        path=copy,
        layout=source.layout,
        precision="fp32",
        num_classes=classes_of(path.name, list(network.output_shape)),
        preprocessing=source.preprocessing,
        preprocessing_note=source.note,
        complexity=count_keras(network, source.shape),
    )
