"""The images from which activation ranges are measured, as a calibrating step receives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edlab.agent.preprocess import table_for
from edlab.cache import digest
from edlab.source import ArrayInput, Layout, Preprocessing, normalisation


@dataclass(frozen=True)
class CalibrationData:
    """A selection of a prepared data set: `images` is a .npy file, uint8 (N, height, width, C).

    `digest` identifies the content of that file.
    """

    images: Path
    indices: Sequence[int]
    preprocessing: Preprocessing | ArrayInput
    digest: str

    def key(self) -> str:
        """The digest of everything about the images that affects a step: which images, and how they are normalised."""
        return digest([self.digest, _integers(self.indices), self.preprocessing.model_dump()])

    def describe(self) -> dict[str, Any]:
        """This selection as JSON, for a step in another process, where `Batches` reads it."""
        return {
            "images": str(self.images),
            "indices": _integers(self.indices),
            **normalisation(self.preprocessing),
        }


class Batches(Sequence[NDArray[np.float32]]):
    """Normalised images one by one: float32 (1, C, height, width), or (1, height, width, C) for NHWC; or arrays.

    `calibration` is what `CalibrationData.describe` returns. Each image is normalised when it is requested.
    """

    def __init__(self, calibration: Mapping[str, Any], layout: Layout) -> None:
        self._images = np.load(calibration["images"], mmap_mode="r")
        self._indices = calibration["indices"]
        self._table = table_for(calibration["mean"], calibration["std"], calibration["channels"], layout)

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, position: int) -> NDArray[np.float32]:  # type: ignore[override]
        index = self._indices[position]
        return self._table.apply(self._images[index : index + 1])


def _integers(indices: Sequence[int]) -> list[int]:
    return [int(index) for index in indices]
