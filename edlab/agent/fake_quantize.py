"""OpenVINO's FakeQuantize nodes as the arithmetic that they stand for, so that nothing runs in int8.

OpenVINO has no public switch that computes a quantized model in floating point. Its internal LP_TRANSFORMS_MODE has
wrong results with more than one stream (seen with OpenVINO 2026.4).
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np


def unroll(model: Any, package: str) -> None:
    """Replace each FakeQuantize of the model in place.

    `package` contains OpenVINO's API: openvino, before 2023.1 openvino.runtime. The formula is FakeQuantize's,
    docs.openvino.ai, "FakeQuantize":
    y = round((clamp(x) - input_low) / (input_high - input_low) * (levels - 1)) / (levels - 1)
        * (output_high - output_low) + output_low
    """
    opset = importlib.import_module(package + ".opset8")
    nodes = [node for node in model.get_ordered_ops() if node.get_type_name() == "FakeQuantize"]
    for node in nodes:
        source, *bounds = (node.input_value(position) for position in range(5))
        input_low, input_high, output_low, output_high = bounds
        steps = opset.constant(np.float32(node.get_attributes()["levels"] - 1))
        clamped = opset.minimum(opset.maximum(source, input_low), input_high)
        scale = opset.divide(steps, opset.subtract(input_high, input_low))
        code = opset.round(opset.multiply(opset.subtract(clamped, input_low), scale), "half_to_even")
        step = opset.divide(opset.subtract(output_high, output_low), steps)
        node.output(0).replace(opset.add(opset.multiply(code, step), output_low).output(0))
    if nodes:
        _fold_constants(model, package)


def _fold_constants(model: Any, package: str) -> None:
    """Replace int8 weights by float32 constants: if each stream does this by itself, streams disturb each other."""
    passes = importlib.import_module(package + ".passes")
    manager = passes.Manager()
    manager.register_pass(passes.ConstantFolding())
    manager.run_passes(model)
