"""LiteRT (TensorFlow Lite). An interpreter handles one query at a time, so each request has its own."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import numpy as np

from ..errors import AgentError, FixedBatchError
from . import base


class Runtime(base.Runtime):
    packages = "ai-edge-litert"
    formats: tuple[str, ...] = ("tflite",)
    shapes_of_file = True

    @staticmethod
    def version() -> str:
        return "%s %s" % (_package().__name__, _package().__version__)

    @classmethod
    def check_profiler(cls, options: dict[str, Any]) -> None:
        raise AgentError(
            "the Python interpreter of LiteRT has no profiler",
            hint="TensorFlow Lite's benchmark_model times the operators of the file (--enable_op_profiling=true)",
        )

    def runs_on_cpu(self) -> bool:
        return True

    def load(self) -> None:
        _package()  # importing is not part of the compile time
        with open(self.path, "rb") as file:
            self._content = file.read()

    def compile(self, in_flight: int, batch: int) -> base.Compiled:
        threads = self.threads_each(in_flight)
        interpreters = [self._interpreter(threads, batch) for _ in range(in_flight)]
        return base.Compiled(
            [_Request(interpreter) for interpreter in interpreters],
            _specs(interpreters[0].get_input_details()),
            _specs(interpreters[0].get_output_details()),
            {"num_threads": threads},
        )

    def _delegates(self) -> list[Any]:
        """The delegates, which run operators instead of the CPU."""
        return []

    def _interpreter(self, threads: int, batch: int) -> Any:
        interpreter = interpreter_module().Interpreter(
            model_content=self._content, num_threads=threads, experimental_delegates=self._delegates()
        )
        if batch > 1:
            detail = interpreter.get_input_details()[0]
            interpreter.resize_tensor_input(detail["index"], [batch, *detail["shape"][1:]])
        try:
            interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            if batch == 1:
                raise
            raise FixedBatchError("LiteRT cannot resize the model: %s" % error) from error
        return interpreter


class _Request(base.Request):
    def __init__(self, interpreter: Any) -> None:
        self._input = interpreter.get_input_details()[0]["index"]
        self._outputs = [detail["index"] for detail in interpreter.get_output_details()]
        self._interpreter = interpreter

    def set_input(self, tensor: np.ndarray) -> None:
        self._interpreter.set_tensor(self._input, tensor)

    def execute(self) -> None:
        self._interpreter.invoke()

    def get_outputs(self) -> list[np.ndarray]:
        return [self._interpreter.get_tensor(index) for index in self._outputs]


def _package() -> Any:
    for name in ("ai_edge_litert", "tflite_runtime"):  # images of older boards contain the second
        if importlib.util.find_spec(name) is not None:
            return importlib.import_module(name)
    raise ImportError("neither ai_edge_litert nor tflite_runtime is installed")


def interpreter_module() -> Any:
    """The module with Interpreter and load_delegate."""
    return importlib.import_module(_package().__name__ + ".interpreter")


def _specs(details: list[dict[str, Any]]) -> list[base.TensorSpec]:
    specs = []
    for detail in details:
        scale, zero_point = detail["quantization"]  # (0.0, 0) if it is not quantized
        quantization = (float(scale), int(zero_point)) if scale else (None, None)
        shape = tuple(int(size) for size in detail["shape"])
        specs.append(base.TensorSpec(detail["name"], shape, np.dtype(detail["dtype"]).name, *quantization))
    return specs
