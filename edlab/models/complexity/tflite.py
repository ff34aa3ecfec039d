"""Multiply-accumulates and parameters of a TFLite graph, operator by operator."""

from __future__ import annotations

import os
from collections.abc import Sequence
from math import ceil, prod
from pathlib import Path
from typing import Any

from edlab.models.complexity.tflite_operators import FORMULAS, FREE, Operator, Shape
from edlab.models.complexity.unknown import cannot_be_counted
from edlab.source import Complexity

PRODUCTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL")  # whose types define a file's precision
_METHOD = "tflite operators"
_FREE_CUSTOM = ("TFLite_Detection_PostProcess",)  # decodes and selects boxes


def count_tflite(path: Path, model: Any) -> Complexity:
    """MACs of one image, and elements of the constants that the file computes with.

    `model` is what `edlab.tflite_file.parse` returns. The shapes are those that LiteRT allocates: if the batch of a
    file is free, its stored shapes are wrong.
    """
    parameters = _parameters(model)
    stored = [[_shape(tensor.shape) for tensor in graph.tensors] for graph in model.subgraphs]
    counter = _Counter(model, stored)
    counter.graph(0)
    if counter.unknown:
        return Complexity(macs=None, parameters=parameters, method=_METHOD, note=cannot_be_counted(counter.unknown))
    try:
        shapes = _allocated(path, model, stored)
    except (RuntimeError, ValueError) as error:
        note = f"LiteRT cannot run the file, whose shapes are not fixed: {str(error).strip()[:200]}"
        return Complexity(macs=None, parameters=parameters, method=_METHOD, note=note)
    macs = _Counter(model, shapes).graph(0)
    batch = shapes[0][model.subgraphs[0].inputs[0]][0]
    return Complexity(macs=macs // batch, parameters=parameters, method=_METHOD)


def _shape(lengths: Sequence[Any] | None) -> Shape:
    return () if lengths is None else tuple(int(length) for length in lengths)


def _allocated(path: Path, model: Any, stored: Sequence[Sequence[Shape]]) -> list[list[Shape]]:
    """The shapes of all tensors at batch 1, or at the fixed batch of the file."""
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_path=str(path),
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,  # delegates hide operators
        experimental_preserve_all_tensors=True,
        num_threads=os.cpu_count(),
    )
    (source,) = interpreter.get_input_details()
    if source["shape_signature"][0] != -1:
        return _shapes_at(interpreter, source["shape"], stored)
    free = [
        (graph, index)
        for graph, tensors in enumerate(model.subgraphs)
        for index, tensor in enumerate(tensors.tensors)
        if -1 in _shape(tensor.shapeSignature)
    ]
    two, one = (_shapes_at(interpreter, (batch, *source["shape"][1:]), stored) for batch in (2, 1))
    if all(one[graph][index] != two[graph][index] for graph, index in free):
        return one
    interpreter.set_tensor(source["index"], np.zeros((1, *source["shape"][1:]), source["dtype"]))
    interpreter.invoke()  # a shape that the graph computes is known only now
    return _shapes(interpreter, stored)


def _shapes_at(interpreter: Any, shape: Sequence[int], stored: Sequence[Sequence[Shape]]) -> list[list[Shape]]:
    """The shapes that follow from the input's shape before anything runs."""
    (source,) = interpreter.get_input_details()
    interpreter.resize_tensor_input(source["index"], shape)
    interpreter.allocate_tensors()
    return _shapes(interpreter, stored)


def _shapes(interpreter: Any, stored: Sequence[Sequence[Shape]]) -> list[list[Shape]]:
    shapes = [list(graph) for graph in stored]
    for index, graph in enumerate(shapes):
        for tensor in interpreter.get_tensor_details(index):
            if tensor["index"] < len(graph):  # the following ones are LiteRT's own
                graph[tensor["index"]] = _shape(tensor["shape"])
    return shapes


class _Counter:
    """Sums over the graphs of a file, and collects the names of the operators that it cannot count."""

    def __init__(self, model: Any, shapes: Sequence[Sequence[Shape]]) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self._model = model
        self._shapes = shapes
        self._names = {value: name for name, value in vars(schema.BuiltinOperator).items()}
        self.unknown: set[str] = set()

    def graph(self, index: int) -> int:
        """MACs of one run of a graph."""
        return sum(self._operator(index, operator) for operator in self._model.subgraphs[index].operators)

    def _operator(self, index: int, operator: Any) -> int:
        name, options = self._name(operator), operator.builtinOptions
        if name in FORMULAS:
            return self._product(index, operator, name)
        if name == "WHILE":
            return self._while(index, operator)
        if name == "IF":
            one, other = self.graph(options.thenSubgraphIndex), self.graph(options.elseSubgraphIndex)
            if one != other:
                self.unknown.add("IF with branches of different cost")
            return one
        if name == "STABLEHLO_COMPOSITE":
            return self.graph(operator.builtinOptions2.decompositionSubgraphIndex)
        if name not in FREE and name not in ("CALL_ONCE", *_FREE_CUSTOM):  # CALL_ONCE fills variables before
            self.unknown.add(name)
        return 0

    def _name(self, operator: Any) -> str:
        code = self._model.operatorCodes[operator.opcodeIndex]
        name = str(self._names[max(code.builtinCode, code.deprecatedBuiltinCode)])
        return code.customCode.decode() if name == "CUSTOM" else name

    def _product(self, index: int, operator: Any, name: str) -> int:
        graph, shapes = self._model.subgraphs[index], self._shapes[index]
        return FORMULAS[name](
            Operator(
                operator.builtinOptions,
                [shapes[tensor] if tensor >= 0 else () for tensor in operator.inputs],
                [shapes[tensor] for tensor in operator.outputs],
                [tensor >= 0 and _has_data(self._model, graph.tensors[tensor]) for tensor in operator.inputs],
            )
        )

    def _while(self, index: int, operator: Any) -> int:
        """The body times its iterations; a body without products is free for any number."""
        condition, body = operator.builtinOptions.condSubgraphIndex, operator.builtinOptions.bodySubgraphIndex
        macs = self.graph(condition) + self.graph(body)
        if macs == 0:
            return 0
        times = self._times(self._model.subgraphs[condition].outputs[0], index, operator)
        if times is None:
            self.unknown.add("WHILE of a length that is not constant")
        return macs * (times or 0)

    def _times(self, condition: int, index: int, operator: Any) -> int | None:
        """The iterations of a loop that counts from one constant to another, possibly with several counters."""
        graphs, options = self._model.subgraphs, operator.builtinOptions
        test, body = graphs[options.condSubgraphIndex], graphs[options.bodySubgraphIndex]
        maker = _maker(test, condition)
        if maker is None:
            return None
        if self._name(maker) == "LOGICAL_AND":
            several = [self._times(tensor, index, operator) for tensor in maker.inputs]
            return None if None in several else min(several)  # type: ignore[type-var]
        if self._name(maker) != "LESS" or maker.inputs[0] not in test.inputs:
            return None
        position = list(test.inputs).index(maker.inputs[0])
        step = _maker(body, body.outputs[position])
        if step is None or self._name(step) != "ADD" or step.inputs[0] != body.inputs[position]:
            return None
        start = self._integer(graphs[index], operator.inputs[position])
        end, width = self._integer(test, maker.inputs[1]), self._integer(body, step.inputs[1])
        return None if start is None or end is None or not width else max(ceil((end - start) / width), 0)

    def _integer(self, graph: Any, tensor: int) -> int | None:
        """The value of a constant that is one 32-bit integer."""
        data = self._model.buffers[graph.tensors[tensor].buffer].data
        return None if data is None or len(data) != 4 else int.from_bytes(bytes(data), "little", signed=True)


def _maker(graph: Any, tensor: int) -> Any | None:
    return next((operator for operator in graph.operators if tensor in operator.outputs), None)


def _has_data(model: Any, tensor: Any) -> bool:
    return model.buffers[tensor.buffer].data is not None


def _parameters(model: Any) -> int:
    """Elements of the constants that operators use, except scalars and plain integers, which are shapes and axes.

    Constants that share their data count once.
    """
    from ai_edge_litert import schema_py_generated as schema

    floating = (schema.TensorType.FLOAT32, schema.TensorType.FLOAT16, schema.TensorType.BFLOAT16)
    counts: dict[int, int] = {}
    for graph in model.subgraphs:
        for index in {int(index) for operator in graph.operators for index in operator.inputs if index >= 0}:
            tensor = graph.tensors[index]
            quantized = tensor.quantization is not None and len(_scales(tensor)) > 0
            if _has_data(model, tensor) and len(_shape(tensor.shape)) and (tensor.type in floating or quantized):
                counts[tensor.buffer] = prod(_shape(tensor.shape))
    return sum(counts.values())


def _scales(tensor: Any) -> Sequence[float]:
    return () if tensor.quantization.scale is None else tensor.quantization.scale
