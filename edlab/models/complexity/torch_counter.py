"""The dispatch mode that counts; separate from `torch.py`, so that importing `torch.py` imports no framework."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from edlab.models.complexity.thop import known_layers
from edlab.models.complexity.torch_operators import FORMULAS, FREE


class Counter(TorchDispatchMode):  # type: ignore[misc]
    """Counts the products among the operators that are dispatched, and names unknown operators.

    `macs`: multiply-accumulates; `macs_in_known_layers`: those inside layers that thop counts in the same way;
    `unknown`: names of operators that are neither free nor have a formula; `used`: elements of the parameters that were
    read, by id.
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
        name = operator._schema.name.removesuffix("_")  # in place
        if name in FORMULAS:
            output = operator(*args, **keywords)
            macs = FORMULAS[name](args, output)
            self.macs += macs
            self.macs_in_known_layers += macs if self._inside else 0
            return output
        if name in FREE or operator.is_view or torch.Tag.pointwise in operator.tags:
            return operator(*args, **keywords)
        with self:
            output = operator.decompose(*args, **keywords)
        if output is not NotImplemented:
            return output
        self.unknown.add(name)
        return operator(*args, **keywords)

    def _higher_order(self, operator: Any, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """Graphs inside an operator: counted if they run once, or are one of two branches of equal cost."""
        name = operator.name()
        if name == "wrap_with_set_grad_enabled":
            return self._enter_graph(args[1], args[2:])[1]
        if name == "wrap_with_autocast":
            return self._enter_graph(args[4], args[5:])[1]
        if name == "cond":
            _, then, otherwise, operands = args
            macs, output = self._enter_graph(then, operands)
            before = self.macs, self.macs_in_known_layers
            other, _ = self._enter_graph(otherwise, operands)
            self.macs, self.macs_in_known_layers = before
            if macs != other:
                self.unknown.add("cond with branches of different cost")
            return output
        self.unknown.add(name)
        return operator(*args, **keywords)

    def _enter_graph(self, graph: Any, operands: Sequence[Any]) -> tuple[int, Any]:
        """The cost of the graph, which is already added to the sum, and its output."""
        before = self.macs
        with self:
            output = graph(*operands)
        return self.macs - before, output


@contextmanager
def plain_operators() -> Iterator[None]:
    """Runs attention and recurrent layers as the products that they consist of, not as fused kernels."""
    fast, onednn = torch.backends.mha.get_fastpath_enabled(), torch.backends.mkldnn.enabled
    torch.backends.mha.set_fastpath_enabled(False)
    torch.backends.mkldnn.enabled = False
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        torch.backends.mkldnn.enabled = onednn
