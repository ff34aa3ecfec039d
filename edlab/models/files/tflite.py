"""TFLite files."""

from __future__ import annotations

import importlib.util
import shutil
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edlab import tflite_file
from edlab.config import ModelConfig
from edlab.errors import MissingDependencyError, ModelError
from edlab.models.complexity.tflite import PRODUCTS, count_tflite
from edlab.models.files.base import (
    ModelFile,
    damaged,
    first_line,
    random_operators,
    read_input,
    some,
)
from edlab.models.files.stated import Affine, Stated, alike, fits, normalisation, quantization, raw_pixels
from edlab.models.files.tflite_detection import stated_detection
from edlab.models.files.tflite_metadata import Metadata, read_metadata
from edlab.models.outputs import choose_outputs
from edlab.packages import install
from edlab.source import Reason

_EDGE_TPU = "edgetpu-custom-op"
_RANDOM = frozenset(("RANDOM_UNIFORM", "RANDOM_STANDARD_NORMAL", "MULTINOMIAL"))
_PASSING = ("CAST", "RESHAPE")


def read(config: ModelConfig, path: Path, copy: Path) -> ModelFile:
    """See `load_file`. The copy is unchanged, unless an output was chosen."""
    if importlib.util.find_spec("ai_edge_litert") is None:
        raise MissingDependencyError("TFLite files need LiteRT", hint=install(["edlab[litert]"]))
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    content = path.read_bytes()
    try:
        model = tflite_file.parse(content)
    except (ValueError, TypeError, IndexError, struct.error) as error:
        raise damaged(path, "TFLite", error) from error
    _refuse_foreign_operators(path, model)
    _refuse_choices(path, model)
    try:
        interpreter = Interpreter(model_path=str(path))
    except (ValueError, RuntimeError, OSError) as error:
        raise _explain(path, model, error) from error
    inputs = interpreter.get_input_details()
    if len(inputs) != 1:
        raise ModelError(f"{path.name} has {len(inputs)} inputs", hint="export it with one input, the images")
    graph = model.subgraphs[0]
    shape = _free(inputs[0]["shape_signature"])
    height, width = shape[1:3] if len(shape) == 4 else (None, None)
    size = (height, width) if height and width else None
    if None not in shape[1:]:
        try:
            interpreter.allocate_tensors()  # some outputs have no shape before
        except (ValueError, RuntimeError) as error:
            raise _explain(path, model, error) from error
    chosen = choose_outputs(config, path.name, _outputs(model, interpreter), size)
    metadata = read_metadata(content, model, chosen.positions[0])
    detection = stated_detection(model, chosen.positions)
    source = read_input(config, path, shape, _stated(model, inputs[0], metadata))
    if None in shape[1:]:
        # A delegate would not update the shapes of the tensors that it computes.
        plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        try:
            interpreter = Interpreter(model_path=str(path), experimental_op_resolver_type=plain)
            _fix_size(model, interpreter, source.shape)
        except (ValueError, RuntimeError) as error:
            raise _explain(path, model, error) from error
    outputs = _outputs(model, interpreter)
    if not chosen.all:
        _keep_outputs(model, chosen.positions)
    if not chosen.all or None in shape[1:]:
        copy.write_bytes(tflite_file.pack(model))
    else:
        shutil.copyfile(path, copy)
    names = _operators(model)
    products = [
        (name, [graph.tensors[index] for index in (*operator.inputs[:2], operator.outputs[0])])
        for name, operator in zip(names, graph.operators, strict=True)
        if name in PRODUCTS
    ]
    constants = [tensor for tensor in graph.tensors if model.buffers[tensor.buffer].data is not None]
    kept_shapes = [outputs[position][1] for position in chosen.positions]
    read = chosen.read(source.size, detection, kept_shapes)
    return ModelFile(
        format="tflite",
        path=copy,
        layout=source.layout,
        precision=_precision(constants, [tensors for _, tensors in products], schema.TensorType),
        outputs=read,
        preprocessing=source.preprocessing,
        preprocessing_origins=source.origins,
        preprocessing_note=source.note,
        complexity=count_tflite(copy, model),
        class_names=metadata.labels if len(metadata.labels) == read.facts.num_classes else (),
        reasons=_reasons(model),
    )


def _refuse_foreign_operators(path: Path, model: Any) -> None:
    """Raise `ModelError` for operators that no LiteRT on a CPU has."""
    custom = [_text(code.customCode) for code in model.operatorCodes or () if code.customCode]
    if _EDGE_TPU in custom:
        raise ModelError(
            f"{path.name} was compiled for the Edge TPU, and no CPU can run it",
            hint="set model.path to the file that edgetpu_compiler was given; device=coral compiles it",
        )
    if flex := [name for name in custom if name.startswith("Flex")]:
        raise ModelError(
            f"{path.name} has TensorFlow operators that LiteRT does not have: {some(flex)}",
            hint="convert it again with target_spec.supported_ops=[tf.lite.OpsSet.TFLITE_BUILTINS] only",
        )


def _explain(path: Path, model: Any, error: Exception) -> ModelError:
    """Why LiteRT refuses a file that could be parsed."""
    custom = [_text(code.customCode) for code in model.operatorCodes or () if code.customCode]
    if unresolved := [name for name in custom if name in str(error)]:
        return ModelError(
            f"{path.name} has the custom operator {some(unresolved)}, which LiteRT does not have",
            hint="replace it with standard operators and convert again; operators of custom libraries are unsupported",
        )
    if "find op for builtin opcode" in str(error):
        return ModelError(
            f"{path.name} has an operator that is newer than the installed LiteRT: {first_line(error)}",
            hint=f"{install(['ai-edge-litert'], '-U')}, or convert it with an older converter",
        )
    return damaged(path, "TFLite", error)


def _refuse_choices(path: Path, model: Any) -> None:
    """Raise `ModelError` if the file contains several functions: only its author knows which one is meant."""
    signatures = [_text(signature.signatureKey) for signature in model.signatureDefs or ()]
    if len(signatures) > 1:
        raise ModelError(
            f"{path.name} has {len(signatures)} signatures: {some(signatures)}",
            hint="convert it again with only the signature that classifies: TFLiteConverter.from_saved_model(folder, "
            f"signature_keys=['{signatures[0]}'])",
        )
    if signatures and model.signatureDefs[0].subgraphIndex != 0:
        raise ModelError(
            f"the signature {signatures[0]} of {path.name} is not of its first subgraph",
            hint="convert it again with one signature",
        )
    graphs = model.subgraphs or ()
    loose = sorted(set(range(1, len(graphs))) - _bodies(model))
    if loose:
        names = [_text(graphs[index].name) or f"number {index}" for index in (0, *loose)]
        raise ModelError(
            f"{path.name} has several subgraphs that no operator calls: {some(names)}",
            hint="convert it again with one signature",
        )


def _bodies(model: Any) -> set[int]:
    """The subgraphs that operators run: the branches of IF, the bodies of WHILE and the like."""
    bodies: set[int] = set()
    for graph in model.subgraphs:
        for operator in graph.operators or ():
            for options in (operator.builtinOptions, operator.builtinOptions2):
                fields = vars(options) if options is not None else {}
                bodies |= {int(value) for key, value in fields.items() if key.lower().endswith("subgraphindex")}
    return bodies


def _outputs(model: Any, interpreter: Any) -> list[tuple[str, list[int | None]]]:
    """Names (from the signature, as chosen by the model's author, else those of the tensors) and shapes."""
    graph = model.subgraphs[0]
    names = {index: _text(graph.tensors[index].name) for index in graph.outputs}
    for signature in model.signatureDefs or ():
        names |= {entry.tensorIndex: _text(entry.name) for entry in signature.outputs or ()}
    details = interpreter.get_output_details()
    shapes: list[list[int | None]] = [[int(length) for length in detail["shape"]] for detail in details]
    return [(names[index], shape) for index, shape in zip(graph.outputs, shapes, strict=True)]


def _fix_size(model: Any, interpreter: Any, shape: Sequence[int]) -> None:
    """Set a free height and width to the configured ones, in all tensors: the agent opens files of a fixed size."""
    interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], shape)
    interpreter.allocate_tensors()
    tensors = model.subgraphs[0].tensors
    for detail in interpreter.get_tensor_details():
        if detail["index"] < len(tensors):
            tensors[detail["index"]].shape = np.array(detail["shape"], np.int32)
            tensors[detail["index"]].shapeSignature = None


def _free(shape: Iterable[int]) -> list[int | None]:
    return [None if length < 0 else int(length) for length in shape]


def _stated(model: Any, detail: dict[str, Any], metadata: Metadata) -> Stated:
    """The metadata, if it agrees with an integer input's range; else that range; else the first operators."""
    dtype = np.dtype(detail["dtype"])
    scale, zero_point = detail["quantization"]  # (0.0, 0) if it is not quantized
    if dtype.kind in "iu" and not scale:
        if dtype != np.uint8:
            return quantization(1.0, 0, dtype, "the input's type, integers without a scale")
        return raw_pixels("the input's type, uint8 without a scale: pixels as 0..255")
    by_graph = _by_graph(model)
    if dtype.kind in "iu":
        by_graph = quantization(float(scale), int(zero_point), dtype, "the input's quantization")
    if {len(metadata.mean), len(metadata.std)} <= {1, 3} and all(value > 0 for value in metadata.std):
        stated = normalisation(
            [value / 255 for value in metadata.mean], [value / 255 for value in metadata.std], "TFLite metadata"
        )
        if by_graph.values and dtype.kind in "iu" and alike(stated, by_graph, float(scale)):
            return Stated(by_graph.values, f"{by_graph.note}, as its TFLite metadata states", by_graph.range)
        if by_graph.range is None or fits(by_graph.range, stated.values["mean"], stated.values["std"]):
            return Stated(stated.values, stated.note, by_graph.range)
    return by_graph


def _by_graph(model: Any) -> Stated:
    """What the first operators do to a float input: QUANTIZE, or products and sums with constants."""
    from ai_edge_litert import schema_py_generated as schema

    graph = model.subgraphs[0]
    types = {schema.TensorType.INT8: np.int8, schema.TensorType.UINT8: np.uint8, schema.TensorType.INT16: np.int16}
    affine, tensor = Affine(), graph.inputs[0]
    while True:
        consumers = [place for place, operator in enumerate(graph.operators) if tensor in operator.inputs]
        if len(consumers) != 1:
            break
        operator, name = graph.operators[consumers[0]], _operators(model)[consumers[0]]
        if name == "QUANTIZE":
            output = graph.tensors[operator.outputs[0]]
            scales = output.quantization.scale if output.quantization else None
            if output.type not in types or scales is None or len(scales) != 1 or affine.started:
                break
            zero_point = int(output.quantization.zeroPoint[0])
            return quantization(float(scales[0]), zero_point, types[output.type], "the input's QUANTIZE operator")
        if name not in _PASSING and not _apply(affine, model, operator, name, tensor):
            break
        tensor = operator.outputs[0]
    return affine.takes()


def _apply(affine: Affine, model: Any, operator: Any, name: str, tensor: int) -> bool:
    """Whether the operator combines the input with a float constant; its effect is added to `affine`."""
    actions = {"MUL": affine.multiply, "DIV": affine.divide, "ADD": affine.add, "SUB": affine.subtract}
    if name not in actions or (name in ("DIV", "SUB") and operator.inputs[0] != tensor):
        return False
    other = operator.inputs[1] if operator.inputs[0] == tensor else operator.inputs[0]
    constant = model.subgraphs[0].tensors[other]
    data = model.buffers[constant.buffer].data
    if constant.type != 0 or data is None:  # 0: TensorType.FLOAT32
        return False
    return actions[name](np.frombuffer(bytes(bytearray(data)), "<f4"), name)


def _operators(model: Any) -> list[str]:
    """The names of the first subgraph's operators."""
    from ai_edge_litert import schema_py_generated as schema

    names = {value: name for name, value in vars(schema.BuiltinOperator).items()}
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    return [names[codes[operator.opcodeIndex]] for operator in model.subgraphs[0].operators]


def _keep_outputs(model: Any, positions: Sequence[int]) -> None:
    """Remove the other outputs of the graph, and what only they need."""
    graph = model.subgraphs[0]
    kept = [int(graph.outputs[position]) for position in positions]
    graph.outputs = np.array(kept, np.int32)
    for signature in model.signatureDefs or ():
        signature.outputs = [entry for entry in signature.outputs if entry.tensorIndex in kept]
    needed = set(kept)
    operators: list[Any] = []
    for operator in reversed(graph.operators):
        if needed & set(operator.outputs):
            operators.insert(0, operator)
            needed |= set(operator.inputs)
    graph.operators = operators


def _reasons(model: Any) -> tuple[Reason, ...]:
    drawing = [name for name in _operators(model) if name in _RANDOM]
    return (random_operators(drawing),) if drawing else ()


def _precision(constants: Iterable[Any], products: Iterable[Sequence[Any]], types: Any) -> str:
    pairs = [(activation.type, weight.type) for activation, weight, _ in products]
    integers = (types.INT8, types.UINT8, types.INT16)
    if any(activation in integers and weight in integers for activation, weight in pairs):
        return "int8"
    if any(weight in integers for _, weight in pairs):
        return "int8_dynamic"
    return "fp16" if any(tensor.type == types.FLOAT16 for tensor in constants) else "fp32"


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "")
