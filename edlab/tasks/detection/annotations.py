"""Ground truth of object detection, and the layout of a detector's predictions.

Predictions of N images are float32 (N, K, 6): x1, y1, x2, y2 as fractions of the model's input (0..1 inside it), the
score, and the class as the model numbers it, best first. Rows without a detection have class `NO_DETECTION` and zeros.
A first row of NaN means that the model's outputs contain NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edlab.agent.tasks.detection import NO_DETECTION

__all__ = ["NO_DETECTION", "Annotations", "Boxes"]


@dataclass(frozen=True)
class Boxes:
    """The objects of one image, in pixels of the image as it is decoded, before it is resized.

    `size`: its height and width. `corners`: float64 (n, 4) of x1, y1, x2, y2, as the data set states them: a box may
    extend beyond its image or have no area. `classes`: int64 (n,) indices into `Annotations.class_names`. `crowds`:
    bool (n,), regions of many objects in which a detection does not count. `areas`: float64 (n,) in pixels, by which
    COCO calls an object small, medium or large (the area of its outline, not of its box).
    """

    size: tuple[int, int]
    corners: NDArray[np.float64]
    classes: NDArray[np.int64]
    crowds: NDArray[np.bool_]
    areas: NDArray[np.float64]


@dataclass(frozen=True)
class Annotations:
    """The objects of each image of a data set, in its order.

    `class_names` are indexed by the model's class, its background not counted. They name every class of the data set,
    including those without objects; "" is a class of the model that the data set does not have.
    """

    images: tuple[Boxes, ...]
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: NDArray[np.integer] | Sequence[int]) -> Annotations:
        """The annotations of these rows, in their order."""
        return Annotations(tuple(self.images[int(row)] for row in rows), self.class_names)

    def tolist(self) -> list[object]:
        """The annotations as plain lists, to compute a digest."""
        boxes = [
            [image.size, image.corners.tolist(), image.classes.tolist(), image.crowds.tolist(), image.areas.tolist()]
            for image in self.images
        ]
        return [list(self.class_names), boxes]
