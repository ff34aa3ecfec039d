"""Stands in for the SDK of the accelerator that docs/adding-a-device.md invents; there is no such hardware.

Its compiled file is an ONNX model in a container of its own, which onnxruntime runs on the processor. Its power monitor
reads no meter.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import numpy_helper

__version__ = "3.2"

_MAGIC = b"ACME"
_DIGEST_BYTES = 32


class Error(Exception):
    """What the SDK raises."""


class Constant(NamedTuple):
    shape: tuple[int, ...]
    dtype: str


def compile(
    model: str,
    out: str,
    *,
    precision: str,
    target: str = "npu-2",
    calibration: Iterable[NDArray[np.float32]] | None = None,
) -> None:
    """ONNX -> .acme; int8 takes its ranges from the calibration images."""
    network = onnx.load(model)
    content = _int8(network, calibration or ()) if precision == "int8" else _float16(network)
    body = target.encode().ljust(16) + content
    Path(out).write_bytes(_MAGIC + hashlib.sha256(body).digest() + body)


def _float16(network: onnx.ModelProto) -> bytes:
    """The weights rounded to float16; computed in float32."""
    for weight in network.graph.initializer:
        values = numpy_helper.to_array(weight)
        if values.dtype == np.float32:
            weight.CopyFrom(numpy_helper.from_array(values.astype(np.float16).astype(np.float32), weight.name))
    return bytes(network.SerializeToString())


def _int8(network: onnx.ModelProto, images: Iterable[NDArray[np.float32]]) -> bytes:
    from onnxruntime import quantization

    name = network.graph.input[0].name

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter(images)

        def get_next(self) -> dict[str, Any] | None:
            image = next(self.left, None)
            return None if image is None else {name: image}

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "quantized.onnx")
        quantization.quantize_static(
            network,
            path,
            Reader(),
            per_channel=True,
            activation_type=quantization.QuantType.QInt8,
            weight_type=quantization.QuantType.QInt8,
            extra_options={"ActivationSymmetric": True, "WeightSymmetric": True},
        )
        return path.read_bytes()


class Context:
    """One query at a time."""

    def __init__(self, content: bytes, profile: str, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        self._name = self._session.get_inputs()[0].name
        self.profile = profile

    def write(self, tensor: NDArray[np.float32]) -> None:
        self._input = tensor.copy()

    def run(self) -> None:
        (self._output,) = self._session.run(None, {self._name: self._input})

    def read(self) -> NDArray[np.float32]:
        output: NDArray[np.float32] = self._output
        return output.copy()


class Network:
    """A compiled file."""

    def __init__(self, path: str) -> None:
        content = Path(path).read_bytes()
        body = content[len(_MAGIC) + _DIGEST_BYTES :]
        if content[: -len(body)] != _MAGIC + hashlib.sha256(body).digest():
            raise Error(f"{path} is no Acme network, or is damaged")
        self._content = body[16:]
        graph = onnx.load_from_string(self._content).graph
        self.input_shape, self.output_shape = (
            tuple(size.dim_value for size in value.type.tensor_type.shape.dim)
            for value in (graph.input[0], graph.output[0])
        )
        self.constants = [
            Constant(tuple(weight.dims), onnx.helper.tensor_dtype_to_np_dtype(weight.data_type).name)
            for weight in graph.initializer
        ]

    def context(self, profile: str, threads: int) -> Context:
        return Context(self._content, profile, threads)


class _Monitor:
    def read_milliwatts(self) -> int:
        return 2400


def power_monitors() -> list[_Monitor]:
    return [_Monitor()]
