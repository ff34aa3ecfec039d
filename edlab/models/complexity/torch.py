"""Multiply-accumulates and parameters of a live PyTorch module."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from edlab.source import Complexity

if TYPE_CHECKING:
    import torch


def count_torch(module: torch.nn.Module, example: torch.Tensor, *, cross_check: bool = True) -> Complexity:
    """MACs of one forward pass (convolutions and matrix products) and elements of all parameters.

    PyTorch counts floating-point operations as they are dispatched; a MAC is two of them.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(example)
    return Complexity(
        macs=counter.get_total_flops() // 2,
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        method="torch.utils.flop_counter",
        thop_macs=_thop(module, example) if cross_check else None,
    )


def _thop(module: torch.nn.Module, example: torch.Tensor) -> int | None:
    """thop's count, which includes batch norm and leaves out layers it does not know. It never decides anything."""
    import thop

    try:
        macs, _ = thop.profile(copy.deepcopy(module), inputs=(example,), verbose=False)  # it leaves buffers behind
    except Exception as error:
        print(f"thop cannot count this model: {type(error).__name__}: {error}")  # noqa: T201  (goes to the log)
        return None
    return int(macs)
