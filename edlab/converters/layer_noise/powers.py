"""Sums of signal and noise over images."""

from __future__ import annotations

from typing import Any

import numpy as np


class Powers:
    """The power of each value and of its noise, added up over images."""

    def __init__(self) -> None:
        self._signal: dict[str, float] = {}
        self._noise: dict[str, float] = {}

    def add(self, name: str, floating: Any, quantized: Any) -> None:
        """Add one image's value: as the float32 graph computes it, and the quantized one. Other shapes are ignored."""
        signal = np.asarray(floating, np.float64).ravel()
        other = np.asarray(quantized, np.float64).ravel()
        if signal.shape == other.shape:
            self._signal[name] = self._signal.get(name, 0.0) + float(signal @ signal)
            self._noise[name] = self._noise.get(name, 0.0) + float((signal - other) @ (signal - other))

    def ratios(self) -> dict[str, float]:
        """Noise power / signal power by value; values that are always 0 have none."""
        return {name: self._noise[name] / signal for name, signal in self._signal.items() if signal > 0}
