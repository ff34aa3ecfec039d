"""Converts stored uint8 images to a model's input tensor, and its output tensors to numbers and classes."""

from __future__ import annotations

from typing import Sequence

import numpy as np

from .messages import NO_CHANNELS

# The channel of a stored image for each channel of the input.
_SOURCES = {"rgb": (0, 1, 2), "bgr": (2, 1, 0), "gray": (0,)}


def normalise(
    images: np.ndarray, mean: Sequence[float], std: Sequence[float], layout: str, channels: str = "rgb"
) -> np.ndarray:
    """(x / 255 - mean) / std per channel: uint8 (N, H, W, C) -> float32 (N, C, H, W) or (N, H, W, C).

    `layout` is "NCHW" or "NHWC"; `channels`, "rgb", "bgr" or "gray", are the channels of the result, in the order of
    mean and std.
    """
    return InputTable(mean, std, layout, channels=channels).apply(images)


class InputTable:
    """A table of the 256 values of a channel: normalised, quantized and cast, with one lookup per pixel.

    Stored images are RGB, or gray for a model of one channel; `channels`, "rgb", "bgr" or "gray", are the channels of
    the input, in the order of mean and std. `dtype` is the input's; integers are quantized with `scale` and
    `zero_point`: round(x / scale) + zero_point, clipped to the dtype's range.
    """

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        layout: str,
        dtype: str = "float32",
        scale: float | None = None,
        zero_point: int | None = None,
        channels: str = "rgb",
    ) -> None:
        values = (np.arange(256)[:, None] / 255.0 - np.asarray(mean, float)) / np.asarray(std, float)
        if scale:
            limits = np.iinfo(dtype)
            values = np.clip(np.round(values / scale) + (zero_point or 0), limits.min, limits.max)
        self._table = np.ascontiguousarray(values.T.astype(dtype))  # (C, 256)
        self._layout = layout
        self._sources = _SOURCES[channels]

    def shape(self, count: int, height: int, width: int, channels: int) -> Sequence[int]:
        """The shape of the tensor for `count` stored images."""
        return (count, channels, height, width) if self._layout == "NCHW" else (count, height, width, channels)

    def apply(self, images: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """uint8 (N, H, W, C) -> a tensor in the input's layout and dtype, written into `out` if it is given."""
        if out is None:
            count, height, width, channels = images.shape
            out = np.empty(self.shape(count, height, width, channels), self._table.dtype)
        channels = np.moveaxis(out, 1 if self._layout == "NCHW" else 3, 0)
        for channel, (source, table) in enumerate(zip(self._sources, self._table)):
            channels[channel] = table.take(images[..., source], mode="wrap")  # a uint8 never wraps: no checks
        return out


class ArrayTable:
    """Arrays that are not images: cast to `dtype`, and quantized with `scale` and `zero_point` if there is a scale.

    Integers of the input's own type are assumed to be quantized already.
    """

    def __init__(self, dtype: str = "float32", scale: float | None = None, zero_point: int | None = None) -> None:
        self._dtype = np.dtype(dtype)
        self._scale = scale
        self._zero_point = zero_point or 0

    def shape(self, count: int, *item: int) -> Sequence[int]:
        """The shape of the tensor for `count` arrays."""
        return (count, *item)

    def apply(self, arrays: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Arrays (N, ...) of any type -> a tensor of the input's type, written into `out` if it is given."""
        if out is None:
            out = np.empty(arrays.shape, self._dtype)
        if self._scale and arrays.dtype != self._dtype:
            limits = np.iinfo(self._dtype)
            out[...] = np.clip(np.round(arrays / self._scale) + self._zero_point, limits.min, limits.max)
        else:
            out[...] = arrays
        return out


def table_for(
    mean: Sequence[float],
    std: Sequence[float],
    channels: str,
    layout: str,
    dtype: str = "float32",
    scale: float | None = None,
    zero_point: int | None = None,
) -> InputTable | ArrayTable:
    """The table for stored images; for stored arrays if `channels` is `NO_CHANNELS`."""
    if channels == NO_CHANNELS:
        return ArrayTable(dtype, scale, zero_point)
    return InputTable(mean, std, layout, dtype, scale, zero_point, channels)


def dequantize(output: np.ndarray, scale: float | None, zero_point: int | None) -> np.ndarray:
    """The float32 values of an output tensor, itself if it is float32: (q - zero_point) * scale if it is quantized."""
    values = output.astype(np.float32, copy=False)
    return (values - np.float32(zero_point or 0)) * np.float32(scale) if scale else values


def top_classes(logits: np.ndarray, k: int) -> np.ndarray:
    """The k best classes of each row, best first: (N, C) -> int32 (N, min(k, C)).

    Equal values keep the order of their classes. A NaN or minus infinity is never among the best: its place has -1.
    """
    values = np.where(np.isnan(logits), -np.inf, logits)
    rows = np.arange(len(values))
    best = np.empty((len(values), min(k, values.shape[1])), np.int32)
    for rank in range(best.shape[1]):  # k passes cost a tenth of a sort
        leaders = values.argmax(axis=1)
        best[:, rank] = np.where(np.isneginf(values[rows, leaders]), -1, leaders)
        values[rows, leaders] = -np.inf
    return best
