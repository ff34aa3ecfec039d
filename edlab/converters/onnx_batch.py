"""Frees the batch of an ONNX file that was exported with a batch of 1, if the outputs stay the same.

The graph stays as exported, node for node, so its cost at batch 1 does not change: only the first dimension of input
and outputs becomes free, and a Reshape to a constant shape (1, ...) copies that dimension instead.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edlab.converters import onnx_prepare

_BATCHES = (1, 2, 5)
_TOLERANCE = 1e-3  # of the largest output: kernels for several images sum in another order
_COPIED = 0  # in the shape of a Reshape: the dimension of its input, https://onnx.ai/onnx/operators/onnx__Reshape.html


def free_batch(path: Path) -> str:
    """Free the batch of the file if every image in a batch then has the same output as alone.

    Returns "" if that was done; otherwise the reason, and the file stays unchanged.
    """
    import onnx

    model = onnx.load(path)
    freed = _freed(model)
    problem = _difference(model, freed)
    if not problem:
        onnx.save(freed, path)
    return problem


def _freed(model: Any) -> Any:
    import onnx

    freed = onnx.ModelProto()
    freed.CopyFrom(model)
    graph = freed.graph
    for value in (*onnx_prepare.inputs(graph), *graph.output):
        if value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_param = "batch"
    del graph.value_info[:]  # shapes of intermediate tensors, with the old batch
    constants = {weight.name: weight for weight in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            constants[node.output[0]] = node.attribute[0].t
    for place, node in enumerate(graph.node):
        if node.op_type != "Reshape" or node.input[1] not in constants:
            continue
        shape = onnx.numpy_helper.to_array(constants[node.input[1]]).copy()
        if len(shape) and shape[0] == 1:
            shape[0] = _COPIED
            name = f"{node.input[1]}_batch_{place}"  # several nodes may share the constant
            graph.initializer.append(onnx.numpy_helper.from_array(shape, name))
            node.input[1] = name
    return freed


def _difference(model: Any, freed: Any) -> str:
    """How batches through the freed graph differ from single images through the original one; "" if they do not."""
    given = onnx_prepare.inputs(model.graph)[0].type.tensor_type.shape.dim
    shape = (max(_BATCHES), *(each.dim_value for each in given[1:]))
    images: NDArray[np.float32] = np.random.default_rng(0).standard_normal(shape, np.float32)
    run_given = _opened(model)
    alone = np.concatenate([run_given(images[index : index + 1]) for index in range(len(images))])
    try:
        run_freed = _opened(freed)
    except Exception as error:  # onnxruntime's own exceptions have no common base
        return _limited(error)
    for batch in _BATCHES:
        try:
            outputs = run_freed(images[:batch])
        except Exception as error:
            return _limited(error)
        if outputs.shape != alone[:batch].shape:
            return f"the exported graph needs a batch of 1: {batch} images give shape {list(outputs.shape)}"
        off = float(np.abs(outputs - alone[:batch]).max())
        if not off <= _TOLERANCE * float(np.abs(alone).max()):
            return f"the exported graph mixes the images of a batch: the outputs of {batch} images differ by {off:.2g}"
    return ""


def _limited(error: Exception) -> str:
    return f"the exported graph needs a batch of 1: {str(error).strip().splitlines()[0][:200]}"


def _opened(model: Any) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """The graph as a function of images, opened once."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # a graph that refuses the batch is a valid result
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(images: NDArray[np.float32]) -> NDArray[np.float32]:
        output: NDArray[np.float32] = session.run(None, {name: images})[0]
        return output

    return run
