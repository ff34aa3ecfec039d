"""ONNX files."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from edlab.config import ModelConfig
from edlab.errors import ModelError
from edlab.models.complexity.onnx import count_onnx, infer_shapes
from edlab.models.files import onnx_external, onnx_stated
from edlab.models.files.base import (
    ModelFile,
    damaged,
    first_line,
    random_operators,
    read_input,
    training_mode,
)
from edlab.models.outputs import choose_outputs
from edlab.packages import install
from edlab.source import Reason

_RANDOM = frozenset(
    ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial")
)
_INPUTS = {1: "float32", 2: "uint8", 10: "float16", 11: "float64"}  # of onnx.TensorProto.DataType
_CUSTOM = re.compile(r"([\w.]+:\w+)\(-?\d+\) is not a registered function/op|No Op registered for (\w+)")
_NO_KERNEL = re.compile(r"Could not find an implementation for (\w+)\(\d+\)")
_NEWEST_IR = re.compile(r"max supported IR version: (\d+)")


def read(config: ModelConfig, path: Path, copy: Path) -> ModelFile:
    """See `load_file`. The copy is unchanged, unless its weights are in other files or an output was chosen."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    outside = onnx_external.files_of(path)
    try:
        model = onnx.load(path)
    except (DecodeError, onnx.checker.ValidationError, OSError, ValueError) as error:
        raise damaged(path, "ONNX", error) from error
    _check(path, model)
    name = _input_name(path, model)
    value = next(value for value in model.graph.input if value.name == name)
    shape = [dimension.dim_value or None for dimension in value.type.tensor_type.shape.dim]
    source = read_input(config, path, shape, onnx_stated.stated(model, value))
    shapes = infer_shapes(model, name, source.shape)
    outputs = [(output.name, shapes.get(output.name) or _declared(output)) for output in model.graph.output]
    chosen = choose_outputs(config, path.name, outputs, source.size)
    if not chosen.all:
        _keep_outputs(model, set(chosen.names))
    complexity = count_onnx(model, name, source.shape)
    unshared = _unshare_quantization(model)
    if outside or unshared or not chosen.all:
        onnx.save(model, copy)  # weights that were outside the file are now inside
    else:
        shutil.copyfile(path, copy)
    read = chosen.read(source.size, shapes=_run(path, model, copy, source.shape))
    return ModelFile(
        format="onnx",
        path=copy,
        layout=source.layout,
        precision=_precision(path, model),
        outputs=read,
        preprocessing=source.preprocessing,
        preprocessing_origins=source.origins,
        preprocessing_note=source.note,
        complexity=complexity,
        class_names=onnx_stated.class_names(model, read.facts.num_classes),
        reasons=_reasons(model),
        fixed_batch=shape[:1] not in ([], [None]),
    )


def _check(path: Path, model: Any) -> None:
    """Raise `ModelError` for a file that ONNX does not allow, or that is newer than the installed package."""
    import onnx

    newest = onnx.defs.onnx_opset_version()
    opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    if opset > newest:
        upgrade = install(["onnx", "onnxruntime"], "-U")
        raise ModelError(
            f"{path.name} has opset {opset}, and the installed onnx {onnx.__version__} supports opsets up to {newest}",
            hint=f"export it with opset_version={newest} or lower, or upgrade: {upgrade}",
        )
    if model.ir_version > onnx.IR_VERSION:
        return  # the checker refuses these without reading them; onnxruntime reports what it cannot read
    try:
        onnx.checker.check_model(path)
    except onnx.checker.ValidationError as error:
        raise _explain(path, error) from error


def _explain(path: Path, error: Exception) -> ModelError:
    """The error for what an intact file needs and is missing; "damaged" if it is none of these."""
    text = str(error)
    if custom := _CUSTOM.search(text):
        operator = custom[1] or custom[2]
        return ModelError(
            f"{path.name} has the operator {operator}, which is neither a standard one of the file's opset nor "
            "onnxruntime's own",
            hint="replace it with standard operators or an ONNX function and export again; operators of custom "
            "libraries are unsupported",
        )
    if kernel := _NO_KERNEL.search(text):
        return ModelError(
            f"{path.name} has the operator {kernel[1]} with types that onnxruntime cannot run on a CPU",
            hint="export it in float32, without float64 or rare integer types",
        )
    return damaged(path, "ONNX", error)


def _input_name(path: Path, model: Any) -> str:
    """The only input. In files up to IR version 3 the weights are among the graph's inputs."""
    import onnx

    weights = {weight.name for weight in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    if len(inputs) != 1:
        raise ModelError(
            f"{path.name} has {len(inputs)} inputs: {', '.join(value.name for value in inputs)}",
            hint="export it with one input, the images",
        )
    kind = inputs[0].type.tensor_type.elem_type
    if kind not in _INPUTS:
        raise ModelError(
            f"the input type {onnx.TensorProto.DataType.Name(kind).lower()} of {path.name} is unsupported",
            hint=f"export it with an input of {', '.join(_INPUTS.values())}",
        )
    name: str = inputs[0].name
    return name


def _declared(value: Any) -> list[int | None]:
    return [dimension.dim_value or None for dimension in value.type.tensor_type.shape.dim]


def _keep_outputs(model: Any, names: set[str]) -> None:
    """Remove the other outputs of the graph, and what only they need."""
    graph = model.graph
    kept = [output for output in graph.output if output.name in names]
    del graph.output[:]
    graph.output.extend(kept)
    needed, nodes = set(names), []
    for node in reversed(graph.node):
        if needed & set(node.output):
            nodes.append(node)
            needed |= set(_reads(node))
    kept_nodes = [type(node).FromString(node.SerializeToString()) for node in reversed(nodes)]
    del graph.node[:]
    graph.node.extend(kept_nodes)
    for field in (graph.initializer, graph.value_info):
        rest = [item for item in field if item.name in needed or any(item.name in node.output for node in kept_nodes)]
        del field[:]
        field.extend(rest)
    weights = {weight.name for weight in graph.initializer}
    inputs = [value for value in graph.input if value.name in weights or value.name in needed]
    del graph.input[:]
    graph.input.extend(inputs)


def _reads(node: Any) -> Iterator[str]:
    """The tensors that a node needs, including those that its bodies use from the outer graph."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield from _reads(inner)
            yield from (output.name for output in graph.output)


def _run(path: Path, model: Any, copy: Path, shape: Sequence[int]) -> list[list[int]]:
    """The shapes of the outputs of one inference, which also shows whether onnxruntime can run the file.

    A file with a newer IR version than onnxruntime supports is rewritten to the newest supported one.
    """
    import numpy as np
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # for speed
    options.log_severity_level = 4
    try:
        try:
            session = onnxruntime.InferenceSession(copy, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            if not (newest := _NEWEST_IR.search(str(error))):
                raise
            model.ir_version = int(newest[1])
            onnx.save(model, copy)
            session = onnxruntime.InferenceSession(copy, options, providers=["CPUExecutionProvider"])
        (source,) = session.get_inputs()
        dtype = onnx.helper.tensor_dtype_to_np_dtype(_types(model)[source.name])
        outputs = session.run(None, {source.name: np.zeros(shape, dtype)})
    except Exception as error:  # onnxruntime's own exceptions have no common base
        if "Opset" in str(error) and "under development" in str(error):
            raise ModelError(
                f"{path.name} has an opset that onnxruntime {onnxruntime.__version__} does not support: "
                f"{first_line(error)}",
                hint=f"export it with a lower opset_version, or upgrade: {install(['onnxruntime'], '-U')}",
            ) from error
        raise _explain(path, error) from error
    return [list(output.shape) for output in outputs]


def _types(model: Any) -> dict[str, int]:
    return {value.name: value.type.tensor_type.elem_type for value in model.graph.input}


def _nodes(model: Any) -> Iterator[Any]:
    """All nodes, including those of subgraphs and local functions."""
    yield from _inside(model.graph.node)
    for function in model.functions:
        yield from _inside(function.node)


def _inside(nodes: Any) -> Iterator[Any]:
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _inside(graph.node)


def _reasons(model: Any) -> tuple[Reason, ...]:
    """Nodes in training mode, and those that draw random numbers."""
    nodes = list(_nodes(model))
    constants = onnx_stated.constants(model)
    training = [node for node in nodes if _in_training(node, constants)]
    drawing = [node for node in nodes if node.op_type in _RANDOM]
    reasons = []
    if training:
        reasons.append(training_mode([_called(node) for node in training]))
    if drawing:
        reasons.append(random_operators([_called(node) for node in drawing]))
    return tuple(reasons)


def _called(node: Any) -> str:
    return f"{node.op_type} '{node.name}'" if node.name else str(node.op_type)


def _in_training(node: Any, constants: dict[str, Any]) -> bool:
    """BatchNormalization states it in an attribute, before opset 14 by its additional outputs; Dropout in its third
    input, before opset 7 in an attribute."""
    attributes = {attribute.name: attribute.i for attribute in node.attribute}
    if node.op_type == "BatchNormalization":
        return bool(attributes.get("training_mode")) or sum(bool(output) for output in node.output) > 1
    if node.op_type == "Dropout":
        if attributes.get("is_test", 1) == 0:
            return True
        mode = constants.get(node.input[2]) if len(node.input) > 2 else None
        return mode is not None and bool(mode.any())
    return False


def _unshare_quantization(model: Any) -> bool:
    """Give each QuantizeLinear and DequantizeLinear node its own initializers; whether any was shared.

    onnxruntime's exact int8 kernels (session.x64quantprecision) rewrite weights and zero points in place, and fail on
    those that several nodes share: "Attempt to replace the existing tensor".
    """
    weights = {weight.name: weight for weight in model.graph.initializer}
    used: set[str] = set()
    copies = 0
    for node in model.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        for position, name in enumerate(node.input):
            if name in used:
                copies += 1
                model.graph.initializer.add().CopyFrom(weights[name])
                model.graph.initializer[-1].name = node.input[position] = f"{name}_edlab_{copies}"
            elif name in weights:
                used.add(name)
    return copies > 0


def _precision(path: Path, model: Any) -> str:
    """The precision of the arithmetic: int8 only if activations are quantized to 8 bits too. Raises `ModelError` for
    other arithmetic, for which edlab has no precision.
    """
    nodes, constants = list(_nodes(model)), _constant_types(model)
    operators = {node.op_type for node in nodes}
    if operators & {"DynamicQuantizeLinear", "MatMulInteger", "ConvInteger"}:
        return "int8_dynamic"
    if operators & {"QLinearConv", "QLinearMatMul"}:
        return "int8"
    if {"QuantizeLinear", "DequantizeLinear"} & operators:
        return _precision_of_pairs(path, nodes, constants)
    types = set(constants.values())
    if "float64" in types:
        raise ModelError(f"{path.name} has float64 weights, an unsupported precision", hint="export it in float32")
    return "fp16" if "float16" in types else "fp32"


def _constant_types(model: Any) -> dict[str, str]:
    """The numpy names of the types of initializers and of tensors in Constant nodes, by name."""
    import onnx

    tensors = {weight.name: weight for weight in model.graph.initializer}
    for node in _nodes(model):
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "value":
                tensors[node.output[0]] = attribute.t
    return {name: onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).name for name, tensor in tensors.items()}


def _precision_of_pairs(path: Path, nodes: list[Any], constants: dict[str, str]) -> str:
    """The precision of a graph with QuantizeLinear and DequantizeLinear nodes."""
    quantized = [node for node in nodes if node.op_type == "QuantizeLinear" and node.input[0] not in constants]
    if not quantized:
        raise ModelError(
            f"{path.name} has integer weights and computes in floating point (weight-only quantization), an "
            "unsupported precision",
            hint="quantize its activations too, or use the float model",
        )
    zero_points = [node.input[2] for node in quantized if len(node.input) > 2 and node.input[2] in constants]
    types = {constants[name] for name in zero_points} or {"uint8"}  # the default of QuantizeLinear
    if foreign := types - {"int8", "uint8"}:
        raise ModelError(
            f"{path.name} quantizes activations to {', '.join(sorted(foreign))}, an unsupported precision",
            hint="quantize them to 8 bits: INT8 or UINT8",
        )
    return "int8"
