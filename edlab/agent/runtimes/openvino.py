"""OpenVINO. Requests in flight are infer requests on as many streams of one compiled model."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import FixedBatchError
from . import base


class Runtime(base.Runtime):
    packages = "openvino"
    # On a CPU that has bf16 OpenVINO would take it silently, also for an fp32 model.
    options = {"device": "CPU", "inference_precision_hint": "f32"}  # noqa: RUF012

    @staticmethod
    def version() -> str:
        import openvino

        return str(openvino.__version__)

    def load(self) -> None:
        import openvino

        self._core = openvino.Core()
        self._model = self._core.read_model(self.path)

    def compile(self, in_flight: int, batch: int) -> base.Compiled:
        model = self._model
        if batch > 1:
            model = model.clone()
            shape = model.input(0).get_partial_shape()
            shape[0] = batch
            try:
                model.reshape(shape)
            except RuntimeError as error:
                raise FixedBatchError("OpenVINO cannot reshape the model: %s" % error) from error
        settings = {"INFERENCE_PRECISION_HINT": self.options["inference_precision_hint"]}
        if self.options["device"] == "CPU":
            settings["INFERENCE_NUM_THREADS"] = self.threads
            settings["NUM_STREAMS"] = min(in_flight, self.threads)
        compiled = self._core.compile_model(model, self.options["device"], settings)
        return base.Compiled(
            [_Request(compiled.create_infer_request()) for _ in range(in_flight)],
            [_spec(port) for port in compiled.inputs],
            [_spec(port) for port in compiled.outputs],
            dict({name: _plain(compiled.get_property(name)) for name in settings}, device=self.options["device"]),
        )


class _Request(base.Request):
    def __init__(self, request: Any) -> None:
        import openvino

        self._tensor = openvino.Tensor
        self._request = request

    def set_input(self, tensor: np.ndarray) -> None:
        self._request.set_input_tensor(self._tensor(tensor, shared_memory=True))

    def execute(self) -> None:
        self._request.infer(share_outputs=True)

    def get_output(self) -> np.ndarray:
        data: np.ndarray = self._request.get_output_tensor(0).data
        return data


def _spec(port: Any) -> base.TensorSpec:
    shape = tuple(d.get_length() if d.is_static else None for d in port.get_partial_shape())
    return base.TensorSpec(port.get_any_name(), shape, np.dtype(port.get_element_type().to_dtype()).name)


def _plain(value: Any) -> Any:
    """A property's value as JSON holds it."""
    return value if isinstance(value, (int, str, bool)) else getattr(value, "to_string", value.__str__)()
