"""The layers of a model file, with the multiply-accumulates of each. Runs in a separate process: it imports SDKs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edlab.metrics.profile import SourceLayer

FORMATS = ("pt2", "onnx")  # that `read_layers` reads


def read_layers(path: str, format: str, shape: Sequence[int]) -> list[dict[str, Any]]:
    """The fields of each `SourceLayer` in the order of execution; `shape` of the input is for free dimensions."""
    layers = _of_program(path) if format == "pt2" else _of_onnx(path, shape)
    return [layer._asdict() for layer in layers]


def _of_onnx(path: str, shape: Sequence[int]) -> list[SourceLayer]:
    import onnx

    from edlab.models.complexity.onnx import count_each, operator_name

    model = onnx.load(path)
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    weights = {weight.name for weight in model.graph.initializer}
    (source,) = (value for value in model.graph.input if value.name not in weights)
    stated = [dimension.dim_value for dimension in source.type.tensor_type.shape.dim]
    macs = count_each(model, source.name, [own or given for own, given in zip(stated, shape, strict=True)])
    return [
        SourceLayer(node.name, operator_name(node), list(node.input), list(node.output), macs.get(node.output[0], 0))
        for node in model.graph.node
        if node.op_type != "Constant"
    ]


def _of_program(path: str) -> list[SourceLayer]:
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    from edlab.models.complexity.torch_counter import Counter, plain_operators

    module = torch.export.load(path).module()
    counter = Counter(module)
    layers: list[SourceLayer] = []

    class Interpreter(torch.fx.Interpreter):  # type: ignore[misc]
        def run_node(self, node: Any) -> Any:
            before = counter.macs
            result = super().run_node(node)
            if node.op == "call_function":
                stack = list((node.meta.get("nn_module_stack") or {}).values())
                layers.append(
                    SourceLayer(
                        node.name,
                        str(node.target),
                        [each.name for each in node.all_input_nodes],
                        [node.name],
                        counter.macs - before,
                        str(stack[-1][0]) if stack else "",
                    )
                )
            return result

    (value,) = (node.meta["val"] for node in module.graph.nodes if node.op == "placeholder")
    example = torch.zeros([size if isinstance(size, int) else 1 for size in value.shape], dtype=value.dtype)
    with plain_operators(), FakeTensorMode(allow_non_fake_inputs=True) as shapes, counter:
        Interpreter(module).run(shapes.from_tensor(example))
    return layers
