"""scikit-learn's handwritten digits: 1,797 real scans of 8 x 8 pixels, embedded, so that accuracy needs no download.

Source: UCI "Optical Recognition of Handwritten Digits" (E. Alpaydin, C. Kaynak, 1998; CC BY 4.0).
"""

from __future__ import annotations

from importlib.metadata import version

import numpy as np
from PIL import Image

from edlab.config import DatasetConfig
from edlab.data.catalogue import Catalogue
from edlab.data.pixels import Decoded

_TEST_FRACTION = 0.2
_SPLIT_SEED = 0  # not the configuration's: the embedded model is trained on this split's other part


def list_digits(config: DatasetConfig) -> Catalogue:
    """All digits in grey as RGB; the training split is the calibration pool, the test split is scored."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    labels = digits.target.astype(np.int64)
    train, _ = train_test_split(
        np.arange(len(labels)), test_size=_TEST_FRACTION, random_state=_SPLIT_SEED, stratify=labels
    )
    release = version("scikit-learn")
    return Catalogue(
        names=[f"digit-{index:04d}" for index in range(len(labels))],
        identity=[["digits", release, index] for index in range(len(labels))],
        open_image=lambda index: Decoded(Image.fromarray(pixels[index]).convert("RGB")),
        labels=labels,
        classes=10,
        class_index={str(digit): digit for digit in range(10)},
        own_calibration=np.sort(train),
    )
