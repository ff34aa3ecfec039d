"""Writes ONNX models in an older opset, for readers that know no newer one.

onnx.version_converter does not do this: on the way down it stops at Pad, Split, ConstantOfShape and every operator that
is missing in the older opset, and it keeps attributes that are missing there.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from edlab.converters.onnx_prepare import opset_of
from edlab.errors import ConversionError

_ONNX = ("", "ai.onnx")  # the names of the domain of onnx's own operators
_REDUNDANT = {("Split", "num_outputs")}  # the node has as many outputs; `_check` refuses parts of unequal size


def expand(model: Any, known: Collection[str]) -> Any:
    """The same model with onnx's definition, by other operators, of each operator that is not `known`.

    An operator stays if onnx does not define it by others, or the definition needs types that onnx cannot infer.
    """
    import onnx
    from onnx.inliner import inline_selected_functions

    if all(node.op_type in known for node in model.graph.node):
        return model
    stated = onnx.ModelProto()
    stated.CopyFrom(model)
    _state_types_of_weights(stated.graph)
    for node in stated.graph.node:
        if node.op_type not in known:
            _state_defaults(node, _definition(node, opset_of(model)))
    kept = [("", name) for name in known]
    try:
        expanded = inline_selected_functions(stated, kept, exclude=True, inline_schema_functions=True)
    except RuntimeError:
        return model
    for node in expanded.graph.node:  # readers invent names for nodes without one, which others may have
        node.name = node.name or node.output[0]
    return expanded


def _state_types_of_weights(graph: Any) -> None:
    """Write the types of the weights into a graph: onnx's inliner does not look at the weights themselves."""
    from onnx.helper import make_tensor_value_info

    weights = graph.initializer
    graph.value_info.extend(make_tensor_value_info(each.name, each.data_type, each.dims) for each in weights)


def _state_defaults(node: Any, definition: Any) -> None:
    """Write the defaults of the attributes into a node: onnx's inliner uses only attributes that are stated."""
    given = {attribute.name for attribute in node.attribute}
    defaults = [each.default_value for each in definition.attributes.values()] if definition else []
    node.attribute.extend(default for default in defaults if default.name and default.name not in given)


def lower(model: Any, opset: int) -> Any:
    """The same model in an older opset. Raises `ConversionError` if that opset cannot express it."""
    import onnx

    given = opset_of(model)
    lowered = onnx.ModelProto()
    lowered.CopyFrom(model)
    constants = _constants(lowered.graph)
    for node in lowered.graph.node:
        old, new = _definition(node, opset), _definition(node, given)
        if old and new:
            _move_input(node, old, new, constants)
            _drop_attributes(node, old, new)
    for entry in lowered.opset_import:
        if entry.domain in _ONNX:
            entry.version = opset
    try:
        _check(lowered)
    except Exception as error:  # onnx's own exceptions have no common base
        raise ConversionError(
            f"this conversion needs opset {opset} or lower; the model has opset {given}, and cannot be written in "
            f"opset {opset}: {str(error).strip().splitlines()[0][:200]}",
            hint=f"export it with opset_version={opset} or lower, start from torch, or set converter=onnxruntime or "
            "openvino",
        ) from error
    return lowered


def _check(model: Any) -> None:
    """Raise an exception of onnx if a node does not meet the definition of its operator, or shapes do not match.

    onnx.checker.check_model would also refuse what runtimes accept: outputs without a shape, or old shapes in the file.
    """
    import onnx

    context = onnx.checker.C.CheckerContext()
    context.ir_version = model.ir_version
    context.opset_imports = {entry.domain: entry.version for entry in model.opset_import}
    for node in model.graph.node:
        onnx.checker.check_node(node, context)
    unshaped = onnx.ModelProto()
    unshaped.CopyFrom(model)
    del unshaped.graph.value_info[:]
    for output in unshaped.graph.output:
        output.type.tensor_type.ClearField("shape")
    onnx.shape_inference.infer_shapes(unshaped, strict_mode=True)


def _definition(node: Any, opset: int) -> Any:
    """What onnx defines for the operator of a node in an opset; None if it does not."""
    import onnx

    try:
        return onnx.defs.get_schema(node.op_type, opset) if node.domain in _ONNX else None
    except onnx.defs.SchemaError:
        return None


def _constants(graph: Any) -> dict[str, Any]:
    """The constants of a graph by name, as tensors or lists."""
    from onnx.helper import get_attribute_value

    found = {tensor.name: tensor for tensor in graph.initializer}
    nodes = [node for node in graph.node if node.op_type == "Constant"]
    return found | {node.output[0]: get_attribute_value(node.attribute[0]) for node in nodes}


def _move_input(node: Any, old: Any, new: Any, constants: dict[str, Any]) -> None:
    """Make an attribute of the last input, if the old definition has it as an attribute: the axes of a mean."""
    from onnx import TensorProto, helper, numpy_helper

    if len(node.input) != old.max_input + 1:
        return
    name, value = new.inputs[old.max_input].name, constants.get(node.input[-1])
    if name in old.attributes and value is not None:
        value = numpy_helper.to_array(value).tolist() if isinstance(value, TensorProto) else value
        node.attribute.append(helper.make_attribute(name, value))
        node.input.pop()


def _drop_attributes(node: Any, old: Any, new: Any) -> None:
    """Remove the attributes that the old definition does not have, if they change nothing."""
    from onnx.helper import get_attribute_value

    for attribute in [each for each in node.attribute if each.name not in old.attributes]:
        default = new.attributes[attribute.name].default_value
        is_default = bool(default.name) and get_attribute_value(attribute) == get_attribute_value(default)
        if is_default or (node.op_type, attribute.name) in _REDUNDANT:
            node.attribute.remove(attribute)
