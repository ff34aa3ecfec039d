"""Prepares ONNX files for toolchains: inlines local functions and converts to a recent opset."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edlab.errors import UnsupportedError

# DequantizeLinear supports a scale per channel from opset 13 on (its attribute axis):
# https://onnx.ai/onnx/operators/onnx__DequantizeLinear.html. onnxruntime's quantizer writes such nodes at any
# opset.
PER_CHANNEL_OPSET = 13


def prepare(path: str | Path, out: str | Path, *, opset: int | None = None, shape: Sequence[int] | None = None) -> Path:
    """The file itself if it already meets the requirements, otherwise a copy at `out` that does.

    Local functions are inlined. `opset` is the minimum opset, `shape` the shape of the only input.
    Raises `UnsupportedError` if onnx cannot convert the file to that opset.
    """
    import onnx

    model = onnx.load(path)
    changed = False
    if model.functions:
        model, changed = inline(model), True
    if opset and opset_of(model) < opset:
        model, changed = upgrade(model, opset), True
    if shape and _fix_shape(model, shape):
        changed = True
    if not changed:
        return Path(path)
    onnx.save(model, out)
    return Path(out)


def inline(model: Any) -> Any:
    """The same model without local functions: their nodes are in the graph."""
    import onnx.inliner

    return onnx.inliner.inline_local_functions(model, convert_version=True)


def opset_of(model: Any) -> int:
    """The version of ONNX's own operators."""
    return max((int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=1)


def upgrade(model: Any, opset: int) -> Any:
    """The same model with the operators of a newer opset. Raises `UnsupportedError` if onnx cannot convert it."""
    import onnx
    from onnx import version_converter

    given = opset_of(model)
    try:
        converted = version_converter.convert_version(model, opset)
        onnx.checker.check_model(converted)
    except Exception as error:  # the converter's own exceptions have no common base
        raise UnsupportedError(
            f"this conversion needs opset {opset}; the model has opset {given}, and onnx cannot convert it: "
            f"{str(error).strip().splitlines()[0][:200]}",
            hint=f"export it again with opset_version={opset} or newer, or set quantization.granularity=per_tensor",
        ) from error
    return converted


def inputs(graph: Any) -> list[Any]:
    """The inputs of a graph without its weights, which are also inputs up to IR version 3."""
    weights = {weight.name for weight in graph.initializer}
    return [value for value in graph.input if value.name not in weights]


def _fix_shape(model: Any, shape: Sequence[int]) -> bool:
    """Set the free dimensions of the only input to these lengths; whether there were any."""
    values = inputs(model.graph)
    if len(values) != 1:
        return False
    dimensions = values[0].type.tensor_type.shape.dim
    free = [place for place, dimension in enumerate(dimensions) if not dimension.dim_value]
    if len(dimensions) != len(shape) or not free:
        return False
    for place in free:
        dimensions[place].dim_value = shape[place]
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    del model.graph.value_info[:]
    _infer_output_shapes(model)
    return True


def _infer_output_shapes(model: Any) -> None:
    import onnx

    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph.output
    for output, found in zip(model.graph.output, inferred, strict=True):
        output.CopyFrom(found)


def inline_functions(inputs: list[str], out: str, options: dict[str, Any], calibration: None) -> None:
    """ONNX -> ONNX without local functions, which parsers on targets may not support."""
    import onnx

    model = onnx.load(inputs[0])
    onnx.save(inline(model) if model.functions else model, out)
