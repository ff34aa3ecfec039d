"""scikit-learn's handwritten digits: 1,797 real scans of 8 x 8 pixels, embedded, so that accuracy needs no download.

Source: UCI "Optical Recognition of Handwritten Digits" (E. Alpaydin, C. Kaynak, 1998; CC BY 4.0).
"""

from __future__ import annotations

from importlib.metadata import version
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edlab.data.catalogue import Catalogue
from edlab.data.pixels import Decoded

_TEST_FRACTION = 0.2
_SPLIT_SEED = 0  # not the configuration's: the embedded models are trained on this split's other part


class Digits(NamedTuple):
    """`pixels` are uint8 (N, 8, 8), `labels` int64 (N,); `train` are the rows that models may be trained on."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    train: NDArray[np.int64]
    release: str  # of scikit-learn


def load_digits() -> Digits:
    """The digits with the split that the embedded models are trained by."""
    from sklearn import datasets
    from sklearn.model_selection import train_test_split

    digits = datasets.load_digits()
    labels = digits.target.astype(np.int64)
    train, _ = train_test_split(
        np.arange(len(labels)), test_size=_TEST_FRACTION, random_state=_SPLIT_SEED, stratify=labels
    )
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    return Digits(pixels, labels, np.sort(train), version("scikit-learn"))


def list_digits() -> Catalogue:
    """All digits in grey as RGB; the training split is the calibration pool, the test split is scored."""
    digits = load_digits()
    rows = range(len(digits.labels))
    return Catalogue(
        names=[f"digit-{index:04d}" for index in rows],
        identity=[["digits", digits.release, index] for index in rows],
        open_image=lambda index: Decoded(Image.fromarray(digits.pixels[index]).convert("RGB")),
        labels=digits.labels,
        classes=10,
        class_index={str(digit): digit for digit in range(10)},
        own_calibration=digits.train,
    )
