"""A second count for a live PyTorch module: thop counts by the types of layers, not by dispatched operators."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_TOLERANCE = 0.05


def known_layers() -> tuple[type[torch.nn.Module], ...]:
    """The layers whose products thop counts in the same way as edlab.

    thop uses the output size of a transposed convolution as its input size, and adds biases and gates to the products
    of recurrent layers, so these are not included.
    """
    from torch import nn

    return nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear


def can_check(module: torch.nn.Module) -> bool:
    """Whether each layer occurs once: thop counts a layer with two positions at both, with both uses each time."""
    return len(list(module.named_modules(remove_duplicate=False))) == len(list(module.modules()))


def count_thop(module: torch.nn.Module, example: torch.Tensor) -> int | None:
    """MACs of one forward pass of `known_layers` only: thop's counts of normalisation and pooling are not products."""
    import thop
    from thop.profile import register_hooks, zero_ops

    products = known_layers()
    free = {layer: zero_ops for layer in register_hooks if layer not in products}
    try:
        network = copy.deepcopy(module)  # thop adds buffers to the module
        macs, _ = thop.profile(network, inputs=(example,), custom_ops=free, verbose=False)
    except Exception as error:
        print(f"thop cannot count this model: {type(error).__name__}: {error}")  # noqa: T201  (goes to the log)
        return None
    return int(macs)


def disagreement(macs: int, thop_macs: int) -> str:
    """Why neither of two counts is reliable; empty if they agree."""
    if abs(macs - thop_macs) <= _TOLERANCE * max(macs, thop_macs):
        return ""
    return f"the counts disagree by more than {_TOLERANCE:.0%}: {macs:,} MACs by edlab, {thop_macs:,} by thop"
