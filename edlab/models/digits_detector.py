"""The embedded detector: a small single-stage network for scenes of handwritten digits, with one anchor per cell."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edlab.models.digits_cnn import InvertedResidual, conv

SIZE = 128  # pixels per side of the input
CLASSES = 10
STRIDE = 8  # pixels between the centres of two cells
ANCHOR = (36, 52)  # width and height, pixels: the middle of the digits'
BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)


def anchors() -> NDArray[np.float32]:
    """float32 (A, 4): centre x, centre y, width, height as fractions of the input, row by row."""
    centres = (np.arange(SIZE // STRIDE) + 0.5) * STRIDE / SIZE
    y, x = np.meshgrid(centres, centres, indexing="ij")
    sides = np.broadcast_to(np.array(ANCHOR) / SIZE, (x.size, 2))
    return np.concatenate([x.reshape(-1, 1), y.reshape(-1, 1), sides], axis=1).astype(np.float32)


class DigitsDetector(nn.Module):  # type: ignore[misc]
    """Images (N, 3, 128, 128), float32, to coded boxes (N, 256, 4) and class logits (N, 256, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Sequential(
            conv(3, 16, 3, stride=2),
            conv(16, 32, 3, stride=2),
            InvertedResidual(32, expansion=2),
            conv(32, 48, 3, stride=2),
            InvertedResidual(48, expansion=3),
            InvertedResidual(48, expansion=3),
        )
        self.coarse = nn.Sequential(
            conv(48, 64, 3, stride=2),
            InvertedResidual(64, expansion=3),
            InvertedResidual(64, expansion=3),
            conv(64, 48, 1),
            nn.Upsample(scale_factor=2, mode="nearest"),
        )
        self.neck = nn.Sequential(InvertedResidual(48, expansion=3), InvertedResidual(48, expansion=3))
        self.boxes = nn.Sequential(InvertedResidual(48, expansion=2), nn.Conv2d(48, 4, 1))
        self.classes = nn.Sequential(InvertedResidual(48, expansion=2), nn.Conv2d(48, CLASSES, 1))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        fine = self.fine(images)
        features = self.neck(fine + self.coarse(fine))
        return _rows(self.boxes(features)), _rows(self.classes(features))


def _rows(cells: torch.Tensor) -> torch.Tensor:
    """(N, C, height, width) as (N, cells, C)."""
    return cells.flatten(2).transpose(1, 2)
