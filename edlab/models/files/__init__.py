"""Model files that enter as they are: ONNX, TFLite, Keras and PyTorch's exported programs. One reader each."""

from __future__ import annotations

from pathlib import Path

from edlab.config import ModelConfig
from edlab.errors import ModelError
from edlab.models.files import keras, onnx, pt2, tflite
from edlab.models.files.base import ModelFile, classes_of

__all__ = ["ModelFile", "classes_of", "load_file"]

_READERS = {".onnx": onnx.read, ".tflite": tflite.read, ".keras": keras.read, ".pt2": pt2.read}


def load_file(config: ModelConfig, folder: Path) -> ModelFile:
    """Copy `config.path` to `folder`/source.<format> and read what it tells.

    Raises `ModelError` for a file that is missing, damaged, of another format, or not an image classifier.
    """
    path = Path(config.path or "").expanduser()
    if not config.path or not path.is_file():
        raise ModelError(f"there is no model file '{config.path or ''}'", hint="give model.path=FILE")
    if path.suffix not in _READERS:
        raise ModelError(
            f"{path.name} is of no format that edlab reads",
            hint=f"model.path takes {', '.join(_READERS)}; export other frameworks' models to ONNX",
        )
    if config.weights != "auto":
        raise ModelError(
            f"model.weights={config.weights} cannot be given to {path.name}: the file holds its weights",
            hint="leave model.weights=auto",
        )
    copy = folder / f"source{path.suffix}"
    return _READERS[path.suffix](config, path, copy)
