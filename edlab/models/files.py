"""Model files that enter as they are: ONNX, TFLite, Keras and PyTorch's exported programs."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from edlab.config import ModelConfig
from edlab.errors import MissingDependencyError, ModelError
from edlab.models.complexity import count_keras, count_torch
from edlab.models.keras_models import require_keras
from edlab.models.network import preprocessing_of_size
from edlab.source import Complexity, Layout, Preprocessing

_FORMATS = {".onnx": "onnx", ".tflite": "tflite", ".keras": "keras", ".pt2": "pt2"}


@dataclass(frozen=True)
class ModelFile:
    """What a model file tells of itself."""

    format: str
    path: Path  # the copy
    layout: Layout
    precision: str
    num_classes: int
    preprocessing: Preprocessing
    preprocessing_note: str
    complexity: Complexity | None
    complexity_note: str = ""  # why it is missing


@dataclass(frozen=True)
class _Input:
    layout: Layout
    preprocessing: Preprocessing
    note: str

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """With batch 1."""
        height, width = self.preprocessing.height, self.preprocessing.width
        return (1, 3, height, width) if self.layout == "NCHW" else (1, height, width, 3)


def load_file(config: ModelConfig, folder: Path) -> ModelFile:
    """Copy `config.path` to `folder`/source.<format> and read what it tells.

    Raises `ModelError` for a file that is missing, damaged, of another format, or not an image classifier.
    """
    path = Path(config.path or "").expanduser()
    if not config.path or not path.is_file():
        raise ModelError(f"there is no model file '{config.path or ''}'", hint="give model.path=FILE")
    if path.suffix not in _FORMATS:
        raise ModelError(
            f"{path.name} is of no format that edlab reads",
            hint=f"model.path takes {', '.join(_FORMATS)}; export other frameworks' models to ONNX",
        )
    if config.weights != "auto":
        raise ModelError(
            f"model.weights={config.weights} cannot be given to {path.name}: the file holds its weights",
            hint="leave model.weights=auto",
        )
    copy = folder / f"source{path.suffix}"
    readers: dict[str, Callable[[ModelConfig, Path, Path], ModelFile]] = {
        ".onnx": _onnx,
        ".tflite": _tflite,
        ".keras": _keras,
        ".pt2": _pt2,
    }
    return readers[path.suffix](config, path, copy)


def _damaged(path: Path, kind: str, error: Exception) -> ModelError:
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]
    return ModelError(
        f"{path} cannot be read as {kind}: {reason}", hint="the file is damaged or of another format: export it again"
    )


def _read_input(config: ModelConfig, path: Path, shape: Sequence[int | None]) -> _Input:
    """Layout and size of an input of this shape, None for a dimension that is free. Raises `ModelError`."""
    if len(shape) != 4:
        raise ModelError(
            f"{path.name} has an input of shape {tuple(shape)}, not of a batch of images",
            hint="edlab measures image classifiers: (batch, 3, height, width) or (batch, height, width, 3)",
        )
    layouts: list[Layout] = [layout for layout, axis in (("NCHW", 1), ("NHWC", 3)) if shape[axis] == 3]  # type: ignore[misc]
    if config.layout in ("NCHW", "NHWC"):
        layout: Layout = config.layout  # type: ignore[assignment]
    elif len(layouts) == 1 and config.layout is None:
        layout = layouts[0]
    else:
        raise ModelError(
            f"the layout of the input {tuple(shape)} of {path.name} is not clear",
            hint="give model.layout=NCHW or model.layout=NHWC; the model takes colour images (3 channels)",
        )
    height, width = (shape[2], shape[3]) if layout == "NCHW" else (shape[1], shape[2])
    preprocessing, note = preprocessing_of_size(height, width, config)
    if (height or preprocessing.height, width or preprocessing.width) != (preprocessing.height, preprocessing.width):
        raise ModelError(
            f"{path.name} takes {height} x {width} pixels, not {preprocessing.height} x {preprocessing.width}",
            hint="leave model.preprocessing.height and width to the file",
        )
    return _Input(layout, preprocessing, note)


def classes_of(name: str, shape: Sequence[int | None]) -> int:
    """The number of classes of an output of this shape. Raises `ModelError` where it is not (batch, classes)."""
    lengths = [length for length in shape[1:] if length != 1]
    if len(lengths) != 1 or not lengths[0]:
        raise ModelError(
            f"{name} has an output of shape {tuple(shape)}, not of (batch, classes)",
            hint="edlab measures image classifiers with at least two classes",
        )
    return int(lengths[0])


# --- ONNX

# Operator -> position of the weights among its inputs.
_ONNX_PRODUCTS = {
    "Conv": 1,
    "ConvInteger": 1,
    "ConvTranspose": 1,
    "Gemm": 1,
    "MatMul": 1,
    "MatMulInteger": 1,
    "QLinearConv": 3,
    "QLinearMatMul": 3,
}
# Operator -> positions of initializers that are no trained parameters: scales, zero points, running statistics.
_ONNX_NOT_TRAINED = {
    "QuantizeLinear": (1, 2),
    "DequantizeLinear": (1, 2),
    "QLinearConv": (1, 2, 4, 5, 6, 7),
    "QLinearMatMul": (1, 2, 4, 5, 6, 7),
    "BatchNormalization": (3, 4),
}


def _onnx(config: ModelConfig, path: Path, copy: Path) -> ModelFile:
    import onnx
    import onnxruntime
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = onnx.load(path)
        onnx.checker.check_model(path)
    except (DecodeError, onnx.checker.ValidationError, OSError, ValueError) as error:
        raise _damaged(path, "ONNX", error) from error
    weights = {initializer.name for initializer in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    if len(inputs) != 1 or inputs[0].type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
        raise ModelError(
            f"{path.name} does not take one float32 tensor of images", hint="export it with one float32 input"
        )
    dimensions = inputs[0].type.tensor_type.shape.dim
    source = _read_input(config, path, [dimension.dim_value or None for dimension in dimensions])
    onnx.save(model, copy)  # weights that lay outside the file are now inside
    shapes = _onnx_shapes(model, inputs[0].name, source.shape)
    output = shapes.get(model.graph.output[0].name, ())
    if not output or None in output:
        try:
            session = onnxruntime.InferenceSession(copy, providers=["CPUExecutionProvider"])
            output = _onnx_run(session, source.shape)
        except Exception as error:  # onnxruntime's own exceptions have no common base
            raise _damaged(path, "ONNX", error) from error
    macs, note = _onnx_macs(model, shapes)
    return ModelFile(
        format="onnx",
        path=copy,
        layout=source.layout,
        precision=_onnx_precision(model),
        num_classes=classes_of(path.name, output),
        preprocessing=source.preprocessing,
        preprocessing_note=source.note,
        complexity=None
        if macs is None
        else Complexity(macs=macs, parameters=_onnx_parameters(model), method="onnx shapes"),
        complexity_note=note,
    )


def _onnx_run(session: Any, shape: Sequence[int]) -> tuple[int, ...]:
    import numpy as np

    (name,) = (value.name for value in session.get_inputs())
    output: tuple[int, ...] = session.run(None, {name: np.zeros(shape, np.float32)})[0].shape
    return output


def _onnx_shapes(model: Any, name: str, shape: Sequence[int]) -> dict[str, tuple[int | None, ...]]:
    """The shapes of all tensors at batch 1, as far as ONNX infers them."""
    import onnx

    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    (source,) = (value for value in fixed.graph.input if value.name == name)
    for dimension, length in zip(source.type.tensor_type.shape.dim, shape, strict=True):
        dimension.dim_value = length
    for value in fixed.graph.output:  # a symbolic batch there would contradict
        value.type.tensor_type.ClearField("shape")
    graph = onnx.shape_inference.infer_shapes(fixed, data_prop=True).graph
    shapes: dict[str, tuple[int | None, ...]] = {
        value.name: tuple(dimension.dim_value or None for dimension in value.type.tensor_type.shape.dim)
        for value in (*graph.value_info, *graph.input, *graph.output)
    }
    return shapes | {weight.name: tuple(weight.dims) for weight in graph.initializer}


def _onnx_macs(model: Any, shapes: dict[str, tuple[int | None, ...]]) -> tuple[int | None, str]:
    """The sum, or None and why, where the shape of one product is not known: a sum without it would be wrong."""
    total = 0
    for node in model.graph.node:
        if node.op_type not in _ONNX_PRODUCTS:
            continue
        weight, output = shapes.get(node.input[_ONNX_PRODUCTS[node.op_type]], ()), shapes.get(node.output[0], ())
        source = shapes.get(node.input[0], ())
        if not weight or not output or not source or None in (*weight, *output, *source):
            return None, f"the shapes of the ONNX node '{node.name}' ({node.op_type}) cannot be inferred"
        if node.op_type == "ConvTranspose":
            total += prod(source[2:]) * prod(weight)  # type: ignore[arg-type]
        elif "Conv" in node.op_type:
            total += prod(output[2:]) * prod(weight)  # type: ignore[arg-type]
        else:
            transposed = any(item.name == "transA" and item.i for item in node.attribute)
            total += prod(output) * (source[0] if transposed else source[-1])  # type: ignore[arg-type,operator]
    return total, ""


def _onnx_parameters(model: Any) -> int:
    import onnx

    excluded = {
        node.input[position]
        for node in model.graph.node
        for position in _ONNX_NOT_TRAINED.get(node.op_type, ())
        if position < len(node.input)
    }
    return sum(
        prod(weight.dims)
        for weight in model.graph.initializer
        if weight.name not in excluded and weight.data_type not in (onnx.TensorProto.INT64, onnx.TensorProto.BOOL)
    )


def _onnx_precision(model: Any) -> str:
    import onnx

    operators = {node.op_type for node in model.graph.node}
    if operators & {"DynamicQuantizeLinear", "MatMulInteger", "ConvInteger"}:
        return "int8_dynamic"
    if operators & {"QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul"}:
        return "int8"
    half = any(weight.data_type == onnx.TensorProto.FLOAT16 for weight in model.graph.initializer)
    return "fp16" if half else "fp32"


# --- TFLite


def _tflite(config: ModelConfig, path: Path, copy: Path) -> ModelFile:
    if importlib.util.find_spec("ai_edge_litert") is None:
        raise MissingDependencyError("TFLite files need LiteRT", hint="pip install 'edlab[litert]'")
    import struct

    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.interpreter import Interpreter

    try:
        interpreter = Interpreter(model_path=str(path))
        interpreter.allocate_tensors()
        model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    except (ValueError, RuntimeError, OSError, struct.error) as error:
        raise _damaged(path, "TFLite", error) from error
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    if len(inputs) != 1:
        raise ModelError(f"{path.name} takes {len(inputs)} tensors, not one of images", hint="export it with one input")
    source = _read_input(config, path, [int(length) for length in inputs[0]["shape"]])
    shutil.copyfile(path, copy)
    graph, names = model.subgraphs[0], {value: name for name, value in vars(schema.BuiltinOperator).items()}
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    products = [
        (
            names[codes[operator.opcodeIndex]],
            [graph.tensors[index] for index in (*operator.inputs[:2], operator.outputs[0])],
        )
        for operator in graph.operators
        if names[codes[operator.opcodeIndex]] in _TFLITE_PRODUCTS
    ]
    constants = [tensor for tensor in graph.tensors if _has_data(model.buffers[tensor.buffer])]
    return ModelFile(
        format="tflite",
        path=copy,
        layout=source.layout,
        precision=_tflite_precision(constants, [tensors for _, tensors in products], schema.TensorType),
        num_classes=classes_of(path.name, [int(length) for length in outputs[0]["shape"]]),
        preprocessing=source.preprocessing,
        preprocessing_note=source.note,
        complexity=Complexity(
            macs=sum(_tflite_macs(name, *(list(tensor.shape) for tensor in tensors)) for name, tensors in products),
            parameters=_tflite_parameters(constants, schema.TensorType),
            method="tflite shapes",
        ),
    )


_TFLITE_PRODUCTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL")


def _has_data(buffer: Any) -> bool:
    return buffer.data is not None or bool(buffer.size)  # large files keep the data outside the flatbuffer


def _tflite_macs(name: str, first: list[int], weight: list[int], output: list[int]) -> int:
    """Kernels are (out, height, width, in), (1, height, width, out) where depthwise, and (out, in) of matrices."""
    if name == "BATCH_MATMUL":
        return prod(output) * first[-1]
    per_output = prod(weight[1:3]) if name == "DEPTHWISE_CONV_2D" else prod(weight[1:])
    return prod(output) * per_output


def _tflite_parameters(constants: Iterable[Any], types: Any) -> int:
    """Elements of the constants that are computed with; the plain integers among them are shapes and axes."""
    return sum(
        prod(tensor.shape)
        for tensor in constants
        if tensor.type in (types.FLOAT32, types.FLOAT16) or (tensor.quantization and _length(tensor.quantization.scale))
    )


def _length(values: Sequence[float] | None) -> int:
    return 0 if values is None else len(values)


def _tflite_precision(constants: Iterable[Any], products: Iterable[Sequence[Any]], types: Any) -> str:
    pairs = [(activation.type, weight.type) for activation, weight, _ in products]
    integers = (types.INT8, types.UINT8, types.INT16)
    if any(activation in integers and weight in integers for activation, weight in pairs):
        return "int8"
    if any(weight in integers for _, weight in pairs):
        return "int8_dynamic"
    return "fp16" if any(tensor.type == types.FLOAT16 for tensor in constants) else "fp32"


# --- Keras


def _keras(config: ModelConfig, path: Path, copy: Path) -> ModelFile:
    keras = require_keras()
    try:
        network = keras.models.load_model(path, compile=False)
    except (ValueError, OSError, TypeError, KeyError) as error:
        raise _damaged(path, "Keras", error) from error
    source = _read_input(config, path, list(network.input_shape))
    shutil.copyfile(path, copy)
    return ModelFile(
        format="keras",
        path=copy,
        layout=source.layout,
        precision="fp32",
        num_classes=classes_of(path.name, list(network.output_shape)),
        preprocessing=source.preprocessing,
        preprocessing_note=source.note,
        complexity=count_keras(network),
    )


# --- PyTorch


def _pt2(config: ModelConfig, path: Path, copy: Path) -> ModelFile:
    import torch

    try:
        program = torch.export.load(path)
    except Exception as error:  # torch.export's reader raises whatever its parts do
        raise _damaged(path, "an exported program", error) from error
    examples = torch.utils._pytree.tree_leaves(program.example_inputs or ())
    if len(examples) != 1:
        raise ModelError(
            f"{path.name} was not exported with one example tensor",
            hint="torch.export.save(torch.export.export(model.eval(), (images,)), FILE)",
        )
    source = _read_input(config, path, list(examples[0].shape))
    shutil.copyfile(path, copy)
    module = program.module()
    example = torch.zeros(examples[0].shape)
    with torch.no_grad():
        shape = list(module(example).shape)
    return ModelFile(
        format="pt2",
        path=copy,
        layout=source.layout,
        precision="fp32",
        num_classes=classes_of(path.name, shape),
        preprocessing=source.preprocessing,
        preprocessing_note=source.note,
        complexity=count_torch(module, example, cross_check=False),
    )
