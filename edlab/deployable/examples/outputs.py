"""The model's outputs as numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from edlab.agent.preprocess import dequantize


def values(outputs: list[np.ndarray], manifest: dict[str, Any]) -> list[np.ndarray]:
    """The float32 values of the outputs, dequantized."""
    return [dequantize(output, spec["scale"], spec["zero_point"]) for output, spec in zip(outputs, manifest["outputs"])]


def label(index: int, manifest: dict[str, Any]) -> str:
    """The name of a class as the model numbers it, else its number."""
    names = manifest["labels"]["names"]
    return names[index] if names and index < len(names) and names[index] else "class %d" % index
