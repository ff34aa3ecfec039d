"""The files next to an ONNX file that contain its tensors: https://onnx.ai/onnx/repo-docs/ExternalData.html."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edlab.errors import ModelError


def files_of(path: Path) -> list[Path]:
    """Every file that contains a tensor of the model, wherever it is used: initializers, attributes, subgraphs,
    functions. None for a model file that cannot be parsed, which its reader reports.

    Raises `ModelError` if a file is missing, or is outside the model's folder, which ONNX forbids.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = onnx.load(path, load_external_data=False)
    except (DecodeError, OSError, ValueError):
        return []
    locations = {location for tensor in _tensors(model) for location in _locations(tensor)}
    return [_existing(path, location) for location in sorted(locations)]


def _tensors(message: Any) -> Iterator[Any]:
    """All tensors inside a protobuf message."""
    import onnx

    if isinstance(message, onnx.TensorProto):
        yield message
        return
    for descriptor, value in message.ListFields():
        if descriptor.message_type is not None:
            for inner in value if hasattr(value, "__len__") else (value,):
                yield from _tensors(inner)


def _locations(tensor: Any) -> list[str]:
    import onnx

    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        return []
    return [entry.value for entry in tensor.external_data if entry.key == "location"]


def _existing(model: Path, location: str) -> Path:
    file = model.parent / location
    folder = model.parent.resolve()
    if Path(location).is_absolute() or not file.resolve().is_relative_to(folder):
        raise ModelError(
            f"{model.name} names tensors in '{location}', outside the model's folder, which ONNX does not allow",
            hint="move the data into the model's folder, and save the model again with that location",
        )
    if not file.is_file():
        raise ModelError(
            f"{model.name} has tensors in '{location}', and that file is missing from {model.parent}",
            hint="copy it there, as the exporter wrote it",
        )
    return file
