"""Boxes in pixels of the original image, against what the preprocessing does to its pixels."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from edlab.data.pixels import resize_and_crop
from edlab.source import Preprocessing
from edlab.tasks.detection.geometry import to_pixels

MODES = {
    "squash": Preprocessing(height=96, width=160),
    "squash_resized": Preprocessing(height=96, width=160, resize=120, resize_mode="squash"),
    "crop": Preprocessing(height=96, width=96, resize=112),
    "crop_with_borders": Preprocessing(height=128, width=144, resize=90),
    "letterbox": Preprocessing(height=96, width=160, resize_mode="letterbox"),
    "letterbox_larger": Preprocessing(height=512, width=512, resize_mode="letterbox", border=(9, 9, 9)),
    "squash_without_antialias": Preprocessing(height=96, width=160, antialias=False),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(301, 203), (203, 301), (97, 640), (333, 333)])
def test_a_box_that_is_painted_is_found_where_it_was(mode: str, size: tuple[int, int]) -> None:
    preprocessing, (height, width) = MODES[mode], size
    painted = np.array([0.46 * width, 0.41 * height, 0.54 * width, 0.61 * height]).round()
    x1, y1, x2, y2 = painted.astype(int)
    image = np.zeros((height, width, 3), np.uint8)
    image[y1:y2, x1:x2] = 255
    seen = resize_and_crop(Image.fromarray(image), preprocessing)[..., 0] > 127
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    corners = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)
    fractions = corners / ((preprocessing.width, preprocessing.height) * 2)
    found = to_pixels(fractions[None, None], [size], preprocessing)[0, 0]
    pixel = to_pixels(np.array([[[0, 0, 1 / preprocessing.width, 1 / preprocessing.height]]]), [size], preprocessing)
    np.testing.assert_array_less(np.abs(found - painted), np.tile(pixel[0, 0, 2:] - pixel[0, 0, :2], 2) * 0.51 + 0.51)


def test_a_letterbox_puts_its_borders_outside_of_the_image() -> None:
    whole = np.array([[[0.0, 0.0, 1.0, 1.0]]])
    preprocessing = Preprocessing(height=400, width=400, resize_mode="letterbox")
    np.testing.assert_allclose(to_pixels(whole, [(100, 200)], preprocessing)[0, 0], [0, -50, 200, 150])
    # 101 x 200 becomes 202 x 400: 198 rows of border, 99 on top
    np.testing.assert_allclose(to_pixels(whole, [(101, 200)], preprocessing)[0, 0], [0, -49.5, 200, 150.5])


def test_the_centre_of_a_crop_is_the_centre_of_the_image() -> None:
    whole = np.array([[[0.0, 0.0, 1.0, 1.0]]])
    preprocessing = Preprocessing(height=224, width=224, resize=256)
    np.testing.assert_allclose(to_pixels(whole, [(512, 1024)], preprocessing)[0, 0], [288, 32, 736, 480])


def test_each_image_has_its_own_size() -> None:
    boxes = np.array([[[0.25, 0.5, 0.5, 1.0]]] * 2, np.float32)
    found = to_pixels(boxes, [(100, 200), (50, 80)], Preprocessing(height=32, width=32))
    np.testing.assert_allclose(found[:, 0], [[50, 50, 100, 100], [20, 25, 40, 50]])
