"""ONNX Runtime. One session serves all requests in flight: `run` may be called from several threads."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import AgentError, FixedBatchError
from . import base

_DTYPES = {"float": "float32", "double": "float64"}  # the others are called as in numpy


class Runtime(base.Runtime):
    packages = "onnxruntime"
    options = {"providers": ["CPUExecutionProvider"]}  # noqa: RUF012
    separates_compile = False

    @staticmethod
    def version() -> str:
        import onnxruntime

        return str(onnxruntime.__version__)

    def load(self) -> None:
        import onnxruntime  # noqa: F401  -- importing is no part of the compile time

    def compile(self, in_flight: int, batch: int) -> base.Compiled:
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        # The threads that call run work too; what is left of the cores is the pool that they share.
        settings.intra_op_num_threads = max(1, self.threads - in_flight + 1)
        settings.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(self.path, settings, providers=self.options["providers"])
        missing = set(self.options["providers"]) - set(session.get_providers())
        if missing:
            raise AgentError(
                "onnxruntime runs without %s" % ", ".join(sorted(missing)),
                hint="this build has " + ", ".join(onnxruntime.get_available_providers()),
            )
        inputs = [_spec(tensor) for tensor in session.get_inputs()]
        outputs = [_spec(tensor) for tensor in session.get_outputs()]
        if batch > 1 and inputs[0].shape[0] is not None:
            raise FixedBatchError("the ONNX file's batch is %d" % inputs[0].shape[0])
        return base.Compiled(
            [_Request(session, inputs[0].name, outputs[0].name) for _ in range(in_flight)],
            inputs,
            outputs,
            {
                "providers": session.get_providers(),
                "intra_op_num_threads": settings.intra_op_num_threads,
                "inter_op_num_threads": settings.inter_op_num_threads,
            },
        )


class _Request(base.Request):
    def __init__(self, session: Any, input_name: str, output_name: str) -> None:
        self._run = session.run
        self._feed: dict[str, np.ndarray] = {}
        self._input_name = input_name
        self._outputs = [output_name]

    def set_input(self, tensor: np.ndarray) -> None:
        self._feed[self._input_name] = tensor  # read in place: onnxruntime makes no copy of it

    def execute(self) -> None:
        self._results = self._run(self._outputs, self._feed)

    def get_output(self) -> np.ndarray:
        result: np.ndarray = self._results[0]
        return result


def _spec(tensor: Any) -> base.TensorSpec:
    element = tensor.type[len("tensor(") : -1]
    shape = tuple(size if isinstance(size, int) else None for size in tensor.shape)
    return base.TensorSpec(tensor.name, shape, _DTYPES.get(element, element))
