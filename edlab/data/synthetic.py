"""Noise with the statistics of photographs, to measure speed without images. It has no labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edlab.config import DatasetConfig
from edlab.data.catalogue import Catalogue
from edlab.data.pixels import Decoded

_SIZE = 160
_EVALUATION = 256
_CALIBRATION = 256


def list_synthetic(config: DatasetConfig) -> Catalogue:
    """`config.images` (256 if None) images to run on and 256 for calibration, drawn with `config.seed`."""
    evaluation = config.images or _EVALUATION
    count = evaluation + _CALIBRATION
    return Catalogue(
        names=[f"synthetic-{config.seed}-{index:05d}" for index in range(count)],
        identity=[["synthetic", config.seed, index] for index in range(count)],
        open_image=lambda index: Decoded(Image.fromarray(_noise(config.seed, index))),
        own_calibration=np.arange(evaluation, count),
    )


def _noise(seed: int, index: int) -> NDArray[np.uint8]:
    """One image, uint8 (size, size, 3), with an amplitude spectrum of 1/f and channels that mostly agree.

    Photographs have about this spectrum (D. J. Field, J. Opt. Soc. Am. A 4, 1987).
    """
    random = np.random.default_rng((seed, index))
    vertical = np.fft.fftfreq(_SIZE)[:, None]
    horizontal = np.fft.rfftfreq(_SIZE)[None, :]
    frequency = np.hypot(vertical, horizontal)
    frequency[0, 0] = np.inf  # no constant part
    grey, *colours = (
        np.fft.irfft2(np.fft.rfft2(random.standard_normal((_SIZE, _SIZE))) / frequency, (_SIZE, _SIZE))
        for _ in range(4)
    )
    image = np.stack([0.8 * grey + 0.2 * colour for colour in colours], axis=-1)
    brightness, contrast = random.uniform(90, 150), random.uniform(35, 65)
    pixels: NDArray[np.uint8] = np.clip(brightness + contrast * image / image.std(), 0, 255).astype(np.uint8)
    return pixels
