"""Opens an ONNX file as a torch module, by onnx2torch."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from edlab.converters import onnx_lower, onnx_prepare
from edlab.errors import ConversionError
from edlab.torchvision_import import import_torchvision

if TYPE_CHECKING:
    import torch


OPSET = 17  # the newest whose operators onnx2torch reads


class Opened(NamedTuple):
    """An ONNX file as a torch module."""

    module: torch.nn.Module
    example: torch.Tensor  # an input with a batch of 1
    changes: dict[str, Any]  # what was changed in the graph, so that it could be read


def load_onnx(path: str) -> Opened:
    """Open an ONNX file with one input; its graph is written in opset 17 if it has a newer one.

    Raises `ConversionError`, which names an operator that onnx2torch does not support.
    """
    import onnx
    import torch

    import_torchvision()
    import onnx2torch

    model, changes = _readable(onnx.load(path))
    given = onnx_prepare.inputs(model.graph)[0]  # edlab refuses a model with several
    shape = [dim.dim_value or 1 for dim in given.type.tensor_type.shape.dim]  # what has no size is the batch
    example = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    try:
        return Opened(_folded(onnx2torch.convert(model).eval(), example), example, changes)
    except Exception as error:  # its exceptions have no common base
        operator = re.search(r"operation_type='(\w+)', version=(\d+)", str(error))
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        what = (
            f"does not support {operator[1]} of opset {operator[2]}" if operator else f"cannot read the model: {reason}"
        )
        raise ConversionError(
            f"onnx2torch {what}",
            hint="start from torch, or set converter=onnxruntime or openvino",
        ) from error


def _readable(model: Any) -> tuple[Any, dict[str, Any]]:
    """The same model with operators that onnx2torch reads, as far as that is possible, and what was changed."""
    if model.functions:
        model = onnx_prepare.inline(model)
    given = onnx_prepare.opset_of(model)
    expanded = onnx_lower.expand(model, _known(min(given, OPSET)))
    changes: dict[str, Any] = {}
    if replaced := _operators(model) - _operators(expanded):
        changes["expanded_operators"] = sorted(replaced)
    if given > OPSET:
        expanded = onnx_lower.lower(expanded, OPSET)
        changes |= {"opset": given, "lowered_to_opset": OPSET}
    _simplify(expanded)
    return expanded, changes


def _operators(model: Any) -> set[str]:
    return {node.op_type for node in model.graph.node}


def _known(opset: int) -> set[str]:
    """The operators of an opset that onnx2torch reads."""
    import onnx
    from onnx2torch.node_converters import get_converter

    known = set()
    for name in {schema.name for schema in onnx.defs.get_all_schemas() if not schema.domain}:
        with suppress(NotImplementedError):
            get_converter(name, opset)
            known.add(name)
    return known


def _simplify(model: Any) -> None:
    """Write what torch's exporters write in the form that onnx2torch reads, in place.

    They write equal weights once, and an Identity of them elsewhere: it becomes the weights themselves. `allowzero`
    makes a difference only for tensors without elements.
    """
    weights = {weight.name for weight in model.graph.initializer}
    aliases = {
        node.output[0]: node.input[0]
        for node in model.graph.node
        if node.op_type == "Identity" and node.input[0] in weights
    }
    for node in model.graph.node:
        node.input[:] = [aliases.get(name, name) for name in node.input]
        for attribute in [each for each in node.attribute if (node.op_type, each.name) == ("Reshape", "allowzero")]:
            node.attribute.remove(attribute)


def _folded(module: torch.nn.Module, example: torch.Tensor) -> torch.nn.Module:
    """The module with everything that does not depend on its input computed in advance.

    onnx2torch reads shapes, scales and pads from tensors when it runs, which torch.export refuses.
    """
    import torch
    from torch.fx.experimental.proxy_tensor import disable_proxy_modes_tracing, get_proxy_mode, make_fx
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class Fold(TorchDispatchMode):  # type: ignore[misc,unused-ignore]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            traced = get_proxy_mode().tracer.tensor_tracker
            if not any(isinstance(leaf, torch.Tensor) and leaf in traced for leaf in tree_leaves((args, kwargs))):
                with disable_proxy_modes_tracing():
                    return func(*args, **kwargs)
            for argument, value in zip(func._schema.arguments, args, strict=False):
                if argument.is_write and value not in traced:  # a copy, else each run would change the constant
                    with disable_proxy_modes_tracing():
                        before = value.clone()
                    traced[value] = traced[before.clone()]
            return func(*args, **kwargs)

    def run(images: torch.Tensor) -> Any:
        with Fold():
            return module(images)

    with torch.no_grad():
        folded: torch.fx.GraphModule = make_fx(run)(example).eval()
    views = {torch.ops.aten.view.default, torch.ops.aten._unsafe_view.default}
    for node in folded.graph.nodes:
        if node.target in views:  # of the example's memory; an image with channels last in memory has no such view
            node.target = torch.ops.aten.reshape.default
    folded.recompile()
    return folded
