"""The model in TensorRT."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import tensorrt

from edlab.agent.runtimes.tensorrt import _Request, _tensors
from edlab.agent.tensorrt_library import logger


class Network:
    """A TensorRT engine: it runs on the kind of GPU, and with the version of TensorRT, that it was built for."""

    def __init__(self, files: list[str], options: dict[str, Any]) -> None:
        self._logger = logger(tensorrt)
        self._runtime = tensorrt.Runtime(self._logger)
        with open(files[0], "rb") as file:
            self._engine = self._runtime.deserialize_cuda_engine(file.read())
        if self._engine is None:
            sys.exit("TensorRT cannot open the engine: %s" % self._logger.last_error())
        self._request = _Request(self._engine.create_execution_context(), _tensors(tensorrt, self._engine))

    def run(self, tensor: np.ndarray) -> list[np.ndarray]:
        """The outputs for a batch of 1."""
        self._request.set_input(tensor)
        self._request.execute()
        return [output.copy() for output in self._request.get_outputs()]
