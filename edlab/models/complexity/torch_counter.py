"""The dispatch mode that counts; apart from `torch.py`, so that importing that one imports no framework."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from edlab.models.complexity.thop import known_layers
from edlab.models.complexity.torch_operators import FREE, PRODUCTS


class Counter(TorchDispatchMode):  # type: ignore[misc]
    """Counts the products among the operators that are dispatched, and names those that it does not know.

    `macs`: multiply-accumulates; `macs_in_known_layers`: those inside layers that thop counts alike; `unknown`: names
    of operators that are neither free nor have a formula; `used`: elements of the parameters that were read, by id.
    """

    supports_higher_order_operators = True

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.macs = 0
        self.macs_in_known_layers = 0
        self.unknown: set[str] = set()
        self.used: dict[int, int] = {}
        self._parameters = {id(parameter): parameter.numel() for parameter in network.parameters()}
        self._inside = False
        for layer in network.modules():
            if type(layer) in known_layers():
                layer.register_forward_pre_hook(lambda *_: self._enter(True))
                layer.register_forward_hook(lambda *_: self._enter(False))

    def _enter(self, inside: bool) -> None:
        self._inside = inside

    def __torch_dispatch__(
        self, operator: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        keywords = kwargs or {}
        for leaf in tree_leaves((args, keywords)):
            if id(leaf) in self._parameters:
                self.used[id(leaf)] = self._parameters[id(leaf)]
        if isinstance(operator, torch._ops.HigherOrderOperator):
            return self._higher_order(operator, args, keywords)
        output = operator(*args, **keywords)
        self._count(operator, args, output)
        return output

    def _count(self, operator: Any, args: tuple[Any, ...], output: Any) -> None:
        name = operator._schema.name.removesuffix("_")  # in place
        if name in PRODUCTS:
            macs = PRODUCTS[name](args, output)
            self.macs += macs
            self.macs_in_known_layers += macs if self._inside else 0
        elif not (name in FREE or operator.is_view or torch.Tag.pointwise in operator.tags):
            self.unknown.add(name)

    def _higher_order(self, operator: Any, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """Of graphs inside graphs, those that run once are entered: others' cost hangs on data."""
        name = operator.name()
        if name == "wrap_with_set_grad_enabled":
            _, body, *operands = args
        elif name == "wrap_with_autocast":
            *_, body, operands = args[:4], args[4], args[5:]
        else:
            self.unknown.add(name)
            return operator(*args, **keywords)
        with self:
            return body(*operands, **keywords)


@contextmanager
def plain_operators() -> Iterator[None]:
    """Attention and recurrent layers as the products that they are made of, not as fused kernels."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), torch.backends.mkldnn.flags(enabled=False):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
