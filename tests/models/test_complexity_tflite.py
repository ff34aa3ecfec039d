"""MACs and parameters of TFLite files that no converter here writes: loops, recurrent and custom operators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")
import flatbuffers
from ai_edge_litert import schema_py_generated as schema

from edlab.models.complexity.tflite import count_tflite
from edlab.source import Complexity


class File:
    """A flatbuffer under construction."""

    def __init__(self) -> None:
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.buffers, self.model.operatorCodes, self.model.subgraphs = [schema.BufferT()], [], []

    def graph(self) -> Any:
        graph = schema.SubGraphT()
        graph.tensors, graph.operators, graph.inputs, graph.outputs = [], [], [], []
        self.model.subgraphs.append(graph)
        return graph

    def tensor(self, graph: Any, *shape: int, data: Any = None, kind: str = "FLOAT32", variable: bool = False) -> int:
        tensor = schema.TensorT()
        tensor.shape, tensor.type, tensor.isVariable = list(shape), getattr(schema.TensorType, kind), variable
        tensor.name, tensor.buffer = f"t{len(graph.tensors)}", 0
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
            self.model.buffers.append(buffer)
            tensor.buffer = len(self.model.buffers) - 1
        graph.tensors.append(tensor)
        return len(graph.tensors) - 1

    def weights(self, graph: Any, *shape: int) -> int:
        return self.tensor(graph, *shape, data=np.full(shape, 0.1, np.float32))

    def integer(self, graph: Any, value: int) -> int:
        return self.tensor(graph, data=np.int32(value), kind="INT32")

    def operator(self, graph: Any, name: str, inputs: list[int], outputs: list[int], options: Any = None) -> None:
        code = schema.OperatorCodeT()
        known = hasattr(schema.BuiltinOperator, name)
        code.builtinCode = getattr(schema.BuiltinOperator, name if known else "CUSTOM")
        code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), 1
        code.customCode = None if known else name
        self.model.operatorCodes.append(code)
        operator = schema.OperatorT()
        operator.opcodeIndex, operator.inputs, operator.outputs = len(self.model.operatorCodes) - 1, inputs, outputs
        if options is not None:
            operator.builtinOptions = options
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        graph.operators.append(operator)

    def count(self, path: Path) -> Complexity:
        builder = flatbuffers.Builder()
        builder.Finish(self.model.Pack(builder), b"TFL3")
        path.write_bytes(bytes(builder.Output()))
        return count_tflite(path, schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0))


@pytest.mark.parametrize("batch", [1, 4])
def test_a_recurrent_operator_counts_all_its_steps(tmp_path: Path, batch: int) -> None:
    file = File()
    graph = file.graph()
    source = file.tensor(graph, batch, 32, 96)
    inputs = [source, *(file.weights(graph, 8, 96) for _ in range(4)), *(file.weights(graph, 8, 8) for _ in range(4))]
    inputs += [-1, -1, -1, *(file.weights(graph, 8) for _ in range(4)), -1, -1]
    inputs += [file.tensor(graph, batch, 8, variable=True) for _ in range(2)] + [-1] * 4
    output = file.tensor(graph, batch, 32, 8)
    options = schema.UnidirectionalSequenceLSTMOptionsT()
    options.fusedActivationFunction = schema.ActivationFunctionType.TANH
    file.operator(graph, "UNIDIRECTIONAL_SEQUENCE_LSTM", inputs, [output], options)
    graph.inputs, graph.outputs = [source], [output]
    complexity = file.count(tmp_path / "net.tflite")
    assert (complexity.macs, complexity.parameters) == (32 * 32 * 104, 32 * 104 + 32)


def loop(file: File, end: int | None) -> Any:
    """WHILE (counter < end) state = state @ weights; the end is an input of the graph if it is None."""
    graph, test, body = file.graph(), file.graph(), file.graph()
    source = file.tensor(graph, 1, 8)
    start, limit = file.integer(graph, 2), file.tensor(graph, kind="INT32") if end is None else file.integer(graph, end)
    if end is None:
        file.operator(graph, "RANK", [source], [limit], schema.RankOptionsT())
    outputs = [file.tensor(graph, kind="INT32"), file.tensor(graph, kind="INT32"), file.tensor(graph, 1, 8)]
    options = schema.WhileOptionsT()
    options.condSubgraphIndex, options.bodySubgraphIndex = 1, 2
    file.operator(graph, "WHILE", [start, limit, source], outputs, options)
    graph.inputs, graph.outputs = [source], [outputs[2]]
    for inner in (test, body):
        inner.inputs = [file.tensor(inner, kind="INT32"), file.tensor(inner, kind="INT32"), file.tensor(inner, 1, 8)]
    going = file.tensor(test, kind="BOOL")
    bound = test.inputs[1] if end is None else file.integer(test, end)
    file.operator(test, "LESS", [test.inputs[0], bound], [going], schema.LessOptionsT())
    test.outputs = [going]
    counter, state = file.tensor(body, kind="INT32"), file.tensor(body, 1, 8)
    file.operator(body, "ADD", [body.inputs[0], file.integer(body, 2)], [counter], schema.AddOptionsT())
    file.operator(
        body, "FULLY_CONNECTED", [body.inputs[2], file.weights(body, 8, 8)], [state], schema.FullyConnectedOptionsT()
    )
    body.outputs = [counter, body.inputs[1], state]
    return file


def test_a_loop_counts_where_its_length_is_constant(tmp_path: Path) -> None:
    complexity = loop(File(), 9).count(tmp_path / "net.tflite")  # at 2, 4, 6 and 8
    assert (complexity.macs, complexity.parameters) == (4 * 64, 64)
    complexity = loop(File(), None).count(tmp_path / "net.tflite")
    assert complexity.macs is None
    assert complexity.note == "cannot be counted: the graph has WHILE of a length that is not constant"


@pytest.mark.parametrize("name", ["MyPool", "edgetpu-custom-op", "LSH_PROJECTION", "RFFT2D"])
def test_an_unknown_operator_is_named(tmp_path: Path, name: str) -> None:
    file = File()
    graph = file.graph()
    source, middle, output = (file.tensor(graph, 1, 8) for _ in range(3))
    weights = file.weights(graph, 8, 8)
    file.operator(graph, "FULLY_CONNECTED", [source, weights], [middle], schema.FullyConnectedOptionsT())
    file.operator(graph, name, [middle], [output])
    graph.inputs, graph.outputs = [source], [output]
    complexity = file.count(tmp_path / "net.tflite")
    assert (complexity.macs, complexity.parameters) == (None, 64)
    assert complexity.note == f"cannot be counted: the graph has {name}"
