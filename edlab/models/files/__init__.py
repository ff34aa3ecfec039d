"""Model files that are used directly: ONNX, TFLite, Keras and PyTorch's exported programs. One reader for each."""

from __future__ import annotations

from pathlib import Path

from edlab.config import ModelConfig
from edlab.errors import ModelError
from edlab.models.files import foreign, keras, onnx, onnx_external, pt2, tflite
from edlab.models.files.base import ModelFile, damaged, random_operators, training_mode

__all__ = ["ModelFile", "inputs_of", "load_file", "random_operators", "training_mode"]

_READERS = {".onnx": onnx.read, ".tflite": tflite.read, ".keras": keras.read, ".pt2": pt2.read}
_EXPORT = f"supported: {', '.join(_READERS)}; export models of other frameworks to ONNX"


def load_file(config: ModelConfig, folder: Path) -> ModelFile:
    """Copy `config.path` to `folder`/source.<format> and read what it states.

    Raises `ModelError` for a file that is missing, damaged, of another format, or not an image classifier.
    """
    path = _existing(config.path)
    if path.suffix.lower() not in _READERS:
        kind, fix = foreign.identify(path)
        raise ModelError(f"unsupported model format: {path.name}" + (f" is {kind}" if fix else ""), hint=fix or _EXPORT)
    if config.weights != "auto":
        raise ModelError(
            f"model.weights={config.weights} is unsupported for {path.name}: the file contains its weights",
            hint="set model.weights=auto",
        )
    foreign.ensure_is(path)
    suffix = path.suffix.lower()
    try:
        return _READERS[suffix](config, path, folder / f"source{suffix}")
    except UnicodeDecodeError as error:  # of a name in the file: the libraries decode them on demand
        raise damaged(path, suffix[1:].upper(), error) from error


def inputs_of(config: ModelConfig) -> list[Path]:
    """Every file of the model `config.path`: the file itself, and the external data that it names.

    Raises `ModelError` if one of them is missing.
    """
    path = _existing(config.path)
    return [path, *(onnx_external.files_of(path) if path.suffix.lower() == ".onnx" else [])]


def _existing(configured: str | None) -> Path:
    path = Path(configured or "").expanduser()
    if configured and path.is_dir():
        kind = "a TensorFlow SavedModel" if (path / "saved_model.pb").is_file() else "a folder"
        raise ModelError(
            f"model.path={configured} is {kind}, not a model file",
            hint="convert it: tf.lite.TFLiteConverter.from_saved_model, or python -m tf2onnx.convert --saved-model"
            if kind != "a folder"
            else f"set model.path to the file in it; {_EXPORT}",
        )
    if not configured or not path.is_file():
        raise ModelError(f"the model file '{configured or ''}' is not found", hint="set model.path=FILE")
    return path
