"""The position of an image on the model's input: the geometry of resizing and cropping, without pixels."""

from __future__ import annotations

from typing import NamedTuple

from edlab.source import Preprocessing


class Placement(NamedTuple):
    """An image is resized to `width` x `height` pixels, and the model's input begins at `left`, `top` of it.

    They are negative if the input has borders. A point x of an image W pixels wide is at x * width / W - left of the
    input.
    """

    width: int
    height: int
    left: int
    top: int


def place(width: int, height: int, preprocessing: Preprocessing) -> Placement:
    """The placement of an image of width x height pixels.

    Sizes and offsets are rounded as torchvision's Resize and CenterCrop, and timm's ResizeKeepRatio, round them, so
    that accuracy is comparable.
    """
    resized_width, resized_height = _resized(width, height, preprocessing)
    left = _offset(resized_width, preprocessing.width)
    return Placement(resized_width, resized_height, left, _offset(resized_height, preprocessing.height))


def _resized(width: int, height: int, preprocessing: Preprocessing) -> tuple[int, int]:
    wanted_height, wanted_width, resize = preprocessing.height, preprocessing.width, preprocessing.resize
    if preprocessing.resize_mode == "letterbox":
        ratio = max(width / wanted_width, height / wanted_height)
        return max(1, round(width / ratio)), max(1, round(height / ratio))
    if resize is None:
        return wanted_width, wanted_height
    if preprocessing.resize_mode == "squash":
        return _shorter_side_to(resize, wanted_width, wanted_height)
    return _shorter_side_to(resize, width, height)


def _shorter_side_to(size: int, width: int, height: int) -> tuple[int, int]:
    if width <= height:
        return size, int(size * height / width)
    return int(size * width / height), size


def _offset(length: int, wanted: int) -> int:
    """Where the centre begins; torchvision rounds half to even when it crops, and up when it pads."""
    return round((length - wanted) / 2.0) if length >= wanted else -((wanted - length) // 2)
