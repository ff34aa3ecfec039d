"""What a data set holds before any image of it is decoded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edlab.data.pixels import Decoded
from edlab.source import Reason


@dataclass(frozen=True)
class Catalogue:
    """The images of a data set by name, with their labels.

    `open_image(i)` decodes one to RGB; `origin` and `identity[i]` are JSON that changes when that image does.
    `labels` are int64 (N,) class indices below `classes`, both None where there are none; `class_index` is the class
    of each folder. `own_calibration` are the indices of images that the data set itself sets aside (its training
    split); None where the split is edlab's to draw. `skipped`, `left_out` and `reasons` are as in `PreparedData`.
    """

    names: list[str]
    identity: list[Any]
    open_image: Callable[[int], Decoded]
    origin: Any = None
    labels: NDArray[np.int64] | None = None
    classes: int | None = None
    class_index: dict[str, int] = field(default_factory=dict)
    own_calibration: NDArray[np.int64] | None = None
    skipped: list[tuple[str, str]] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    reasons: list[Reason] = field(default_factory=list)
