"""Opens an exported program (.pt2) for the exporters that need a module."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def load_module(path: str) -> tuple[torch.nn.Module, torch.Tensor]:
    """The module of an exported program, and an example of its input (1, 3, height, width).

    Unflattened, it has the submodules of the model that was exported, so that nodes in the converted file are named
    after them; and it accepts the `eval()` of the exporters, which the program's own module refuses.
    """
    import torch

    program = torch.export.load(path)
    (example,), _ = program.example_inputs
    # If the batch is free, the example may have several images.
    return torch.export.unflatten(program).eval(), example[:1]
