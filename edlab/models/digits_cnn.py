"""The embedded model: a small CNN for scikit-learn's digits, built from the blocks of mobile networks."""

from __future__ import annotations

import torch
from torch import nn

SIZE = 32  # pixels per side of the input


def conv(inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(inplace=True),
    )


class InvertedResidual(nn.Module):  # type: ignore[misc]
    """The block of MobileNet V2: expand, filter each channel, project, add (Sandler et al., CVPR 2018)."""

    def __init__(self, channels: int, expansion: int) -> None:
        super().__init__()
        hidden = channels * expansion
        self.block = nn.Sequential(
            conv(channels, hidden, 1),
            conv(hidden, hidden, 3, groups=hidden),
            nn.Conv2d(hidden, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        filtered: torch.Tensor = self.block(features)
        return features + filtered


class DigitsCNN(nn.Sequential):  # type: ignore[misc]
    """Images (N, 3, 32, 32), float32, to logits (N, 10)."""

    def __init__(self) -> None:
        super().__init__(
            conv(3, 16, 3, stride=2),
            conv(16, 32, 3, stride=2),
            InvertedResidual(32, expansion=3),
            conv(32, 64, 3, stride=2),
            InvertedResidual(64, expansion=2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(64, 10),
        )
