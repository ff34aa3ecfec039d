"""What an artifact's file really holds, read from the file itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from math import prod
from pathlib import Path

from edlab import tflite_file
from edlab.errors import ConfigError

_Tensor = tuple[Sequence[int], str]  # shape, dtype


def weight_dtypes(path: Path, format: str) -> Counter[str]:
    """The number of weights by dtype ("int8", "float32"), in the file of an artifact of a built-in format.

    Weights are kernels and matrices: constants with more than one axis longer than 1. Left out are biases and scales,
    and the int32 and int64 of shapes and paddings.
    Raises `ConfigError` for another format.
    """
    if format not in _READERS:
        raise ConfigError(f"cannot read the weights of {format} files", hint=f"known: {', '.join(_READERS)}")
    counts: Counter[str] = Counter()
    for shape, dtype in _READERS[format](path):
        if sum(length > 1 for length in shape) > 1 and dtype not in ("int32", "int64"):
            counts[dtype] += int(prod(shape))
    return counts


def _onnx(path: Path) -> Iterable[_Tensor]:
    """Of a weight that goes straight into a QuantizeLinear node, the dtype that it has after it."""
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    types = {weight.name: weight.data_type for weight in graph.initializer}
    for node in graph.node:
        if node.op_type == "QuantizeLinear" and len(node.input) == 3 and {node.input[0], node.input[2]} <= types.keys():
            types[node.input[0]] = types[node.input[2]]  # its zero point's
    for weight in graph.initializer:
        yield weight.dims, onnx.helper.tensor_dtype_to_np_dtype(types[weight.name]).name


def _openvino(path: Path) -> Iterable[_Tensor]:
    import openvino

    for operation in openvino.Core().read_model(path).get_ops():
        if operation.get_type_name() == "Constant":
            yield tuple(operation.get_output_shape(0)), operation.get_output_element_type(0).to_dtype().name


def _tflite(path: Path) -> Iterable[_Tensor]:
    from ai_edge_litert import schema_py_generated as schema

    names = {value: name.lower() for name, value in vars(schema.TensorType).items() if not name.startswith("_")}
    model = tflite_file.parse(path.read_bytes())
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            buffer = model.buffers[tensor.buffer]
            if buffer.data is not None:
                yield tuple(tensor.shape), names[tensor.type]


def _pt2(path: Path) -> Iterable[_Tensor]:
    import torch

    for tensor in torch.export.load(path).state_dict.values():
        yield tuple(tensor.shape), str(tensor.dtype).removeprefix("torch.")


def _keras(path: Path) -> Iterable[_Tensor]:
    import tensorflow as tf

    for weight in tf.keras.models.load_model(path, compile=False).weights:
        yield tuple(weight.shape), str(weight.dtype)


_READERS: dict[str, Callable[[Path], Iterable[_Tensor]]] = {
    "onnx": _onnx,
    "openvino": _openvino,
    "tflite": _tflite,
    "pt2": _pt2,
    "keras": _keras,
}

READABLE = frozenset(_READERS)


def count_weights(path: str, format: str) -> dict[str, int]:
    """`weight_dtypes` for a process of its own."""
    return dict(weight_dtypes(Path(path), format))
