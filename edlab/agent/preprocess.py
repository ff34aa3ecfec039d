"""From stored uint8 images to a model's input tensor, and from its output tensor to logits and classes."""

from __future__ import annotations

from typing import Sequence

import numpy as np

_SOURCES = {"rgb": (0, 1, 2), "bgr": (2, 1, 0)}  # which channel of a stored image each channel of the input takes


def normalise(
    images: np.ndarray, mean: Sequence[float], std: Sequence[float], layout: str, channels: str = "rgb"
) -> np.ndarray:
    """(x / 255 - mean) / std per channel: uint8 RGB (N, H, W, 3) -> float32 (N, 3, H, W) or (N, H, W, 3).

    `layout` is "NCHW" or "NHWC"; `channels`, "rgb" or "bgr", is the order in the result, and that of mean and std.
    """
    return InputTable(mean, std, layout, channels=channels).apply(images)


class InputTable:
    """What each of the 256 values of a channel becomes: normalised, quantized and cast, looked up once a pixel.

    Stored images are RGB; `channels`, "rgb" or "bgr", is the order of the input's channels, and that of mean and std.
    `dtype` is the input's; an integer one is quantized with `scale` and `zero_point`: round(x / scale) + zero_point,
    clipped to the dtype's range.
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
        self._table = np.ascontiguousarray(values.T.astype(dtype))  # (3, 256)
        self._layout = layout
        self._sources = _SOURCES[channels]

    def shape(self, count: int, height: int, width: int) -> Sequence[int]:
        """The shape of the tensor that holds `count` images."""
        return (count, 3, height, width) if self._layout == "NCHW" else (count, height, width, 3)

    def apply(self, images: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """uint8 RGB (N, H, W, 3) -> a tensor in the input's layout and dtype, written into `out` where it is given."""
        if out is None:
            out = np.empty(self.shape(*images.shape[:3]), self._table.dtype)
        channels = np.moveaxis(out, 1 if self._layout == "NCHW" else 3, 0)
        for channel, (source, table) in enumerate(zip(self._sources, self._table)):
            channels[channel] = table.take(images[..., source], mode="wrap")  # a uint8 never wraps: no checks
        return out


def dequantize(output: np.ndarray, scale: float | None, zero_point: int | None) -> np.ndarray:
    """The float32 values of an output tensor: (q - zero_point) * scale where it is quantized."""
    values = output.astype(np.float32)
    return (values - np.float32(zero_point or 0)) * np.float32(scale) if scale else values


def top_classes(logits: np.ndarray, k: int) -> np.ndarray:
    """The k best classes of each row, best first: (N, C) -> int32 (N, min(k, C)).

    Equal values keep the order of their classes. A NaN or minus infinity is never among the best: -1 stands there.
    """
    values = np.where(np.isnan(logits), -np.inf, logits)
    rows = np.arange(len(values))
    best = np.empty((len(values), min(k, values.shape[1])), np.int32)
    for rank in range(best.shape[1]):  # k passes cost a tenth of a sort
        leaders = values.argmax(axis=1)
        best[:, rank] = np.where(np.isneginf(values[rows, leaders]), -1, leaders)
        values[rows, leaders] = -np.inf
    return best
