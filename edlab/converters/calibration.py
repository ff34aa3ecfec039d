"""The images that activation ranges are taken from, as a calibrating step gets them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edlab.agent.preprocess import InputTable
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
        """The same as JSON, for a step in another process; read there by `Batches`."""
        return {
            "images": str(self.images),
            "indices": _integers(self.indices),
            "mean": list(self.preprocessing.mean),
            "std": list(self.preprocessing.std),
            "channels": self.preprocessing.channels,
        }


class Batches(Sequence[NDArray[np.float32]]):
    """Normalised images one by one: float32 (1, 3, height, width), or (1, height, width, 3) for NHWC.

    `calibration` is what `CalibrationData.describe` gives. Each is made when it is asked for.
    """

    def __init__(self, calibration: Mapping[str, Any], layout: Layout) -> None:
        self._images = np.load(calibration["images"], mmap_mode="r")
        self._indices = calibration["indices"]
        self._table = InputTable(calibration["mean"], calibration["std"], layout, channels=calibration["channels"])

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, position: int) -> NDArray[np.float32]:  # type: ignore[override]
        index = self._indices[position]
        return self._table.apply(self._images[index : index + 1])


def _integers(indices: Sequence[int]) -> list[int]:
    return [int(index) for index in indices]
