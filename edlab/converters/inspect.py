"""The data types of the weights in an artifact, read from the file itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from math import prod
from pathlib import Path

from edlab import converters, tflite_file
from edlab.errors import ConfigError
from edlab.registry import load_target

_Tensor = tuple[Sequence[int], str]  # shape, dtype


def weight_dtypes(path: Path, format: str) -> Counter[str]:
    """The number of weights by dtype ("int8", "float32"), in the file of an artifact.

    Weights are kernels and matrices: constants with more than one axis longer than 1. Biases and scales are
    not counted, nor the int32 and int64 of shapes and paddings.
    Raises `ConfigError` for a format for which no converter has a reader.
    """
    found = reader(format)
    if not found:
        raise ConfigError(
            f"cannot read the weights of {format} files", hint="add a reader to `weight_readers` of their converter"
        )
    return Counter(count_weights(str(path), found))


def onnx_weights(path: Path) -> Iterable[_Tensor]:
    """The constants of an ONNX file; one that is the input of a QuantizeLinear node has the dtype of its output."""
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    types = {weight.name: weight.data_type for weight in graph.initializer}
    for node in graph.node:
        if node.op_type == "QuantizeLinear" and len(node.input) == 3 and {node.input[0], node.input[2]} <= types.keys():
            types[node.input[0]] = types[node.input[2]]  # its zero point's
    for weight in graph.initializer:
        yield weight.dims, onnx.helper.tensor_dtype_to_np_dtype(types[weight.name]).name


def openvino_weights(path: Path) -> Iterable[_Tensor]:
    """The constants of an OpenVINO file."""
    import openvino

    for operation in openvino.Core().read_model(path).get_ops():
        if operation.get_type_name() == "Constant":
            yield tuple(operation.get_output_shape(0)), operation.get_output_element_type(0).to_dtype().name


def tflite_weights(path: Path) -> Iterable[_Tensor]:
    """The constants of a TFLite file."""
    from ai_edge_litert import schema_py_generated as schema

    names = {value: name.lower() for name, value in vars(schema.TensorType).items() if not name.startswith("_")}
    model = tflite_file.parse(path.read_bytes())
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            buffer = model.buffers[tensor.buffer]
            if buffer.data is not None:
                yield tuple(tensor.shape), names[tensor.type]


def pt2_weights(path: Path) -> Iterable[_Tensor]:
    """The constants of a PT2 file."""
    import torch

    for tensor in torch.export.load(path).state_dict.values():
        yield tuple(tensor.shape), str(tensor.dtype).removeprefix("torch.")


def keras_weights(path: Path) -> Iterable[_Tensor]:
    """The constants of a Keras file."""
    import tensorflow as tf

    for weight in tf.keras.models.load_model(path, compile=False).weights:
        yield tuple(weight.shape), str(weight.dtype)


def reader(format: str) -> str:
    """The reader of this format among the converters' `weight_readers`, or "" if there is none."""
    for name in converters.available():
        with suppress(ConfigError):  # a package that cannot be imported affects only its own users
            if found := converters.load(name).weight_readers.get(format):
                return found
    return ""


def count_weights(path: str, reader: str) -> dict[str, int]:
    """The weights of a file by dtype, as `weight_dtypes` counts them; runs in a separate process."""
    counts: Counter[str] = Counter()
    for shape, dtype in load_target(reader)(Path(path)):
        if sum(length > 1 for length in shape) > 1 and dtype not in ("int32", "int64"):
            counts[dtype] += int(prod(shape))
    return dict(counts)
