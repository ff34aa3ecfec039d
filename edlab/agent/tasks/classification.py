"""One class for each image: the class with the highest logit."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..preprocess import top_classes
from . import base

_TOP = 5


class Task(base.Task):
    """Logits (classes,): the first output, flattened."""

    def read(self, outputs: list[np.ndarray]) -> np.ndarray:
        return self.values(outputs[:1])[0].reshape(-1)

    def postprocess(self, outputs: list[np.ndarray]) -> Any:
        """The five best classes."""
        return top_classes(self.read(outputs)[None], _TOP)
