"""The model in Keras on TensorFlow."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np


class Network:
    """A Keras file."""

    def __init__(self, files: list[str], options: dict[str, Any]) -> None:
        self._model = keras.models.load_model(files[0], compile=False)

    def run(self, tensor: np.ndarray) -> list[np.ndarray]:
        """The outputs for a batch."""
        results = self._model(tensor, training=False)
        return [result.numpy() for result in (results if isinstance(results, (tuple, list)) else [results])]
