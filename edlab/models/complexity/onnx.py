"""Multiply-accumulates and parameters of an ONNX graph, operator by operator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edlab.models.complexity.onnx_operators import FORMULAS, FREE, Operator, UnknownCostError, UnknownShapeError
from edlab.models.complexity.onnx_parameters import count_parameters
from edlab.models.complexity.onnx_shapes import Shapes, infer_shapes, run_shapes, shapes_of, with_shapes
from edlab.models.complexity.unknown import cannot_be_counted
from edlab.source import Complexity

__all__ = ["count_onnx", "infer_shapes"]

_STANDARD_DOMAINS = ("", "ai.onnx")


def count_onnx(model: Any, name: str, shape: Sequence[int]) -> Complexity:
    """MACs of one image, and elements of the trained parameters.

    `shape`: that of the input `name`, with the requested batch; a batch that is fixed in the file overrides it.
    """
    import onnx.inliner

    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    (source,) = (value for value in model.graph.input if value.name == name)
    batch = source.type.tensor_type.shape.dim[0].dim_value or shape[0]
    counter, macs = _counted(model, name, (batch, *shape[1:]))
    note = ""
    if counter.unknown:
        note = cannot_be_counted(counter.unknown)
    elif counter.unshaped:
        note = f"the shapes of {counter.unshaped[0]} cannot be inferred"
    return Complexity(
        macs=None if note else macs // batch,
        parameters=count_parameters(model),
        method="onnx operators",
        note=note,
    )


def count_each(model: Any, name: str, shape: Sequence[int]) -> dict[str, int]:
    """MACs of each node by its first output, for a model without functions and this shape of its input."""
    return _counted(model, name, shape)[0].macs


def _counted(model: Any, name: str, shape: Sequence[int]) -> tuple[_Counter, int]:
    """A counter that has counted the graph, and the sum."""
    inferred = with_shapes(model, name, shape).graph
    counter = _Counter()
    macs = counter.graph(inferred, {}, {})
    if counter.unshaped:
        counter = _Counter(run_shapes(model, name, shape, _unshaped_products(inferred)))
        macs = counter.graph(inferred, {}, {})
    return counter, macs


def _unshaped_products(graph: Any) -> list[str]:
    """The values around products of the main graph whose shapes are unknown."""
    shapes = shapes_of(graph)
    names = {
        name
        for node in graph.node
        if operator_name(node) in FORMULAS
        for name in (*node.input, *node.output[:1])
        if name and None in shapes.get(name, (None,))
    }
    return sorted(names)


def operator_name(node: Any) -> str:
    """The operator's name, with its domain unless that is ONNX's own."""
    return str(node.op_type) if node.domain in _STANDARD_DOMAINS else f"{node.domain}.{node.op_type}"


class _Counter:
    """Sums over a graph and the graphs inside its nodes, and collects what it cannot count."""

    def __init__(self, measured: Shapes | None = None) -> None:
        self.measured = measured or {}
        self.unknown: set[str] = set()
        self.unshaped: list[str] = []
        self.macs: dict[str, int] = {}  # of each node, by its first output

    def graph(self, graph: Any, outer: Shapes, constants: Mapping[str, Any]) -> int:
        """MACs of one run of a graph, which can also use the values of outer graphs."""
        import onnx

        shapes = outer | shapes_of(graph) | self.measured
        constants = {
            **constants,
            **{weight.name: weight for weight in graph.initializer},
            **{
                node.output[0]: attribute.t
                for node in graph.node
                if node.op_type == "Constant"
                for attribute in node.attribute
                if attribute.name == "value"
            },
        }
        shapes |= {name: tuple(tensor.dims) for name, tensor in constants.items()}
        total = 0
        for node in graph.node:
            name = operator_name(node)
            attributes = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
            macs = 0
            if name in FORMULAS:
                macs = self._product(node, name, attributes, shapes)
            elif name == "If":
                macs = self._if(attributes, shapes, constants)
            elif name in ("Loop", "Scan"):
                macs = self._repeated(node, attributes, shapes, constants)
            elif name not in FREE:
                self.unknown.add(name)
            total += macs
            if node.output:
                self.macs[node.output[0]] = macs
        return total

    def _product(self, node: Any, name: str, attributes: dict[str, Any], shapes: Shapes) -> int:
        def known(value: str) -> tuple[int, ...] | None:
            lengths = shapes.get(value, (None,))
            return None if None in lengths else lengths  # type: ignore[return-value]

        operator = Operator(
            attributes,
            tuple(node.input),
            tuple(known(value) for value in node.input),
            tuple(node.output),
            tuple(known(value) for value in node.output),
        )
        try:
            return FORMULAS[name](operator)
        except UnknownShapeError:
            self.unshaped.append(f"the ONNX node '{node.name}' ({name})")
        except UnknownCostError:
            self.unknown.add(name)
        return 0

    def _if(self, attributes: dict[str, Any], shapes: Shapes, constants: Mapping[str, Any]) -> int:
        """The cost of either branch; if they differ, the data decide which one runs."""
        one, other = (self.graph(attributes[branch], shapes, constants) for branch in ("then_branch", "else_branch"))
        if one != other:
            self.unknown.add("If with branches of different cost")
        return one

    def _repeated(self, node: Any, attributes: dict[str, Any], shapes: Shapes, constants: Mapping[str, Any]) -> int:
        """The body times its iterations; a body without products is free for any number."""
        once = self.graph(attributes["body"], shapes, constants)
        if once == 0:
            return 0
        times = (_scan_length if node.op_type == "Scan" else _loop_length)(node, attributes, shapes, constants)
        if times is None:
            self.unknown.add(f"{node.op_type} of a length that is not constant")
        return once * (times or 0)


def _scan_length(node: Any, attributes: dict[str, Any], shapes: Shapes, constants: Mapping[str, Any]) -> int | None:
    """The length of what is scanned."""
    count = attributes["num_scan_inputs"]
    axis = (attributes.get("scan_input_axes") or [0])[0]
    shape = shapes.get(node.input[-count], ())
    return shape[axis] if len(shape) > axis else None


def _loop_length(node: Any, attributes: dict[str, Any], shapes: Shapes, constants: Mapping[str, Any]) -> int | None:
    """The constant number of iterations, if nothing ends the loop before."""
    import onnx

    limit, going = constants.get(node.input[0]), node.input[1]
    body = attributes["body"]
    if limit is None or (going and not _is_true(going, constants)):
        return None
    makers = {output: inner for inner in body.node for output in inner.output}
    name = body.output[0].name
    while (maker := makers.get(name)) is not None and maker.op_type in ("Identity", "Cast"):
        name = maker.input[0]
    inside = {weight.name: weight for weight in body.initializer}
    if maker is not None and maker.op_type == "Constant":
        inside[name] = maker.attribute[0].t
    if name != body.input[1].name and not _is_true(name, {**constants, **inside}):
        return None
    return int(onnx.numpy_helper.to_array(limit).item())


def _is_true(name: str, constants: Mapping[str, Any]) -> bool:
    import onnx

    return name in constants and bool(onnx.numpy_helper.to_array(constants[name]).all())
