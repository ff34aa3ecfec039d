"""From an npy file to the model's input, as in the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edlab.agent.preprocess import ArrayTable

INPUT = "array.npy"


def read(path: Path, manifest: dict[str, Any]) -> tuple[np.ndarray, tuple[int, int]]:
    """The array of the file with a batch of 1; the size is only known of images."""
    return np.load(str(path), allow_pickle=False)[None], (0, 0)


def tensor(arrays: np.ndarray, manifest: dict[str, Any]) -> np.ndarray:
    """The model's input, quantized if it takes integers."""
    spec = manifest["inputs"][0]
    return ArrayTable(spec["dtype"], spec["scale"], spec["zero_point"]).apply(arrays)
