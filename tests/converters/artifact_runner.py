"""Runs an artifact with its own runtime, one image at a time, without edlab in between."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.float32]


def run(format: str, path: Path, images: Images) -> Images:
    """Logits (N, classes) of normalised float images in the file's own layout."""
    return {"onnx": run_onnx, "openvino": run_openvino, "tflite": run_tflite, "ncnn": run_ncnn}[format](path, images)


def run_onnx(path: Path, images: Images) -> Images:
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: image[None]})[0] for image in images])


def run_openvino(path: Path, images: Images) -> Images:
    import openvino

    model = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.concatenate([model(image[None])[0] for image in images])


def run_tflite(path: Path, images: Images) -> Images:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    given, made = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

    def logits(image: Images) -> Images:
        interpreter.set_tensor(given["index"], _quantize(image[None], given))
        interpreter.invoke()
        return _dequantize(interpreter.get_tensor(made["index"]), made)

    return np.concatenate([logits(image) for image in images])


def run_ncnn(path: Path, images: Images) -> Images:
    import ncnn

    net = ncnn.Net()
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.load_param(str(path))
    net.load_model(str(path.with_suffix(".bin")))

    def logits(image: Images) -> Images:
        extractor = net.create_extractor()
        extractor.input("in0", ncnn.Mat(image))
        return np.array(extractor.extract("out0")[1])[None]

    return np.concatenate([logits(image) for image in images])


def _quantize(values: Images, tensor: dict[str, Any]) -> NDArray[Any]:
    if tensor["dtype"] == np.float32:
        return values
    scale, zero_point = tensor["quantization"]
    limits = np.iinfo(tensor["dtype"])
    return np.clip(np.round(values / scale) + zero_point, limits.min, limits.max).astype(tensor["dtype"])


def _dequantize(values: NDArray[Any], tensor: dict[str, Any]) -> Images:
    if tensor["dtype"] == np.float32:
        return values
    scale, zero_point = tensor["quantization"]
    return ((values.astype(np.float32) - zero_point) * scale).astype(np.float32)
