"""Opens an ONNX file as a torch module, by onnx2torch."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from edlab.converters import onnx_prepare
from edlab.errors import ConversionError
from edlab.torchvision_import import import_torchvision

if TYPE_CHECKING:
    import torch


def load_onnx(path: str) -> tuple[torch.nn.Module, torch.Tensor]:
    """The module of an ONNX file with one input, and an example input with a batch of 1.

    Raises `ConversionError` that names an operator that onnx2torch does not support.
    """
    import onnx
    import torch

    import_torchvision()
    import onnx2torch

    model = onnx.load(path)
    if model.functions:
        model = onnx_prepare.inline(model)
    given = onnx_prepare.inputs(model.graph)[0]  # edlab refuses a model with several
    shape = [dim.dim_value or 1 for dim in given.type.tensor_type.shape.dim]  # what has no size is the batch
    try:
        module = onnx2torch.convert(model).eval()
    except NotImplementedError as error:
        operator = re.search(r"operation_type='(\w+)', version=(\d+)", str(error))
        what = (
            f"does not support {operator[1]} of opset {operator[2]}" if operator else f"cannot read the model: {error}"
        )
        raise ConversionError(
            f"onnx2torch {what}",
            hint="export the model with opset 17 or lower, start from torch, or set converter=onnxruntime or openvino",
        ) from error
    example = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    return _folded(module, example), example


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
