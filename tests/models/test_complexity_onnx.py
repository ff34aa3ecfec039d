"""MACs and parameters of ONNX graphs against hand counts, operator by operator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edlab.config import ModelConfig, ModelOrigin
from edlab.models.complexity.onnx import count_onnx
from edlab.models.files import load_file
from edlab.source import Complexity

node = helper.make_node
FLAT = node("Flatten", ["x"], ["f"])


def weights(name: str, *shape: int, dtype: Any = np.float32) -> Any:
    return numpy_helper.from_array(np.random.default_rng(0).normal(0, 50, shape).astype(dtype), name)


def integers(name: str, *values: int) -> Any:
    return numpy_helper.from_array(np.array(values, np.int64), name)


def model(nodes: list[Any], constants: list[Any], *, functions: tuple[Any, ...] = (), **keys: Any) -> Any:
    image, opset = keys.get("image", [1, 3, 32, 32]), keys.get("opset", 17)
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, image)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, keys.get("output"))],
        constants,
    )
    domains = {entry.domain for entry in nodes} - {""}
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in sorted(domains))]
    made = helper.make_model(graph, opset_imports=opsets, functions=list(functions))
    made.ir_version = 9
    return made


def count(nodes: list[Any], constants: list[Any], **keys: Any) -> Complexity:
    return count_onnx(model(nodes, constants, **keys), "x", (1, 3, 32, 32))


def microsoft(name: str, inputs: list[str], outputs: list[str], **attributes: Any) -> Any:
    return node(name, inputs, outputs, domain="com.microsoft", **attributes)


TOKENS = [node("Reshape", ["x", "to_tokens"], ["t"])]
TO_TOKENS = [integers("to_tokens", 1, 32, 96)]
TO_STEPS = [integers("to_tokens", 32, 1, 96)]
ZERO = numpy_helper.from_array(np.array(0, np.uint8), "zero")
SCALE = numpy_helper.from_array(np.array(0.5, np.float32), "scale")
QUANTIZED = [node("QuantizeLinear", ["x", "scale", "zero"], ["q"])]

PRODUCTS: dict[str, tuple[list[Any], list[Any], int, int]] = {
    "einsum": (
        [FLAT, node("Einsum", ["f", "w"], ["y"], equation="bk,kc->bc")], [weights("w", 3072, 10)], 30720, 30720,
    ),
    "einsum with an ellipsis, three operands": (
        [*TOKENS, node("Einsum", ["t", "w", "v"], ["y"], equation="...k,kc,cd->...d")],
        [*TO_TOKENS, weights("w", 96, 8), weights("v", 8, 5)], 32 * 96 * 8 + 32 * 8 * 5, 96 * 8 + 8 * 5,
    ),
    "gemm, both turned": (
        [FLAT, node("Transpose", ["f"], ["ft"]), node("Gemm", ["ft", "w", "b"], ["y"], transA=1, transB=1)],
        [weights("w", 10, 3072), weights("b", 10)], 30720, 30730,
    ),
    "weights in a Constant node": (
        [FLAT, node("Constant", [], ["w"], value=weights("w", 3072, 10)), node("MatMul", ["f", "w"], ["y"])],
        [], 30720, 30720,
    ),
    "an initializer that no node uses": (
        [FLAT, node("MatMul", ["f", "w"], ["y"])], [weights("w", 3072, 10), weights("unused", 99, 99)], 30720, 30720,
    ),
    "grouped, transposed": (
        [node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2], group=3)],
        [weights("w", 3, 2, 3, 3)], 3 * 2 * 9 * 1024, 54,
    ),
    "bidirectional LSTM": (
        [*TOKENS, node("LSTM", ["t", "W", "R"], ["y"], hidden_size=10, direction="bidirectional")],
        [*TO_STEPS, weights("W", 2, 40, 96), weights("R", 2, 40, 10)], 32 * 2 * 40 * 106, 2 * 40 * 106,
    ),
    "GRU": (
        [*TOKENS, node("GRU", ["t", "W", "R"], ["y"], hidden_size=10)],
        [*TO_STEPS, weights("W", 1, 30, 96), weights("R", 1, 30, 10)], 32 * 30 * 106, 30 * 106,
    ),
    "ConvInteger": (
        [*QUANTIZED, node("ConvInteger", ["q", "w"], ["i"]), node("Cast", ["i"], ["y"], to=TensorProto.FLOAT)],
        [SCALE, ZERO, weights("w", 8, 3, 3, 3, dtype=np.uint8)], 30 * 30 * 27 * 8, 27 * 8,
    ),
    "FusedConv": (
        [microsoft("FusedConv", ["x", "w"], ["y"], activation="Relu")],
        [weights("w", 10, 3, 3, 3)], 30 * 30 * 270, 270,
    ),
    "FusedMatMul, turned": (
        [FLAT, microsoft("FusedMatMul", ["f", "w"], ["y"], transB=1)], [weights("w", 10, 3072)], 30720, 30720,
    ),
    "FusedGemm": (
        [FLAT, microsoft("FusedGemm", ["f", "w", "b"], ["y"], activation="Relu")],
        [weights("w", 3072, 10), weights("b", 10)], 30720, 30730,
    ),
    "DynamicQuantizeMatMul": (
        [FLAT, microsoft("DynamicQuantizeMatMul", ["f", "w", "scale", "zero"], ["y"])],
        [SCALE, ZERO, weights("w", 3072, 10, dtype=np.uint8)], 30720, 30720,
    ),
    "MatMulNBits": (
        [*TOKENS, microsoft("MatMulNBits", ["t", "w", "s"], ["y"], K=96, N=10, bits=4, block_size=32)],
        [*TO_TOKENS, weights("w", 10, 3, 16, dtype=np.uint8), weights("s", 30)], 32 * 960, 960,
    ),
    "attention with its projection": (
        [*TOKENS, microsoft("Attention", ["t", "w", "b"], ["y"], num_heads=4)],
        [*TO_TOKENS, weights("w", 96, 288), weights("b", 288)], 32 * 96 * 288 + 2 * 32 * 32 * 96, 97 * 288,
    ),
    "multi-head attention": (
        [*TOKENS, microsoft("MultiHeadAttention", ["t", "t", "t"], ["y"], num_heads=4)],
        TO_TOKENS, 2 * 32 * 32 * 96, 0,
    ),
    "free operators of onnxruntime": (
        [
            *TOKENS,
            microsoft("SkipLayerNormalization", ["t", "t", "g"], ["n"]),
            microsoft("BiasGelu", ["n", "g"], ["y"]),
        ],
        [*TO_TOKENS, weights("g", 96)], 0, 96,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PRODUCTS)
def test_each_operator_counts_by_its_formula(name: str) -> None:
    nodes, constants, macs, parameters = PRODUCTS[name]
    complexity = count(nodes, constants)
    assert (complexity.macs, complexity.parameters, complexity.note) == (macs, parameters, "")


def test_a_batch_that_the_file_fixes_is_divided_out() -> None:
    nodes = [node("Reshape", ["x", "s"], ["f"]), node("MatMul", ["f", "w"], ["y"])]
    constants = [integers("s", 4, 3072), weights("w", 3072, 10)]
    assert count(nodes, constants, image=[4, 3, 32, 32]).macs == 30720
    flat = [FLAT, node("MatMul", ["f", "w"], ["y"])]
    assert count(flat, constants[1:], image=["batch", 3, 32, 32]).macs == 30720


def branch(result: str, *nodes: Any) -> Any:
    return helper.make_graph(list(nodes), result, [], [helper.make_tensor_value_info(result, TensorProto.FLOAT, None)])


TRUE = numpy_helper.from_array(np.array(True), "true")


def test_branches_count_where_they_cost_the_same() -> None:
    one, other = branch("a", node("MatMul", ["f", "w"], ["a"])), branch("b", node("MatMul", ["f", "w"], ["b"]))
    nodes = [FLAT, node("If", ["true"], ["y"], then_branch=one, else_branch=other)]
    assert count(nodes, [TRUE, weights("w", 3072, 10)]).macs == 30720
    free = branch("b", node("Relu", ["f"], ["b"]))
    nodes = [FLAT, node("If", ["true"], ["y"], then_branch=one, else_branch=free)]
    complexity = count(nodes, [TRUE, weights("w", 3072, 10)])
    assert (complexity.macs, complexity.parameters) == (None, 30720)
    assert "If with branches of different cost" in complexity.note


def loop(condition: Any, *, times: str) -> list[Any]:
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [node("MatMul", ["state", "w"], ["next"]), condition],
        "body",
        [
            value("i", TensorProto.INT64, []),
            value("going", TensorProto.BOOL, []),
            value("state", TensorProto.FLOAT, [1, 10]),
        ],
        [value("goes_on", TensorProto.BOOL, []), value("next", TensorProto.FLOAT, [1, 10])],
    )
    return [
        FLAT,
        node("MatMul", ["f", "v"], ["q"]),
        node("ReduceMax", ["x"], ["largest"], keepdims=0),
        node("Cast", ["largest"], ["computed"], to=TensorProto.INT64),
        node("Loop", [times, "true", "q"], ["y"], body=body),
    ]


def test_a_loop_counts_where_its_length_is_constant() -> None:
    constants = [
        TRUE, weights("v", 3072, 10), weights("w", 10, 10), numpy_helper.from_array(np.array(7, np.int64), "seven"),
    ]  # fmt: skip
    always = node("Identity", ["going"], ["goes_on"])
    assert count(loop(always, times="seven"), constants).macs == 30720 + 7 * 100
    for condition, times in ((always, "computed"), (node("Less", ["next", "next"], ["goes_on"]), "seven")):
        complexity = count(loop(condition, times=times), constants)
        assert complexity.macs is None
        assert "Loop of a length that is not constant" in complexity.note


def test_a_scan_runs_its_body_for_each_element() -> None:
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [node("MatMul", ["element", "w"], ["o"]), node("Add", ["state", "o"], ["next"])],
        "body",
        [value("state", TensorProto.FLOAT, [1, 10]), value("element", TensorProto.FLOAT, [1, 96])],
        [value("next", TensorProto.FLOAT, [1, 10])],
    )
    nodes = [*TOKENS, node("Scan", ["start", "t"], ["y"], body=body, num_scan_inputs=1)]
    assert count(nodes, [*TO_STEPS, weights("w", 96, 10), weights("start", 1, 10)]).macs == 32 * 960


def test_an_unknown_operator_is_named_and_nothing_is_summed() -> None:
    pool = node("MyPool", ["f"], ["g"], domain="com.acme")
    complexity = count([FLAT, pool, node("MatMul", ["g", "w"], ["y"])], [weights("w", 3072, 10)])
    assert complexity.macs is None
    assert complexity.note == "cannot be counted: the graph has com.acme.MyPool"
    spectrum = [node("DFT", ["x"], ["y"])]
    assert count(spectrum, []).note == "cannot be counted: the graph has DFT"


def test_a_shape_that_onnx_cannot_infer_is_that_of_a_run() -> None:
    computed = [
        node("Relu", ["x"], ["r"]),
        node("ReduceMin", ["r"], ["low"], keepdims=0),  # 0 of an image of zeros
        node("Cast", ["low"], ["zero_"], to=TensorProto.INT64),
        node("Add", ["zero_", "shape"], ["to"]),
        node("Reshape", ["x", "to"], ["f"]),
        node("MatMul", ["f", "w"], ["y"]),
    ]
    constants = [integers("shape", 1, 32, 96), weights("w", 96, 10)]
    assert count(computed, constants).macs == 32 * 960
    unusable = [*computed[:-1], node("MatMul", ["f", "w"], ["y"], name="head")]
    complexity = count(unusable, [integers("shape", 1, 31, 96), weights("w", 96, 10)])
    assert complexity.macs is None
    assert "the ONNX node 'head' (MatMul)" in complexity.note


def test_products_inside_functions_and_fused_operators_count(tmp_path: Path) -> None:
    """Three convolutions of 64 channels at 32 x 32: plain, as onnxruntime writes them, and as local functions."""
    import onnxruntime

    kernels = [weights(f"w{index}", 64, 3 if index == 0 else 64, 3, 3) for index in range(3)]
    constants = [*kernels, weights("b", 64), weights("w", 64, 10)]
    tail = [
        node("GlobalAveragePool", ["r2"], ["p"]),
        node("Flatten", ["p"], ["f"]),
        node("MatMul", ["f", "w"], ["y"]),
    ]
    inputs = ["x", "r0", "r1"]
    plain, calls = [], []
    for index, source in enumerate(inputs):
        plain.append(node("Conv", [source, f"w{index}", "b"], [f"c{index}"], pads=[1] * 4))
        plain.append(node("Relu", [f"c{index}"], [f"r{index}"]))
        calls.append(node("Block", [source, f"w{index}", "b"], [f"r{index}"], domain="my"))
    body = [node("Conv", ["i", "k", "b"], ["c"], pads=[1] * 4), node("Relu", ["c"], ["o"])]
    block = helper.make_function("my", "Block", ["i", "k", "b"], ["o"], body, [helper.make_opsetid("", 17)])
    onnx.save(model(plain + tail, constants, output=[1, 10]), tmp_path / "plain.onnx")
    onnx.save(model(calls + tail, constants, functions=(block,), output=[1, 10]), tmp_path / "local.onnx")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "fused.onnx")
    onnxruntime.InferenceSession(tmp_path / "plain.onnx", options, providers=["CPUExecutionProvider"])
    assert "FusedConv" in {entry.op_type for entry in onnx.load(tmp_path / "fused.onnx").graph.node}
    for name in ("plain", "local", "fused"):
        config = ModelConfig(origin=ModelOrigin.file, path=str(tmp_path / f"{name}.onnx"))
        (tmp_path / f"out_{name}").mkdir()
        assert load_file(config, tmp_path / f"out_{name}").complexity.macs == 77_267_584, name
