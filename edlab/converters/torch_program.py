"""Opens an exported program (.pt2) for the exporters that want a module."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def load_frozen(path: str) -> tuple[torch.nn.Module, torch.Tensor]:
    """The module of an exported program, and an example of its input (1, 3, height, width).

    The module refuses to change mode: an exported program is in inference already, and the exporters' calls of
    `eval()` or `train()` raise on it.
    """
    import torch

    program = torch.export.load(path)
    (example,), _ = program.example_inputs

    class Frozen(torch.nn.Module):  # type: ignore[misc]
        def __init__(self, module: torch.nn.Module) -> None:
            super().__init__()
            self.module = module
            self.training = False

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.module(images)
            return logits

        def train(self, mode: bool = True) -> Frozen:
            return self

    return Frozen(program.module()), example
