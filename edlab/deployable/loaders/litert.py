"""The model in LiteRT (TensorFlow Lite)."""

from __future__ import annotations

from typing import Any

import numpy as np

from edlab.agent.runtimes.litert import interpreter_module


class Network:
    """A TFLite file on the CPU."""

    def __init__(self, files: list[str], options: dict[str, Any]) -> None:
        self._interpreter = interpreter_module().Interpreter(model_path=files[0])
        self._interpreter.allocate_tensors()

    def run(self, tensor: np.ndarray) -> list[np.ndarray]:
        """The outputs for a batch of 1."""
        self._interpreter.set_tensor(self._interpreter.get_input_details()[0]["index"], tensor)
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(each["index"]) for each in self._interpreter.get_output_details()]
