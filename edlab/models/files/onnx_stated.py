"""What an ONNX file states about its input and its classes: metadata, the input's type, the graph's first operators."""

from __future__ import annotations

import ast
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edlab.models.files.stated import Affine, Stated, normalisation, quantization, raw_pixels

# Of the image metadata of https://onnx.ai/onnx/repo-docs/MetadataProps.html: keys and values in any case. Windows
# ML and Azure Custom Vision write them.
_RANGES = {
    "nominalrange_0_255": (0.0, 1 / 255),
    "normalized_0_1": (0.0, 1.0),
    "normalized_1_1": (0.5, 0.5),
    "nominalrange_16_235": (-16 / 219, 1 / 219),
}
_CHANNELS = {"rgb8": "rgb", "rgba8": "rgb", "bgr8": "bgr", "bgra8": "bgr"}
_PREPROCESSING_KEYS = ("preprocessing", "preprocess", "pretrained_cfg", "preprocessor_config")  # of JSON objects
_LABEL_KEYS = ("names", "labels", "classes", "class_names")
_BYTES = 2.0  # a mean or standard deviation above it is in units of 0..255
_PASSING = ("Cast", "Identity", "Transpose", "QuantizeLinear", "DequantizeLinear")
_UINT8 = 2  # onnx.TensorProto.UINT8


def stated(model: Any, value: Any) -> Stated:
    """About the input `value`: what the metadata states, else the input's type, else the first operators."""
    metadata = {entry.key.lower(): entry.value for entry in model.metadata_props}
    found = _by_metadata(metadata)
    if "mean" not in found.values:
        graph = _by_graph(model, value)
        note = "; ".join(filter(None, (found.note, graph.note)))
        found = Stated({**graph.values, **found.values}, note, graph.range)
    return found


def class_names(model: Any, num_classes: int | None) -> tuple[str, ...]:
    """The classes in order, if the metadata lists all of them."""
    metadata = {entry.key.lower(): entry.value for entry in model.metadata_props}
    for key in _LABEL_KEYS:
        names = _parse(metadata.get(key, ""))
        if isinstance(names, dict):
            names = [names[index] for index in sorted(names, key=int)] if all(map(_is_index, names)) else None
        if isinstance(names, list | tuple) and num_classes in (None, len(names)):
            return tuple(map(str, names))
    return ()


def constants(model: Any) -> dict[str, NDArray[Any]]:
    """The small tensors of a model that have a value, by name: initializers and Constant nodes."""
    from onnx import numpy_helper

    small = {
        weight.name: numpy_helper.to_array(weight) for weight in model.graph.initializer if np.prod(weight.dims) < 64
    }
    for node in (*model.graph.node, *(node for function in model.functions for node in function.node)):
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value" and np.prod(attribute.t.dims) < 64:
                    small[node.output[0]] = numpy_helper.to_array(attribute.t)
                elif attribute.name in ("value_float", "value_int"):
                    small[node.output[0]] = np.asarray(attribute.f or attribute.i)
    return small


def _is_index(key: Any) -> bool:
    return str(key).isdigit()


def _by_metadata(metadata: dict[str, str]) -> Stated:
    values: dict[str, Any] = {}
    used: list[str] = []
    pixel_range = metadata.get("image.nominalpixelrange", "").lower()
    if pixel_range in _RANGES:
        values |= normalisation(*_RANGES[pixel_range], "").values
        used.append("Image.NominalPixelRange")
    pixel_format = metadata.get("image.bitmappixelformat", "").lower()
    if pixel_format in _CHANNELS:
        values["channels"] = _CHANNELS[pixel_format]
        used.append("Image.BitmapPixelFormat")
    if "mean" not in values:
        named = [(key, _parse(metadata.get(key, ""))) for key in _PREPROCESSING_KEYS]
        objects = [(key, value) for key, value in named if isinstance(value, dict)]
        for key, value in [*objects, ("mean, std", {name: _parse(metadata.get(name, "")) for name in ("mean", "std")})]:
            if normalised := _mean_and_std(value):
                values |= normalised
                used.append(key)
                break
    return Stated(values, f"ONNX metadata ({', '.join(used)})" if used else "")


def _mean_and_std(value: dict[str, Any]) -> dict[str, Any]:
    """Keys mean and std of an object (image_mean and image_std of transformers), in units of 0..1 or 0..255."""
    mean, std = (_numbers(value.get(key, value.get(f"image_{key}"))) for key in ("mean", "std"))
    if mean is None or std is None or bool(np.any(std <= 0)):
        return {}
    if mean.max() > _BYTES or std.max() > _BYTES:
        mean, std = mean / 255, std / 255
    return dict(normalisation(mean.tolist(), std.tolist(), "").values)


def _numbers(value: Any) -> NDArray[np.float64] | None:
    try:
        array = np.asarray(value, np.float64).ravel()
    except (TypeError, ValueError):
        return None
    return array if array.size in (1, 3) and bool(np.isfinite(array).all()) else None


def _parse(text: str) -> Any:
    """JSON, a Python literal (Ultralytics' names), or numbers with commas or spaces between them."""
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
    try:
        return [float(word) for word in text.replace(",", " ").split()] or None
    except ValueError:
        return None


def _by_graph(model: Any, value: Any) -> Stated:
    if value.type.tensor_type.elem_type == _UINT8:
        return raw_pixels("the input's type, uint8: pixels as 0..255")
    known = constants(model)
    outputs = {output.name for output in model.graph.output}
    affine, tensor = Affine(), value.name
    found = Stated()
    while tensor not in outputs:
        consumers = [node for node in model.graph.node if tensor in node.input]
        if len(consumers) != 1:
            break
        (node,) = consumers
        if node.op_type == "QuantizeLinear" and not affine.started:
            found = _quantized(node, known) or found
            if found.values:
                return found
        elif node.op_type == "BatchNormalization":
            _standardise(affine, node, known)
            break
        elif node.op_type not in _PASSING and not _apply(affine, node, tensor, known):
            break
        tensor = node.output[0]
    taken = affine.takes()
    return Stated(taken.values, taken.note, found.range)


def _quantized(node: Any, known: dict[str, NDArray[Any]]) -> Stated | None:
    scale = known.get(node.input[1])
    zero = known.get(node.input[2]) if len(node.input) > 2 else np.zeros((), np.uint8)
    if scale is None or zero is None or scale.size != 1 or zero.dtype.kind not in "iu":
        return None
    return quantization(float(scale.item()), int(zero.item()), zero.dtype, "the input's QuantizeLinear")


def _apply(affine: Affine, node: Any, tensor: str, known: dict[str, NDArray[Any]]) -> bool:
    """Whether the node combines the input with a constant; its effect is added to `affine`."""
    if node.op_type not in ("Mul", "Div", "Add", "Sub") or node.domain not in ("", "ai.onnx"):
        return False
    first, second = node.input
    other = known.get(second if first == tensor else first)
    if other is None or (first != tensor and node.op_type in ("Div", "Sub")):
        return False
    action = {"Mul": affine.multiply, "Div": affine.divide, "Add": affine.add, "Sub": affine.subtract}[node.op_type]
    return action(other, node.op_type)


def _standardise(affine: Affine, node: Any, known: dict[str, NDArray[Any]]) -> None:
    """A batch norm on the input itself: its statistics are those of the training images."""
    mean, variance = known.get(node.input[3]), known.get(node.input[4])
    if mean is not None and variance is not None and mean.size == 3:
        affine.subtract(mean, "BatchNormalization")
        affine.divide(np.sqrt(variance + 1e-5), "BatchNormalization")
