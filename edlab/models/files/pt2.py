"""PyTorch's exported programs (.pt2)."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edlab.config import ModelConfig
from edlab.errors import ModelError
from edlab.models.complexity import count_torch
from edlab.models.files.base import (
    ModelFile,
    damaged,
    first_line,
    random_operators,
    read_input,
    training_mode,
)
from edlab.models.files.stated import Affine, Stated
from edlab.models.outputs import choose_outputs, shapes_of
from edlab.source import Reason

if TYPE_CHECKING:
    import torch

_EXPORT = "export it with torch.export.save(torch.export.export(model.eval(), (images,)), FILE)"
SINGLE = "output"  # the name of an output that is one tensor, which PyTorch does not name
_PASSING = ("aten.to", "aten._to_copy", "aten.contiguous", "aten.clone", "aten.alias", "aten.detach")
_ARITHMETIC = {"aten.mul": "multiply", "aten.div": "divide", "aten.add": "add", "aten.sub": "subtract"}


def read(config: ModelConfig, path: Path, copy: Path) -> ModelFile:
    """See `load_file`. The copy is unchanged, unless an output was chosen."""
    import torch

    try:
        program = torch.export.load(path)
    except Exception as error:  # torch.export's reader raises the exceptions of all its parts
        raise _explain(path, error) from error
    examples = torch.utils._pytree.tree_leaves(program.example_inputs or ())
    if len(examples) != 1 or not isinstance(examples[0], torch.Tensor):
        raise ModelError(f"{path.name} was not exported with one example tensor", hint=_EXPORT)
    source = read_input(config, path, _free_shape(program, examples[0]), _stated(program))
    module = program.module()
    example = torch.zeros(source.shape, dtype=examples[0].dtype)
    named = named_outputs(_run(path, module, example))
    chosen = choose_outputs(config, path.name, shapes_of(named), source.size)
    if len(named) > 1 or named[0][0] != SINGLE:
        module = with_outputs(module, chosen.positions)
        program = torch.export.export(module, (example,))
        torch.export.save(program, copy)
    else:
        shutil.copyfile(path, copy)
    return ModelFile(
        format="pt2",
        path=copy,
        layout=source.layout,
        precision=_precision(program),
        outputs=chosen.read(source.size),
        preprocessing=source.preprocessing,
        preprocessing_origins=source.origins,
        preprocessing_note=source.note,
        complexity=count_torch(module, example, cross_check=False),
        reasons=reasons_of(program),
    )


def _run(path: Path, module: Any, example: torch.Tensor) -> Any:
    import torch

    try:
        with torch.no_grad():
            return module(example)
    except Exception as error:  # operators may raise anything
        raise ModelError(
            f"{path.name} does not accept one image of {tuple(example.shape)}: {first_line(error)}",
            hint="export it with a batch of 1, or with a free batch dimension that can be 1",
        ) from error


def named_outputs(result: Any) -> list[tuple[str, torch.Tensor]]:
    """The tensors that a network returns, by their keys and indices: "logits", "0", "heads.1"."""
    import torch
    from torch.utils import _pytree

    if isinstance(result, torch.Tensor):
        return [(SINGLE, result)]
    if vars(type(result)).get("__dataclass_fields__") and isinstance(result, dict):
        result = dict(result)  # transformers' outputs are both
    pairs, _ = _pytree.tree_flatten_with_path(result)
    return [
        (".".join(str(getattr(key, "key", getattr(key, "idx", getattr(key, "name", key)))) for key in path), leaf)
        for path, leaf in pairs
        if isinstance(leaf, torch.Tensor)
    ]


def with_outputs(module: Any, positions: Sequence[int]) -> Any:
    """The module with a selection of the tensors of `named_outputs` as its outputs: one tensor, or a tuple."""
    import torch

    class WithOutputs(torch.nn.Module):  # type: ignore[misc,unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, images: torch.Tensor) -> Any:
            named = named_outputs(self.module(images))
            tensors = tuple(named[position][1] for position in positions)
            return tensors if len(tensors) > 1 else tensors[0]

    return WithOutputs()


def _free_shape(program: Any, example: torch.Tensor) -> list[int | None]:
    """The shape of the input, None for a dimension that was exported as dynamic."""
    name = next(iter(program.graph_signature.user_inputs), None)
    value = next((node.meta.get("val") for node in program.graph.nodes if node.name == name), None)
    shape = example.shape if value is None else value.shape
    return [length if isinstance(length, int) else None for length in shape]


def _stated(program: Any) -> Stated:
    """Products and sums with constants, at the beginning of the graph."""
    nodes = {node.name: node for node in program.graph.nodes}
    tensor = nodes.get(next(iter(program.graph_signature.user_inputs), ""))
    constants = _constants(program)
    affine = Affine()
    while tensor is not None:
        users = [node for node in tensor.users if "_assert" not in str(node.target)]
        if len(users) != 1 or not _apply(affine, users[0], tensor, constants):
            break
        tensor = users[0]
    return affine.takes()


def _constants(program: Any) -> dict[str, Any]:
    """The small buffers and constants of a program, by the names of their nodes."""
    signature = program.graph_signature
    names = {**signature.inputs_to_buffers, **signature.inputs_to_lifted_tensor_constants}
    values = {**program.constants, **program.state_dict}
    found = {node: values.get(name) for node, name in names.items()}
    return {node: value for node, value in found.items() if value is not None and value.numel() <= 3}


def _apply(affine: Affine, node: Any, tensor: Any, constants: dict[str, Any]) -> bool:
    kind = str(node.target).rpartition(".")[0]
    if kind in _PASSING:
        return True
    if kind not in _ARITHMETIC or len(node.args) != 2 or node.kwargs:
        return False
    first, second = node.args
    if first is not tensor and kind in ("aten.div", "aten.sub"):
        return False
    other = second if first is tensor else first
    value = constants.get(other.name) if hasattr(other, "name") else other
    return value is not None and bool(getattr(affine, _ARITHMETIC[kind])(value, kind.removeprefix("aten.")))


def reasons_of(program: Any) -> tuple[Reason, ...]:
    """Operators in training mode, and those that draw random numbers."""
    import torch

    training: list[str] = []
    drawing: list[str] = []
    for node in _calls(program.graph_module):
        schema = getattr(node.target, "_schema", None)
        names = [argument.name for argument in schema.arguments] if schema else []
        values = {**dict(zip(names, node.args, strict=False)), **node.kwargs}
        mode = [key for key in ("train", "training", "use_input_stats") if key in names]
        if mode and "instance_norm" not in str(node.target):
            if values.get(mode[0]):
                training.append(str(node.target))
        elif "batch_norm_legit" in str(node.target) and "no_training" not in str(node.target):
            training.append(str(node.target))
        elif torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
            drawing.append(str(node.target))
    found = [(training_mode, training), (random_operators, drawing)]
    return tuple(make(names) for make, names in found if names)


def _calls(graph_module: Any) -> Iterator[Any]:
    """The calls of a graph and of the graphs inside it, such as the branches of torch.cond."""
    for module in graph_module.modules():
        for node in module.graph.nodes if hasattr(module, "graph") else ():
            if node.op == "call_function":
                yield node


def _precision(program: Any) -> str:
    import torch

    if any("quantized_decomposed" in str(node.target) for node in _calls(program.graph_module)):
        return "int8"
    types = {tensor.dtype for tensor in program.state_dict.values()}
    return "fp16" if torch.float16 in types else "fp32"


def _explain(path: Path, error: Exception) -> ModelError:
    """The error for what an intact program needs and is missing: a library of operators, another PyTorch."""
    import torch

    text = str(error)
    if "_OpNamespace" in text or ("no attribute" in text and "torch.ops" in text):
        return ModelError(
            f"{path.name} has operators of a library that is not part of PyTorch: {first_line(error)}",
            hint="replace them with PyTorch's own and export again, or build the model in Python: model=python",
        )
    if "version" in text.lower() and "schema" in text.lower():
        return ModelError(
            f"{path.name} was exported with another version of PyTorch than {torch.__version__}: {first_line(error)}",
            hint="export it again with the installed version",
        )
    return damaged(path, "an exported program", error)
