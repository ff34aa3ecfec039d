"""The contents of a data set before any image is decoded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edlab.data.pixels import Decoded
from edlab.source import Reason
from edlab.tasks.detection.annotations import Annotations


@dataclass(frozen=True)
class Catalogue:
    """The images of a data set by name, with their labels.

    `open_image(i)` decodes one to RGB; `origin` and `identity[i]` are JSON that changes when that image does.
    `labels` are int64 (N,) class indices below `classes`, or the objects of each image (`classes` is None then); both
    are None without labels. `class_index` is the class of each folder or category, `label_map` states how it was
    found. With `fractions`, the boxes' corners and areas are fractions of their image, and its size is 1 x 1: it is
    known once the image is decoded. `own_calibration` are the indices of images that the data set itself reserves for
    calibration (its training split); None if edlab draws the split. `skipped`, `left_out` and `reasons` are as in
    `PreparedData`.
    """

    names: list[str]
    identity: list[Any]
    open_image: Callable[[int], Decoded] | None = None  # None: there are `arrays` instead of images
    origin: Any = None
    arrays: NDArray[Any] | None = None  # (N, ...), inputs other than images
    labels: NDArray[np.int64] | Annotations | None = None
    fractions: bool = False
    classes: int | None = None
    class_index: dict[str, int] = field(default_factory=dict)
    label_map: str = ""
    own_calibration: NDArray[np.int64] | None = None
    skipped: list[tuple[str, str]] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    reasons: list[Reason] = field(default_factory=list)
