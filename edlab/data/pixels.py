"""From an image to the model's pixels, and from many images to one array on disk."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edlab.errors import DataError
from edlab.source import Preprocessing

# What Pillow raises for a file that is not an image, or a damaged one.
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_BLOCK = 256  # images in flight


def read_image(path: Path) -> Image.Image:
    """The image file in RGB. Raises one of `UNREADABLE`."""
    with Image.open(path) as image:
        return image.convert("RGB")


def resize_and_crop(image: Image.Image, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """The model's view of an RGB image: uint8 (height, width, 3).

    Sizes and offsets are rounded as torchvision's Resize and CenterCrop round them, so that accuracy is comparable.
    """
    height, width = preprocessing.height, preprocessing.width
    if preprocessing.resize is None:
        return np.asarray(_resize(image, (width, height), preprocessing))
    image = _resize(image, _shorter_side_to(preprocessing.resize, *image.size), preprocessing)
    left = round((image.width - width) / 2.0)
    top = round((image.height - height) / 2.0)
    return np.asarray(image.crop((left, top, left + width, top + height)))


def _resize(image: Image.Image, size: tuple[int, int], preprocessing: Preprocessing) -> Image.Image:
    method = _FILTERS[preprocessing.interpolation]
    if preprocessing.antialias:
        return image.resize(size, method)
    # Pillow's resize widens its filter to the scale; its affine transform interpolates between neighbours only.
    scale = (image.width / size[0], 0, 0, 0, image.height / size[1], 0)
    return image.transform(size, Image.Transform.AFFINE, scale, method)


def _shorter_side_to(size: int, width: int, height: int) -> tuple[int, int]:
    if width <= height:
        return size, int(size * height / width)
    return int(size * width / height), size


def write_pixels(
    open_image: Callable[[int], Image.Image],
    indices: Iterable[int],
    preprocessing: Preprocessing,
    path: Path,
    on_image: Callable[[], None],
) -> dict[int, str]:
    """Write the images as one .npy file, uint8 (readable images, height, width, 3), in the order of `indices`.

    Returns why each unreadable image was left out, by index. Decoding runs in threads: Pillow decodes and resizes
    outside the interpreter's lock. Rows are written, not mapped: a full disk is then an error, not a dead process.
    """
    skipped: dict[int, str] = {}
    rows = 0

    def pixels(index: int) -> NDArray[np.uint8] | str:
        try:
            return resize_and_crop(open_image(index), preprocessing)
        except UNREADABLE as error:
            if isinstance(error, OSError) and error.errno is not None:  # the system's word, not Pillow's
                raise DataError(
                    f"cannot read the image {error.filename}: {error.strerror}",
                    hint="mend its permissions or its disk, or take it out of the data set",
                ) from error
            return str(error) or type(error).__name__

    with open(path, "wb") as file, ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        _write_header(file, rows, preprocessing)
        remaining = iter(indices)
        while block := list(itertools.islice(remaining, _BLOCK)):
            for index, result in zip(block, pool.map(pixels, block), strict=True):
                if isinstance(result, str):
                    skipped[index] = result
                else:
                    file.write(result.tobytes())
                    rows += 1
                on_image()
        file.seek(0)
        _write_header(file, rows, preprocessing)  # numpy pads the header: it is as long for any number of rows
    return skipped


def _write_header(file: object, rows: int, preprocessing: Preprocessing) -> None:
    shape = (rows, preprocessing.height, preprocessing.width, 3)
    np.lib.format.write_array_header_1_0(
        file,  # type: ignore[arg-type]
        {"descr": "|u1", "fortran_order": False, "shape": shape},
    )
