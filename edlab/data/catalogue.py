"""What a data set holds before any image of it is decoded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


@dataclass(frozen=True)
class Catalogue:
    """The images of a data set by name, with their labels.

    `open_image(i)` decodes one to RGB; `identity[i]` is JSON that changes when that image does. `labels` are int64
    (N,) class indices below `classes`, both None where there are none. `own_calibration` are the indices of images
    that the data set itself sets aside (its training split); None where the split is edlab's to draw.
    """

    names: list[str]
    identity: list[Any]
    open_image: Callable[[int], Image.Image]
    labels: NDArray[np.int64] | None = None
    classes: int | None = None
    own_calibration: NDArray[np.int64] | None = None
