"""TFLite files, with interpreters that keep all tensors."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from edlab import tflite_file
from edlab.converters.calibration import Batches
from edlab.converters.layer_noise.powers import Powers
from edlab.metrics.profile import SourceLayer
from edlab.source import Layout

_MODULES = re.compile(r"InterpreterModule_(\w+)")  # in the names of litert-torch, the path of the torch module
_PRODUCTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL", "TRANSPOSE_CONV")


def compare(
    floating: str, quantized: str, images: dict[str, Any], layout: Layout, options: dict[str, Any]
) -> dict[str, Any]:
    """See the package. A layer's name is a short regular expression that matches its operation alone."""
    layers, outputs = _layers(floating)
    interpreters = [_interpreter(path) for path in (floating, quantized)]
    ours, theirs = ({each["name"]: each for each in interpreter.get_tensor_details()} for interpreter in interpreters)
    activations = [name for name in dict.fromkeys(_values(layers)) if name in ours and name in theirs]
    powers = Powers()
    for image in Batches(images, layout):
        for interpreter in interpreters:
            _run(interpreter, image)
        for name in activations:
            values = (_real(interpreters[side], found[name]) for side, found in enumerate((ours, theirs)))
            powers.add(name, *values)
    ends = [name for name in activations if np.issubdtype(theirs[name]["dtype"], np.integer)]
    dynamic = [value for layer in layers if layer.macs for value in layer.outputs]
    return {
        "layers": [layer._asdict() for layer in layers],
        "noise": powers.ratios(),
        "ends": list(dict.fromkeys([*(ends or dynamic), *outputs])),
    }


def _layers(path: str) -> tuple[list[SourceLayer], list[str]]:
    """The operations of the first graph, and the names of its outputs."""
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_quantizer.utils import tfl_flatbuffer_utils

    names = {value: name for name, value in vars(schema.BuiltinOperator).items()}
    model = tflite_file.parse(Path(path).read_bytes())
    graph = model.subgraphs[0]
    scopes = [tfl_flatbuffer_utils.get_op_scope(operator, graph.tensors) for operator in graph.operators]
    layers = []
    for operator, scope in zip(graph.operators, scopes, strict=True):
        code = model.operatorCodes[operator.opcodeIndex]
        kind = str(names[max(code.builtinCode, code.deprecatedBuiltinCode)])
        inputs = [graph.tensors[index] for index in operator.inputs if index >= 0]
        layers.append(
            SourceLayer(
                _pattern(scope, scopes),
                kind,
                [_name(tensor) for tensor in inputs if model.buffers[tensor.buffer].data is None],
                [_name(graph.tensors[index]) for index in operator.outputs],
                int(kind in _PRODUCTS),
                ".".join(_MODULES.findall(scope.split(";")[0])),
            )
        )
    return layers, [_name(graph.tensors[index]) for index in graph.outputs]


def _pattern(scope: str, scopes: list[str]) -> str:
    """The end of a path in a scope that no other scope contains; the whole scope if there is none.

    A scope has the names of an operation's outputs, each followed by a semicolon; in exported torch models these are
    paths of modules.
    """
    for name in filter(None, scope.split(";")):
        parts = name.split("/")
        for start in range(len(parts) - 1, -1, -1):
            pattern = re.escape("/".join(parts[start:]) + ";").replace("\\.", ".")
            if sum(bool(re.search(pattern, other)) for other in scopes) == 1:
                return pattern
    return f"^{re.escape(scope)}$"


def _name(tensor: Any) -> str:
    return str(tensor.name.decode() if isinstance(tensor.name, bytes) else tensor.name)


def _values(layers: list[SourceLayer]) -> list[str]:
    return [value for layer in layers for value in (*layer.inputs, *layer.outputs)]


def _interpreter(path: str) -> Any:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_path=path,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,  # delegates hide tensors
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    return interpreter


def _run(interpreter: Any, image: Any) -> None:
    (source,) = interpreter.get_input_details()
    scale, zero_point = source["quantization"]
    if scale:
        limits = np.iinfo(source["dtype"])
        image = np.clip(np.round(image / scale) + zero_point, limits.min, limits.max).astype(source["dtype"])
    interpreter.set_tensor(source["index"], image)
    interpreter.invoke()


def _real(interpreter: Any, tensor: dict[str, Any]) -> Any:
    """The real numbers of a tensor, which has one scale if it is quantized."""
    value = interpreter.get_tensor(tensor["index"])
    scale, zero_point = tensor["quantization"]
    return (value.astype(np.float64) - zero_point) * scale if scale else value
