"""What a task is to the agent: from a model's output tensors to what is scored. Adding one is one file beside this,
with `class Task(base.Task)`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from ..messages import TensorSpec
from ..preprocess import dequantize


class Task(ABC):
    """Reads the outputs of one image at a time. All of it runs on the target, and is timed as `postprocess_ms`."""

    name = ""  # by which the host asks for it; set when it is found
    options: dict[str, Any] = {}  # noqa: RUF012  -- the options that it takes, with their defaults

    def __init__(self, outputs: list[TensorSpec], options: dict[str, Any]) -> None:
        """`outputs` are those of the open model, in its order; `options` as the host's task gives them."""
        self.outputs = outputs
        self.options = dict(self.options, **options)

    @abstractmethod
    def read(self, outputs: list[np.ndarray]) -> np.ndarray:
        """What is scored of one image: float32, of the same shape for every image.

        `outputs` are the raw tensors of a batch of 1; they may be views that the next query overwrites.
        """

    def postprocess(self, outputs: list[np.ndarray]) -> Any:
        """What an application does with them; as a rule it is `read`."""
        return self.read(outputs)

    def values(self, outputs: list[np.ndarray]) -> list[np.ndarray]:
        """The float32 values of the tensors, dequantized."""
        return [dequantize(output, spec.scale, spec.zero_point) for output, spec in zip(outputs, self.outputs)]
