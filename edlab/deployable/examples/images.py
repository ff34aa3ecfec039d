"""From an image file to the model's input, as in the run."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from edlab.agent.preprocess import InputTable
from edlab.data.pixels import read_image, resize_and_crop

INPUT = "image.jpg"


class Preprocessing(SimpleNamespace):
    """`preprocessing` of edlab.json."""

    def __init__(self, stated: dict[str, Any]) -> None:
        lists = {key: tuple(value) for key, value in stated.items() if isinstance(value, list)}
        super().__init__(**dict(stated, **lists))
        self.channel_count = 1 if self.channels == "gray" else 3


def read(path: Path, manifest: dict[str, Any]) -> tuple[np.ndarray, tuple[int, int]]:
    """The image as the model sees it, uint8 (1, height, width, channels), and the width and height of the file."""
    preprocessing: Any = Preprocessing(manifest["preprocessing"])
    image = read_image(path, apply_orientation=preprocessing.apply_orientation)
    return resize_and_crop(image, preprocessing)[None], image.size


def tensor(images: np.ndarray, manifest: dict[str, Any]) -> np.ndarray:
    """The model's input: normalised, in its layout and type, quantized if it takes integers."""
    preprocessing, spec = Preprocessing(manifest["preprocessing"]), manifest["inputs"][0]
    table = InputTable(
        preprocessing.mean,
        preprocessing.std,
        preprocessing.layout,
        spec["dtype"],
        spec["scale"],
        spec["zero_point"],
        preprocessing.channels,
    )
    return table.apply(images)
