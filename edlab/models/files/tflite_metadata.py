"""TFLite metadata: how the input is normalised, and the class names.

Fields are those of tensorflow/lite/experimental/support/metadata/metadata_schema.fbs (TensorFlow 2.x), which no
maintained package ships: https://ai.google.dev/edge/litert/conversion/tensorflow/metadata. A flatbuffer's field n is
found at offset 4 + 2n of its table's vtable. Files that the metadata names are in a zip archive, appended to the model.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_BUFFER = "TFLITE_METADATA"
_IDENTIFIER = b"M001"
_NORMALIZATION_OPTIONS = 1  # of the union ProcessUnitOptions
_AXIS_LABELS = 2  # of the enum AssociatedFileType


@dataclass(frozen=True)
class Metadata:
    """`mean` and `std` on 0..255, of the first input; the label file of the first output, in order."""

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()


def read_metadata(content: bytes, model: Any, output: int) -> Metadata:
    """The metadata of a TFLite file's bytes and its `ModelT`; the labels are those of the output at this position."""
    buffer = next((entry.buffer for entry in model.metadata or () if _text(entry.name) == _BUFFER), None)
    data = b"" if buffer is None else _bytes(model.buffers[buffer].data)
    if data[4:8] != _IDENTIFIER:
        return Metadata(labels=_only_label_file(content))
    root = _Table.root(data)
    subgraph = next(root.tables(3), None)  # ModelMetadata.subgraph_metadata
    if subgraph is None:
        return Metadata(labels=_only_label_file(content))
    mean, std = _normalisation(next(subgraph.tables(2), None))  # SubGraphMetadata.input_tensor_metadata
    outputs = list(subgraph.tables(3))  # SubGraphMetadata.output_tensor_metadata
    files = list(outputs[output].tables(6)) if output < len(outputs) else []  # TensorMetadata.associated_files
    names = [file.string(0) for file in files if file.byte(2) == _AXIS_LABELS]
    labels = _lines(content, names[0]) if names else _only_label_file(content)
    return Metadata(mean, std, labels)


def _normalisation(tensor: _Table | None) -> tuple[tuple[float, ...], tuple[float, ...]]:
    for unit in tensor.tables(4) if tensor else ():  # TensorMetadata.process_units
        options = unit.table(1)  # ProcessUnit.options; its type is field 0
        if unit.byte(0) == _NORMALIZATION_OPTIONS and options:
            return options.floats(0), options.floats(1)
    return (), ()


def _only_label_file(content: bytes) -> tuple[str, ...]:
    """The labels of a file whose archive has one text file with "label" in its name, whatever the metadata states."""
    names = [name for name in _archive(content) if "label" in name.lower() and name.endswith(".txt")]
    return _lines(content, names[0]) if len(names) == 1 else ()


def _archive(content: bytes) -> list[str]:
    file = io.BytesIO(content)
    if not zipfile.is_zipfile(file):
        return []
    with zipfile.ZipFile(file) as archive:
        return archive.namelist()


def _lines(content: bytes, name: str) -> tuple[str, ...]:
    if name not in _archive(content):
        return ()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return tuple(line.strip() for line in archive.read(name).decode("utf-8", "replace").strip().splitlines())


class _Table:
    """A table of a flatbuffer, read by the number of its fields."""

    def __init__(self, data: bytes, position: int) -> None:
        import flatbuffers.table

        self._data = data
        self._table = flatbuffers.table.Table(data, position)

    @classmethod
    def root(cls, data: bytes) -> _Table:
        return cls(data, int.from_bytes(data[:4], "little"))

    def _field(self, number: int) -> int:
        """Its offset from the table; 0 if the table does not have it."""
        return int(self._table.Offset(4 + 2 * number))

    def byte(self, number: int) -> int:
        offset = self._field(number)
        return self._data[self._table.Pos + offset] if offset else 0

    def string(self, number: int) -> str:
        offset = self._field(number)
        return _text(self._table.String(self._table.Pos + offset)) if offset else ""

    def table(self, number: int) -> _Table | None:
        offset = self._field(number)
        return _Table(self._data, self._table.Indirect(self._table.Pos + offset)) if offset else None

    def tables(self, number: int) -> Iterator[_Table]:
        offset = self._field(number)
        if offset:
            start = self._table.Vector(offset)
            for place in range(self._table.VectorLen(offset)):
                yield _Table(self._data, self._table.Indirect(start + 4 * place))

    def floats(self, number: int) -> tuple[float, ...]:
        import numpy as np

        offset = self._field(number)
        if not offset:
            return ()
        start, length = self._table.Vector(offset), self._table.VectorLen(offset)
        return tuple(np.frombuffer(self._data, "<f4", length, start).tolist())


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "")


def _bytes(data: Any) -> bytes:
    return b"" if data is None else bytes(bytearray(data))
