"""From a detector's boxes to pixels of the original images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edlab.placement import place
from edlab.source import Preprocessing


def to_pixels(
    boxes: NDArray[np.floating], sizes: Sequence[tuple[int, int]], preprocessing: Preprocessing
) -> NDArray[np.float64]:
    """Corners (N, K, 4) as fractions of the model's input, as corners in pixels of the N original images.

    `sizes` are the images' heights and widths. The exact inverse of what `preprocessing` did to the image; a box may
    be outside it, in the input's borders.
    """
    scale, shift = np.empty((len(sizes), 1, 2)), np.empty((len(sizes), 1, 2))
    for index, (height, width) in enumerate(sizes):
        placement = place(width, height, preprocessing)
        scale[index] = width / placement.width, height / placement.height
        shift[index] = placement.left, placement.top
    points = boxes.reshape(len(sizes), -1, 2).astype(np.float64)
    points = (points * (preprocessing.width, preprocessing.height) + shift) * scale
    return points.reshape(boxes.shape)
