"""The interface of a task: from a model's output tensors to the values that are scored. To add a task, add one file
next to this, with `class Task(base.Task)`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from ..messages import TensorSpec
from ..preprocess import dequantize


class Task(ABC):
    """Reads the outputs of one image at a time. All of it runs on the target, and is timed as `postprocess_ms`."""

    name = ""  # the host's name for it; set when it is found
    options: dict[str, Any] = {}  # noqa: RUF012  -- its options, with their defaults

    def __init__(self, outputs: list[TensorSpec], options: dict[str, Any]) -> None:
        """`outputs` are the outputs of the open model, in its order; `options` are from the host's task."""
        self.outputs = outputs
        self.options = dict(self.options, **options)

    @abstractmethod
    def read(self, outputs: list[np.ndarray]) -> np.ndarray:
        """The values to score for one image: float32, with the same shape for every image.

        `outputs` are the raw tensors of a batch of 1; they may be views that the next query overwrites.
        """

    def postprocess(self, outputs: list[np.ndarray]) -> Any:
        """What an application does with the outputs; usually `read`."""
        return self.read(outputs)

    def values(self, outputs: list[np.ndarray]) -> list[np.ndarray]:
        """The float32 values of the tensors, dequantized."""
        return [dequantize(output, spec.scale, spec.zero_point) for output, spec in zip(outputs, self.outputs)]
