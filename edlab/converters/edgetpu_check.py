"""Checks whether the Edge TPU compiler accepts a TFLite file, without running the compiler.

Version 16 (July 2021) is the last, and knows the TFLite of that time. The rules and their sources:

- int8 or uint8 throughout: "Model not quantized", and https://coral.ai/docs/edgetpu/models-intro/#model-requirements
- static shapes: "a delegate that only supports static-sized tensors", google-coral/edgetpu issue 829
- operators that its TFLite has: "Op builtin_code out of range: 151", google-coral/edgetpu issue 862
- versions of operators that it has: "Didn't find op for builtin opcode 'CONV_2D' version '6'", google-coral/edgetpu
  issue 631; likewise QUANTIZE 3 (issue 879), TRANSPOSE_CONV 4 (issue 845), EXP 2 (google-coral/libedgetpu issue 71)
- fully-connected layers with one scale: one scale per channel is newer: version 12 of the operator
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from edlab import tflite_file
from edlab.errors import ConversionError

# The newest version of an operator that the compiler accepts; no version of other operators was seen to be refused.
_NEWEST = {"CONV_2D": 5, "EXP": 1, "FULLY_CONNECTED": 5, "QUANTIZE": 2, "TRANSPOSE_CONV": 3}
_OUT_OF_RANGE = 150  # GELU: the first builtin code that was seen to be refused
_QUANTIZED = ("INT8", "UINT8")
_CONSTANTS = (*_QUANTIZED, "INT32", "INT64")  # biases, shapes, axes, paddings


def check(path: Path) -> None:
    """Raise `ConversionError` naming the first operators of a TFLite file that the compiler would refuse."""
    from ai_edge_litert import schema_py_generated as schema

    model = tflite_file.parse(path.read_bytes())
    refused = [
        f"{where} {reason}"
        for graph in model.subgraphs
        for operator in graph.operators
        for where, reason in islice(_refusals(operator, graph, model, schema), 1)
    ]
    if refused:
        more = f" (and {len(refused) - 3} more)" if len(refused) > 3 else ""
        raise ConversionError(
            f"the Edge TPU compiler would refuse the model: {'; '.join(refused[:3])}{more}",
            hint="the compiler supports static int8 models of TFLite as of 2021: remove these operators from the model",
        )


def _refusals(operator: Any, graph: Any, model: Any, schema: Any) -> Iterator[tuple[str, str]]:
    """An operator, and why the compiler would refuse it; nothing if it would not."""
    code = model.operatorCodes[operator.opcodeIndex]
    builtin = max(code.builtinCode, code.deprecatedBuiltinCode)  # files of before 2021 have only the second
    name = _names(schema.BuiltinOperator)[builtin]
    where = f"{name} '{_text(graph.tensors[operator.outputs[0]])}'"
    if builtin >= _OUT_OF_RANGE:
        yield where, "is an operator that the compiler does not have"
    if code.version > _NEWEST.get(name, code.version):
        yield where, f"has version {code.version}; the newest supported is {_NEWEST[name]}"
    for index in (*operator.inputs, *operator.outputs):
        if index < 0:  # an optional input that is absent
            continue
        tensor = graph.tensors[index]
        type = _names(schema.TensorType)[tensor.type]
        if type not in (_CONSTANTS if _is_constant(model.buffers[tensor.buffer]) else _QUANTIZED):
            yield where, f"works on {type.lower()}: '{_text(tensor)}'"
        if tensor.shapeSignature is not None and -1 in list(tensor.shapeSignature):
            yield where, f"has a dynamic shape: '{_text(tensor)}'"
    if name == "FULLY_CONNECTED" and _scales(graph.tensors[operator.inputs[1]]) > 1:
        yield where, "has one scale per channel; the compiler needs one for the whole tensor"


@cache
def _names(enumeration: Any) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if not name.startswith("_")}


def _text(tensor: Any) -> str:
    name: str = (tensor.name or b"").decode(errors="replace")
    return name if len(name) <= 60 else f"{name[:57]}..."


def _scales(tensor: Any) -> int:
    scale = tensor.quantization.scale if tensor.quantization else None
    return 0 if scale is None else len(scale)


def _is_constant(buffer: Any) -> bool:
    return buffer.data is not None
