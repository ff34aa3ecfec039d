"""Multiply-accumulates and parameters of a PyTorch module, from the operators that it dispatches."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from edlab.models.complexity.thop import can_check, count_thop, disagreement
from edlab.models.complexity.unknown import cannot_be_counted
from edlab.source import Complexity

if TYPE_CHECKING:
    import torch

_METHOD = "torch operators"


def count_torch(module: torch.nn.Module, example: torch.Tensor, *, cross_check: bool = True) -> Complexity:
    """MACs of one image, and elements of the parameters that the forward pass reads.

    `module`: a live module in eval mode, or that of an exported program; `example`: a valid batch. The forward pass
    runs on shapes, without data. With `cross_check`, thop counts too if it supports all products: if the counts differ
    by more than 5 %, the MACs are withheld.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    from edlab.models.complexity.torch_counter import Counter, plain_operators

    try:
        network = _copied(module, example)
        counter = Counter(network)
        with plain_operators(), FakeTensorMode(allow_non_fake_inputs=True) as shapes, counter:
            network(shapes.from_tensor(example))
    except Exception as error:  # a forward pass may raise anything
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]
        return Complexity(macs=None, parameters=None, method=_METHOD, note=f"cannot be counted from shapes: {reason}")
    parameters, batch = sum(counter.used.values()), example.shape[0]
    if counter.unknown:
        return Complexity(macs=None, parameters=parameters, method=_METHOD, note=cannot_be_counted(counter.unknown))
    macs, thop_macs = counter.macs // batch, None
    if cross_check and counter.macs == counter.macs_in_known_layers and can_check(module):
        thop_macs = count_thop(module, example)
        thop_macs = None if thop_macs is None else thop_macs // batch
    note = "" if thop_macs is None else disagreement(macs, thop_macs)
    return Complexity(
        macs=None if note else macs, parameters=parameters, method=_METHOD, thop_macs=thop_macs, note=note
    )


def _copied(module: torch.nn.Module, example: torch.Tensor) -> torch.nn.Module:
    """A copy, because some modules keep tensors of the forward pass, and those of a pass on shapes have no data."""
    import torch

    try:
        return copy.deepcopy(module)
    except RuntimeError:  # a tensor that was computed cannot be copied; torch.nn.utils.weight_norm keeps one
        return torch.export.export(module, (example,)).module()
