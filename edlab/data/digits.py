"""scikit-learn's handwritten digits: 1,797 real scans of 8 x 8 pixels, embedded: accuracy without a download.

Source: UCI "Optical Recognition of Handwritten Digits" (E. Alpaydin, C. Kaynak, 1998; CC BY 4.0), from scikit-learn by
scripts/embed_digits.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edlab.data.catalogue import Catalogue
from edlab.data.pixels import Decoded

_FILE = Path(__file__).with_name("digits.npz")


class DigitImages(NamedTuple):
    """`pixels` are uint8 (N, 8, 8), `labels` int64 (N,); `train` are the rows that models may be trained on.

    That split is not the configuration's: the embedded models are trained on it.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    train: NDArray[np.int64]


def load_digits() -> DigitImages:
    """The digits with the split on which the embedded models are trained."""
    with np.load(_FILE) as arrays:
        return DigitImages(arrays["pixels"], arrays["labels"], arrays["train"])


def list_digits() -> Catalogue:
    """All digits as grey RGB; the training split is the calibration pool, the test split is scored."""
    digits = load_digits()
    rows = range(len(digits.labels))
    return Catalogue(
        names=[f"digit-{index:04d}" for index in rows],
        identity=[["digits", index] for index in rows],
        open_image=lambda index: Decoded(Image.fromarray(digits.pixels[index]).convert("RGB")),
        labels=digits.labels,
        classes=10,
        class_index={str(digit): digit for digit in range(10)},
        own_calibration=digits.train,
    )
