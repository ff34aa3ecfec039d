"""The shapes of an ONNX graph's values at one shape of its input."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

Shapes = dict[str, tuple[int | None, ...]]

_LARGE = 1024  # elements; constants from which shapes are computed have fewer


def infer_shapes(model: Any, name: str, shape: Sequence[int]) -> Shapes:
    """The shapes of all tensors if the input `name` has this shape, as far as ONNX infers them."""
    return shapes_of(with_shapes(model, name, shape).graph)


def with_shapes(model: Any, name: str, shape: Sequence[int]) -> Any:
    """The model with the shapes that ONNX infers, in the graphs inside nodes too; without large weights."""
    import onnx

    fixed = _without_weights(model)
    (source,) = (value for value in fixed.graph.input if value.name == name)
    source.type.tensor_type.ClearField("shape")
    for length in shape:
        source.type.tensor_type.shape.dim.add().dim_value = length
    for value in fixed.graph.output:  # a symbolic batch there would be a contradiction
        value.type.tensor_type.ClearField("shape")
    return onnx.shape_inference.infer_shapes(fixed, data_prop=True)


def _without_weights(model: Any) -> Any:
    """A copy whose large weights became inputs: their shapes are enough, and inference copies them several times."""
    import math

    import onnx

    light = onnx.ModelProto(ir_version=model.ir_version)
    light.opset_import.extend(model.opset_import)
    light.functions.extend(model.functions)
    light.graph.name = model.graph.name
    for field in ("node", "input", "output", "value_info", "sparse_initializer"):
        getattr(light.graph, field).extend(getattr(model.graph, field))
    inputs = {value.name for value in model.graph.input}
    for weight in model.graph.initializer:
        if math.prod(weight.dims) <= _LARGE:
            light.graph.initializer.append(weight)
        elif weight.name not in inputs:
            described = onnx.helper.make_tensor_value_info(weight.name, weight.data_type, weight.dims)
            light.graph.input.append(described)
    return light


def shapes_of(graph: Any) -> Shapes:
    """The shapes that one graph states for its values; a free dimension is None."""
    shapes: Shapes = {
        value.name: tuple(
            dimension.dim_value if dimension.HasField("dim_value") else None
            for dimension in value.type.tensor_type.shape.dim
        )
        for value in (*graph.value_info, *graph.input, *graph.output)
        if value.type.tensor_type.HasField("shape")
    }
    return shapes | {weight.name: tuple(weight.dims) for weight in graph.initializer}


def run_shapes(model: Any, name: str, shape: Sequence[int], wanted: Iterable[str]) -> Shapes:
    """The shapes of these values of the main graph in a real inference; none if onnxruntime cannot run the model."""
    import numpy as np
    import onnx
    import onnxruntime

    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    present = {value.name for value in model.graph.output}
    names = list(wanted)
    if not names:
        return {}
    exposed.graph.output.extend(onnx.ValueInfoProto(name=value) for value in names if value not in present)
    (source,) = (value for value in model.graph.input if value.name == name)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    images = np.zeros(shape, onnx.helper.tensor_dtype_to_np_dtype(source.type.tensor_type.elem_type))
    try:
        session = onnxruntime.InferenceSession(exposed.SerializeToString(), options, providers=["CPUExecutionProvider"])
        values = session.run(names, {name: images})
    except Exception as error:  # onnxruntime's own exceptions have no common base
        print(f"the shapes of {', '.join(names)} could not be measured by running the model: {error}")  # noqa: T201  (the log)
        return {}
    return {value: tuple(array.shape) for value, array in zip(names, values, strict=True)}
