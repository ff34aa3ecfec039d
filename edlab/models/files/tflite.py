"""TFLite files."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from edlab.config import ModelConfig
from edlab.errors import MissingDependencyError, ModelError
from edlab.models.complexity.tflite import PRODUCTS, count_tflite
from edlab.models.files.base import ModelFile, classes_of, damaged, read_input


def read(config: ModelConfig, path: Path, copy: Path) -> ModelFile:
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
        raise damaged(path, "TFLite", error) from error
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    if len(inputs) != 1:
        raise ModelError(f"{path.name} takes {len(inputs)} tensors, not one of images", hint="export it with one input")
    source = read_input(config, path, [int(length) for length in inputs[0]["shape"]])
    shutil.copyfile(path, copy)
    graph, names = model.subgraphs[0], {value: name for name, value in vars(schema.BuiltinOperator).items()}
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    products = [
        (
            names[codes[operator.opcodeIndex]],
            [graph.tensors[index] for index in (*operator.inputs[:2], operator.outputs[0])],
        )
        for operator in graph.operators
        if names[codes[operator.opcodeIndex]] in PRODUCTS
    ]
    constants = [tensor for tensor in graph.tensors if _has_data(model.buffers[tensor.buffer])]
    return ModelFile(
        format="tflite",
        path=copy,
        layout=source.layout,
        precision=_precision(constants, [tensors for _, tensors in products], schema.TensorType),
        num_classes=classes_of(path.name, [int(length) for length in outputs[0]["shape"]]),
        preprocessing=source.preprocessing,
        preprocessing_note=source.note,
        complexity=count_tflite(path, model),
    )


def _has_data(buffer: Any) -> bool:
    return buffer.data is not None or bool(buffer.size)  # large files keep the data outside the flatbuffer


def _precision(constants: Iterable[Any], products: Iterable[Sequence[Any]], types: Any) -> str:
    pairs = [(activation.type, weight.type) for activation, weight, _ in products]
    integers = (types.INT8, types.UINT8, types.INT16)
    if any(activation in integers and weight in integers for activation, weight in pairs):
        return "int8"
    if any(weight in integers for _, weight in pairs):
        return "int8_dynamic"
    return "fp16" if any(tensor.type == types.FLOAT16 for tensor in constants) else "fp32"
