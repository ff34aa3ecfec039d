"""What a model file states about the values of its input: by its quantization, its metadata, its first operators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ALIKE = 0.9  # two ranges are the same, except for rounding and the choice of calibration images
_ROUNDING_STEPS = 1.5  # of its scale, by which the ends of such a range may differ from the usual ones
_USABLE = 0.75  # of an integer input's range, and of the values fed: with less, most of one of the two is lost

# The ranges that images are scaled to, and the preprocessing for each. No other range identifies its preprocessing:
# -2.1..2.6 may be ImageNet's mean and standard deviation, or those of another data set.
_RANGES: tuple[tuple[float, float, float, float], ...] = (  # low, high, mean, std
    (0.0, 255.0, 0.0, 1 / 255),
    (0.0, 1.0, 0.0, 1.0),
    (-1.0, 1.0, 0.5, 0.5),
)


@dataclass(frozen=True)
class Range:
    """The values that an integer input can represent, and where the file states it."""

    low: float
    high: float
    note: str  # "the input's quantization (scale 1, zero point -128)"

    def overlap(self, low: float, high: float) -> float:
        """The length that both ranges share, relative to the longer one: 1 if they are the same range."""
        common = min(self.high, high) - max(self.low, low)
        return max(0.0, common) / max(self.high - self.low, high - low, 1e-12)

    def __str__(self) -> str:
        return f"{self.low:.4g}..{self.high:.4g}"


@dataclass(frozen=True)
class Stated:
    """Keys of `Preprocessing` that a file states, their source, and the range of an integer input."""

    values: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""
    range: Range | None = None


def normalisation(mean: Sequence[float] | float, std: Sequence[float] | float, note: str) -> Stated:
    """Mean and standard deviation on 0..1, one number or one for each channel."""
    return Stated({"mean": _triple(mean), "std": _triple(std)}, note)


def raw_pixels(note: str) -> Stated:
    """The input is 0..255."""
    return normalisation(0.0, 1 / 255, note)


def quantized_range(scale: float, zero_point: int, dtype: Any, note: str) -> Range:
    """The real values of an integer input: scale * (q - zero point)."""
    limits = np.iinfo(dtype)
    return Range(scale * (int(limits.min) - zero_point), scale * (int(limits.max) - zero_point), note)


def quantization(scale: float, zero_point: int, dtype: Any, where: str) -> Stated:
    """What the quantization of an input states: pixels as 0..255, 0..1 or -1..1, or only the range.

    If the ends differ only by rounding, a pixel is fed as its own integer (minus 128 for int8), as in the vendors'
    examples (google-coral/pycoral, examples/classify_image.py): scale 1/128 ends at 0.992, and pixels normalised to
    -1..1 would be off by one step.
    """
    note = f"{where} (scale {scale:.6g}, zero point {zero_point})"
    found = quantized_range(scale, zero_point, dtype, note)
    for low, high, mean, std in _RANGES:
        if found.overlap(low, high) >= _ALIKE:
            if max(abs(found.low - low), abs(found.high - high)) <= _ROUNDING_STEPS * scale:
                mean, std = keys_for(found)
            stated = normalisation(mean, std, f"{note}: pixels as {low:g}..{high:g}")
            return Stated(stated.values, stated.note, found)
    return Stated(range=found)


def fits(found: Range, mean: Sequence[float], std: Sequence[float]) -> bool:
    """Whether pixels normalised in this way use the range of an integer input, and stay within it."""
    low = min((0 - m) / s for m, s in zip(mean, std, strict=True))
    high = max((1 - m) / s for m, s in zip(mean, std, strict=True))
    return found.overlap(min(low, high), max(low, high)) >= _USABLE


def alike(one: Stated, other: Stated, scale: float) -> bool:
    """Whether two normalisations map every pixel to the same step of an input's scale, except for rounding."""

    def ends(stated: Stated) -> NDArray[np.float64]:
        mean, std = np.array(stated.values["mean"]), np.array(stated.values["std"])
        return np.array([(0 - mean) / std, (1 - mean) / std])

    return bool(np.abs(ends(one) - ends(other)).max() <= _ROUNDING_STEPS * scale)


def keys_for(found: Range) -> tuple[float, float]:
    """The mean and std on 0..1 that map pixels to exactly this range."""
    std = 1 / (found.high - found.low)
    return 0.0 - found.low * std, std


class Affine:
    """a * x + b for each channel: what the first operators of a graph do to its input."""

    def __init__(self) -> None:
        self._scale: NDArray[np.float64] = np.ones(3)
        self._offset: NDArray[np.float64] = np.zeros(3)
        self._steps: list[str] = []

    @property
    def started(self) -> bool:
        return bool(self._steps)

    def multiply(self, factor: Any, name: str) -> bool:
        """Multiply by `factor` if it is one number, or one for each of three channels; whether it was."""
        values = _channels(factor)
        if values is None:
            return False
        self._scale, self._offset = self._scale * values, self._offset * values
        self._steps.append(name)
        return True

    def divide(self, divisor: Any, name: str) -> bool:
        values = _channels(divisor)
        return values is not None and bool(np.all(values != 0)) and self.multiply(1 / values, name)

    def add(self, summand: Any, name: str) -> bool:
        values = _channels(summand)
        if values is None:
            return False
        self._offset = self._offset + values
        self._steps.append(name)
        return True

    def subtract(self, subtrahend: Any, name: str) -> bool:
        values = _channels(subtrahend)
        return values is not None and self.add(-values, name)

    def rescale(self, scale: Any, offset: Any, name: str) -> bool:
        """x * scale + offset, as one step."""
        if _channels(scale) is None or _channels(offset) is None:
            return False
        self.multiply(scale, name)
        self.add(offset, name)
        self._steps.pop()
        return True

    def takes(self) -> Stated:
        """The pixels that these operators map to a usual range, if that is unambiguous; otherwise nothing.

        Their result for pixels has a spread of 1 to 6 (0..1, -1..1, or divided by standard deviations of 0.17 to 1)
        and is zero at black or at a usual mean; or only a mean of 0..255 is subtracted. 0..1 is recognised only by a
        mean that is subtracted: a factor of about 1 may follow any normalisation.
        """
        if not self._steps or bool(np.any(self._scale <= 0)):
            return Stated()
        zero = -self._offset / self._scale  # the pixel that becomes 0
        note = f"the graph's first operators ({', '.join(self._steps)})"
        mean_of_bytes = bool(np.all(self._scale == 1) and np.all((zero > 90) & (zero < 140)))
        if mean_of_bytes or _usual(255 * self._scale, zero / 255, least=-0.05):
            return raw_pixels(f"{note}: pixels as 0..255")
        if _usual(self._scale, zero, least=0.1):
            return normalisation(0.0, 1.0, f"{note}: pixels as 0..1")
        return Stated()


def _usual(spread: NDArray[np.float64], zero: NDArray[np.float64], least: float) -> bool:
    return bool(np.all((spread > 0.9) & (spread < 6.5) & (zero > least) & (zero < 0.8)))


def _channels(value: Any) -> NDArray[np.float64] | None:
    """Three numbers from a constant that is one number or one for each channel; None for anything else."""
    try:
        array = np.asarray(value, np.float64).ravel()
    except (TypeError, ValueError):
        return None
    return np.broadcast_to(array, 3).copy() if array.size in (1, 3) else None


def _triple(value: Sequence[float] | float) -> tuple[float, float, float]:
    first, second, third = np.broadcast_to(np.asarray(value, np.float64), 3).tolist()
    return first, second, third
