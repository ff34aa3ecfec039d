"""From an image file to the model's pixels, and from many images to one array on disk.

The rules for files that are not 8-bit RGB, which docs/metrics.md states for users:
- 16-bit grey: value / 65535 (12-bit TIFF: / 4095), rounded to 8 bits. 16-bit colour: the high byte, as Pillow reads it.
- Floating point: values in 0..1. Others, signed and 32-bit integers do not state which value is white: refused.
- Alpha is dropped, and a palette's transparency with it, as by `convert("RGB")` in torchvision's and Keras' loaders.
- Of several frames, the first.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError

from edlab.errors import DataError
from edlab.placement import Placement, place
from edlab.source import Preprocessing

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_UPRIGHT = {  # by EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_EIGHT_BIT_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV")
_SIXTEEN_BIT_FORMATS = (
    "PNG",
    "PPM",
)  # in which Pillow's mode I is 16 bits: a PNG has no more, a PGM is scaled to 16 bits
_MAX_PIXELS = 1 << 27  # of an image after resizing: one of 1 x 10,000 pixels must not fill the memory
_BLOCK = 256  # images in flight

# The file itself cannot be opened; any other error of the system is a problem of the disk or the network.
_UNREADABLE_FILE = (errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP)


class Decoded(NamedTuple):
    """An image in RGB, and what must be known about its file."""

    image: Image.Image
    turned: bool = False  # its EXIF orientation was not applied, and would rotate or flip it
    peak: int | None = None  # the highest value of 65535, of a 16-bit image


@dataclass
class Written:
    """What `write_pixels` found. `skipped` states why an image was skipped, by its index."""

    sha256: str = ""  # over the pixels of each image, in order
    skipped: dict[int, str] = field(default_factory=dict)
    sizes: list[tuple[int, int]] = field(default_factory=list)  # height and width as decoded, of the images written
    turned: int = 0  # images with an EXIF orientation that was not applied
    sixteen_bit: int = 0
    peak: int = 0  # the highest value of all 16-bit images


def read_image(path: Path, *, apply_orientation: bool = False) -> Image.Image:
    """The image file in RGB. Pillow raises exceptions of any type for a damaged file."""
    return decode(path, apply_orientation=apply_orientation).image


def decode(path: Path, *, apply_orientation: bool) -> Decoded:
    """The first frame of an image file. Raises Pillow's exceptions, and `ValueError` if white is unknown."""
    with Image.open(path) as image:
        peak = None
        if image.mode in _EIGHT_BIT_MODES and not _is_signed(image):
            rgb = image.convert("RGB")
        else:
            values, white = _grey(image)
            peak = int(values.max()) if white == 65535 else None
            rgb = Image.fromarray(_to_eight_bits(values, white)).convert("RGB")
        orientation = _orientation(image)  # after decoding: a PNG may have it at its end
        if orientation == 1:
            return Decoded(rgb, peak=peak)
    if not apply_orientation:
        return Decoded(rgb, turned=True, peak=peak)
    return Decoded(rgb.transpose(_UPRIGHT[orientation]), peak=peak)


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 (upright) to 8. In a TIFF it is part of the format: Pillow has already applied it."""
    try:
        orientation: int = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # a damaged EXIF block does not make the picture unreadable
        return 1
    return orientation if orientation in _UPRIGHT else 1


def _grey(image: Image.Image) -> tuple[NDArray[np.int64] | NDArray[np.float32], int]:
    """The values of an image with one channel of more than 8 bits (0 is black), and the value of white."""
    if image.mode == "F":
        values: NDArray[np.float32] = np.asarray(image)
        lowest, highest = float(values.min()), float(values.max())
        if not (lowest >= 0 and highest <= 1):  # so is a NaN
            raise ValueError(
                f"floating-point pixels from {lowest:g} to {highest:g}: the value of white is unknown (0..1 is "
                "supported; save the image with 8 or 16 bits)"
            )
        return (1 - values if _is_white_zero(image) else values), 1
    sixteen_bit = image.mode.startswith("I;16") or (image.mode == "I" and image.format in _SIXTEEN_BIT_FORMATS)
    if not sixteen_bit or _is_signed(image):
        kind = "signed or 32-bit integer pixels" if image.mode in ("I", "L") else f"pixels of mode {image.mode}"
        raise ValueError(f"{kind}: the value of white is unknown (save the image with 8 or 16 bits)")
    white = 4095 if _tag(image, TiffImagePlugin.BITSPERSAMPLE) == (12,) else 65535
    integers = np.asarray(image).astype(np.int64)
    return (white - integers if _is_white_zero(image) else integers), white


def _to_eight_bits(values: NDArray[np.int64] | NDArray[np.float32], white: int) -> NDArray[np.uint8]:
    """255 * value / white, rounded."""
    scaled: NDArray[np.uint8] = np.rint(values * (255 / white)).astype(np.uint8)
    return scaled


def _tag(image: Image.Image, tag: int) -> tuple[int, ...]:
    """The values of a TIFF's tag, none if it is missing."""
    value = image.tag_v2.get(tag, ()) if isinstance(image, TiffImagePlugin.TiffImageFile) else ()
    return value if isinstance(value, tuple) else (value,)


def _is_signed(image: Image.Image) -> bool:
    return 2 in _tag(image, TiffImagePlugin.SAMPLEFORMAT)


def _is_white_zero(image: Image.Image) -> bool:
    """Pillow inverts such a TIFF only if it has 8 bits."""
    return 0 in _tag(image, TiffImagePlugin.PHOTOMETRIC_INTERPRETATION)


def resize_and_crop(image: Image.Image, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """The model's view of an RGB image: uint8 (height, width, C), RGB whatever the model's channel order is, or gray.

    Raises `ValueError` for an image whose aspect ratio makes it enormous.
    """
    if preprocessing.channels == "gray":
        image = image.convert("L")
    placement = place(image.width, image.height, preprocessing)
    if placement.width * placement.height > _MAX_PIXELS:
        raise ValueError(f"{image.width} x {image.height} pixels would become {placement.width} x {placement.height}")
    pixels = np.asarray(_cut(_resize(image, placement, preprocessing), placement, preprocessing))
    return pixels.reshape(preprocessing.height, preprocessing.width, preprocessing.channel_count)


def _resize(image: Image.Image, placement: Placement, preprocessing: Preprocessing) -> Image.Image:
    size, method = (placement.width, placement.height), _FILTERS[preprocessing.interpolation]
    if preprocessing.antialias:
        return image.resize(size, method)
    # Pillow's resize widens its filter with the scale; its affine transform interpolates only between neighbours.
    scale = (image.width / size[0], 0, 0, 0, image.height / size[1], 0)
    return image.transform(size, Image.Transform.AFFINE, scale, method)


def _cut(image: Image.Image, placement: Placement, preprocessing: Preprocessing) -> Image.Image:
    """The model's input from the resized image, with borders where the image is smaller."""
    left, top = placement.left, placement.top
    if left >= 0 and top >= 0:
        return image.crop((left, top, left + preprocessing.width, top + preprocessing.height))
    border = Image.new("RGB", (1, 1), preprocessing.border).convert(image.mode)
    canvas = border.resize((preprocessing.width, preprocessing.height))
    canvas.paste(image, (-left, -top))
    return canvas


def write_pixels(
    open_image: Callable[[int], Decoded],
    indices: Iterable[int],
    preprocessing: Preprocessing,
    path: Path,
    on_image: Callable[[], None],
) -> Written:
    """Write the images as one .npy file, uint8 (readable images, height, width, C), in the order of `indices`.

    An image that cannot be read is skipped; a failing disk or network is a `DataError`. Decoding runs in threads:
    Pillow decodes and resizes outside the interpreter's lock. Rows are written, not mapped, so that a full disk is an
    error and does not kill the process.
    """
    written = Written()
    digest = hashlib.sha256()
    rows = 0

    def pixels(index: int) -> tuple[Decoded, bytes, bytes] | str:
        try:
            decoded = open_image(index)
            row = resize_and_crop(decoded.image, preprocessing).tobytes()
        except Exception as error:  # Pillow's readers raise exceptions of any type for a damaged file
            return _why_unreadable(error)
        return decoded, row, hashlib.sha256(row).digest()

    with open(path, "wb") as file, ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        _write_header(file, rows, preprocessing)
        remaining = iter(indices)
        while block := list(itertools.islice(remaining, _BLOCK)):
            for index, result in zip(block, pool.map(pixels, block), strict=True):
                if isinstance(result, str):
                    written.skipped[index] = result
                else:
                    decoded, row, row_digest = result
                    file.write(row)
                    digest.update(row_digest)
                    rows += 1
                    written.sizes.append((decoded.image.height, decoded.image.width))
                    written.turned += decoded.turned
                    if decoded.peak is not None:
                        written.sixteen_bit += 1
                        written.peak = max(written.peak, decoded.peak)
                on_image()
        file.seek(0)
        _write_header(file, rows, preprocessing)  # numpy pads the header: it is as long for any number of rows
    written.sha256 = digest.hexdigest()
    return written


def _why_unreadable(error: Exception) -> str:
    """Raises `DataError` for an error whose cause is not the file itself."""
    if isinstance(error, MemoryError):
        raise error
    if isinstance(error, UnidentifiedImageError):
        return "not an image, or of a type that Pillow does not support"
    if isinstance(error, OSError) and error.errno is not None:  # an error of the system, not of Pillow
        if error.errno in _UNREADABLE_FILE:
            return error.strerror or str(error)
        raise DataError(
            f"cannot read the image {error.filename or ''}: {error.strerror}",
            hint="check the disk or network that it is on, or remove it from the data set",
        ) from error
    return str(error) or type(error).__name__


def _write_header(file: IO[bytes], rows: int, preprocessing: Preprocessing) -> None:
    shape = (rows, preprocessing.height, preprocessing.width, preprocessing.channel_count)
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
