"""The model on an Edge TPU."""

from __future__ import annotations

from typing import Any

import numpy as np

from edlab.agent.runtimes.edgetpu import _LIBRARY
from edlab.agent.runtimes.litert import interpreter_module


class Network:
    """A TFLite file that was compiled for the Edge TPU, by LiteRT with the delegate of libedgetpu."""

    def __init__(self, files: list[str], options: dict[str, Any]) -> None:
        library = interpreter_module()
        delegate = library.load_delegate(_LIBRARY, {"device": options["device"]})
        self._interpreter = library.Interpreter(model_path=files[0], experimental_delegates=[delegate])
        self._interpreter.allocate_tensors()

    def run(self, tensor: np.ndarray) -> list[np.ndarray]:
        """The outputs for a batch of 1."""
        self._interpreter.set_tensor(self._interpreter.get_input_details()[0]["index"], tensor)
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(each["index"]) for each in self._interpreter.get_output_details()]
