"""The model in OpenVINO."""

from __future__ import annotations

from typing import Any

import numpy as np

from edlab.agent.fake_quantize import unroll
from edlab.agent.runtimes.openvino import _api


class Network:
    """An OpenVINO file on the device of the run; on a CPU in float32, and with the int8 kernels of the run."""

    def __init__(self, files: list[str], options: dict[str, Any]) -> None:
        core = _api().Core()
        model = core.read_model(files[0])
        on_cpu = options["device"] == "CPU"
        if on_cpu and options["int8_kernels"] != "fast":
            unroll(model, _api().__name__)
        precision = options["inference_precision_hint"] or ("f32" if on_cpu else None)
        settings = {"INFERENCE_PRECISION_HINT": precision} if precision else {}
        self._request = core.compile_model(model, options["device"], settings).create_infer_request()

    def run(self, tensor: np.ndarray) -> list[np.ndarray]:
        """The outputs for a batch."""
        self._request.infer([tensor])
        return [output.data.copy() for output in self._request.output_tensors]
