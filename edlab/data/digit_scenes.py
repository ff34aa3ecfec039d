"""Scenes composed of scikit-learn's handwritten digits: an object detection data set that needs no download."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edlab.data.catalogue import Catalogue
from edlab.data.digits import load_digits
from edlab.data.pixels import Decoded
from edlab.tasks.detection.annotations import Annotations, Boxes

SIZE = 128  # pixels per side
_SCENES = 360
_CALIBRATION = 100  # number of scenes, composed of digits that the embedded detector was trained on
_MOST_DIGITS = 4
_SIDES = (36, 81)  # pixels per side of a digit's square, before its margins are cropped
_ATTEMPTS = 8  # to find a free position for a digit
_PAPER, _INK = (150, 240), (10, 90)  # of 0..255


@dataclass(frozen=True)
class Scene:
    """`pixels` are uint8 (SIZE, SIZE). `corners` are int64 (n, 4), x1, y1, x2, y2 of the ink; `digits` int64 (n,)."""

    pixels: NDArray[np.uint8]
    corners: NDArray[np.int64]
    digits: NDArray[np.int64]


def compose(
    pixels: NDArray[np.uint8], labels: NDArray[np.int64], rows: NDArray[np.int64], generator: np.random.Generator
) -> Scene:
    """One to four dark digits on lighter, uneven and noisy paper; their boxes do not overlap.

    `pixels` are uint8 (N, side, side) digits, bright on 0, of which `rows` are drawn.
    """
    paper = generator.uniform(*_PAPER, (3, 3)).astype(np.float32)
    canvas = np.asarray(Image.fromarray(paper).resize((SIZE, SIZE), Image.Resampling.BILINEAR)).copy()
    corners: list[tuple[int, int, int, int]] = []
    classes: list[int] = []
    for row in generator.choice(rows, generator.integers(1, _MOST_DIGITS + 1)):
        ink = _enlarged(pixels[row], int(generator.integers(*_SIDES)))
        height, width = ink.shape
        shade = generator.uniform(*_INK)
        for _ in range(_ATTEMPTS):
            x, y = (int(generator.integers(0, SIZE - side + 1)) for side in (width, height))
            box = (x, y, x + width, y + height)
            if not any(_overlap(box, other) for other in corners):
                place = canvas[y : y + height, x : x + width]
                place += ink * (shade - place)
                corners.append(box)
                classes.append(int(labels[row]))
                break
    noisy = canvas + generator.normal(0, generator.uniform(0, 12), canvas.shape)
    return Scene(noisy.round().clip(0, 255).astype(np.uint8), np.array(corners, np.int64), np.array(classes, np.int64))


def list_digit_scenes() -> Catalogue:
    """The same scenes each time; those to score are composed only of the test split of the digits."""
    digits = load_digits()
    test = np.setdiff1d(np.arange(len(digits.labels)), digits.train)
    scenes = []
    for number in range(_SCENES):
        rows = digits.train if number < _CALIBRATION else test
        scenes.append(compose(digits.pixels, digits.labels, rows, np.random.default_rng(number)))
    names = tuple(map(str, range(10)))
    return Catalogue(
        names=[f"scene-{number:04d}" for number in range(_SCENES)],
        identity=[["digit_scenes", np.__version__, number] for number in range(_SCENES)],
        open_image=lambda index: Decoded(Image.fromarray(scenes[index].pixels).convert("RGB")),
        labels=Annotations(tuple(map(_boxes, scenes)), names),
        class_index={name: digit for digit, name in enumerate(names)},
        label_map="each digit is the class of that number",
        own_calibration=np.arange(_CALIBRATION),
    )


def _enlarged(digit: NDArray[np.uint8], side: int) -> NDArray[np.float32]:
    """The ink of a digit, 0..1, at this size with sharp edges, cropped to its visible part."""
    smooth = np.asarray(Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC), np.float32) / 255
    ink = ((smooth - 0.4) / 0.2).clip(0, 1)
    rows, columns = np.flatnonzero((ink > 0.5).any(axis=1)), np.flatnonzero((ink > 0.5).any(axis=0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _overlap(box: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> bool:
    return box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3]


def _boxes(scene: Scene) -> Boxes:
    corners = scene.corners.astype(np.float64)
    sides = corners[:, 2:] - corners[:, :2]
    return Boxes((SIZE, SIZE), corners, scene.digits, np.zeros(len(corners), np.bool_), sides.prod(axis=1))
