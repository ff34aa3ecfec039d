"""The images that activation ranges are taken from, as a calibrating step gets them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edlab.agent.preprocess import normalise
from edlab.cache import digest
from edlab.source import Layout, Preprocessing


@dataclass(frozen=True)
class CalibrationData:
    """A selection of a prepared data set: `images` is a .npy file, uint8 (N, height, width, 3).

    `digest` identifies the content of that file.
    """

    images: Path
    indices: Sequence[int]
    preprocessing: Preprocessing
    digest: str

    def key(self) -> str:
        """The digest of all that a step sees of the images: which, and how they are normalised."""
        return digest([self.digest, _integers(self.indices), self.preprocessing.model_dump()])

    def describe(self) -> dict[str, Any]:
        """The same as JSON, for a step in another process; read there by `batches`."""
        return {
            "images": str(self.images),
            "indices": _integers(self.indices),
            "mean": list(self.preprocessing.mean),
            "std": list(self.preprocessing.std),
        }


def batches(calibration: dict[str, Any], layout: Layout) -> Iterator[NDArray[np.float32]]:
    """Normalised images one by one: float32 (1, 3, height, width), or (1, height, width, 3) for NHWC."""
    images = np.load(calibration["images"], mmap_mode="r")
    for index in calibration["indices"]:
        yield normalise(images[index : index + 1], calibration["mean"], calibration["std"], layout)


def _integers(indices: Sequence[int]) -> list[int]:
    return [int(index) for index in indices]
