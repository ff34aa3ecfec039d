"""ONNX files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edlab.config import ModelConfig
from edlab.errors import ModelError
from edlab.models.complexity.onnx import count_onnx, infer_shapes
from edlab.models.files.base import ModelFile, classes_of, damaged, read_input


def read(config: ModelConfig, path: Path, copy: Path) -> ModelFile:
    import onnx
    import onnxruntime
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = onnx.load(path)
        onnx.checker.check_model(path)
    except (DecodeError, onnx.checker.ValidationError, OSError, ValueError) as error:
        raise damaged(path, "ONNX", error) from error
    weights = {initializer.name for initializer in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    if len(inputs) != 1 or inputs[0].type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
        raise ModelError(
            f"{path.name} does not take one float32 tensor of images", hint="export it with one float32 input"
        )
    dimensions = inputs[0].type.tensor_type.shape.dim
    source = read_input(config, path, [dimension.dim_value or None for dimension in dimensions])
    onnx.save(model, copy)  # weights that lay outside the file are now inside
    shapes = infer_shapes(model, inputs[0].name, source.shape)
    output = shapes.get(model.graph.output[0].name, ())
    if not output or None in output:
        try:
            session = onnxruntime.InferenceSession(copy, providers=["CPUExecutionProvider"])
            output = _output_shape(session, source.shape)
        except Exception as error:  # onnxruntime's own exceptions have no common base
            raise damaged(path, "ONNX", error) from error
    return ModelFile(
        format="onnx",
        path=copy,
        layout=source.layout,
        precision=_precision(model),
        num_classes=classes_of(path.name, output),
        preprocessing=source.preprocessing,
        preprocessing_note=source.note,
        complexity=count_onnx(model, inputs[0].name, source.shape),
    )


def _output_shape(session: Any, shape: Sequence[int]) -> tuple[int, ...]:
    import numpy as np

    (name,) = (value.name for value in session.get_inputs())
    output: tuple[int, ...] = session.run(None, {name: np.zeros(shape, np.float32)})[0].shape
    return output


def _precision(model: Any) -> str:
    import onnx

    operators = {node.op_type for node in model.graph.node}
    if operators & {"DynamicQuantizeLinear", "MatMulInteger", "ConvInteger"}:
        return "int8_dynamic"
    if operators & {"QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul"}:
        return "int8"
    half = any(weight.data_type == onnx.TensorProto.FLOAT16 for weight in model.graph.initializer)
    return "fp16" if half else "fp32"
