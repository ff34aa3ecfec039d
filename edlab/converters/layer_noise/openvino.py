"""OpenVINO files: both graphs with more outputs, and FakeQuantize unrolled, so that nothing runs in int8."""

from __future__ import annotations

from typing import Any

from edlab.agent.fake_quantize import unroll
from edlab.converters.calibration import Batches
from edlab.converters.layer_noise.powers import Powers
from edlab.metrics.profile import SourceLayer
from edlab.source import Layout

_PRODUCTS = ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData", "MatMul")
_QUANTIZED = "/fq_output_0"  # NNCF's name for the FakeQuantize behind an operation


def compare(
    floating: str, quantized: str, images: dict[str, Any], layout: Layout, options: dict[str, Any]
) -> dict[str, Any]:
    """See the package."""
    import openvino

    core = openvino.Core()
    models = [core.read_model(path) for path in (floating, quantized)]
    ours, theirs = ({operation.get_friendly_name(): operation for operation in model.get_ops()} for model in models)
    constant = _constants(models[0])
    layers = [
        SourceLayer(
            operation.get_friendly_name(),
            operation.get_type_name(),
            [name for name in _inputs(operation) if name not in constant],
            [operation.get_friendly_name()],
            int(operation.get_type_name() in _PRODUCTS),
        )
        for operation in models[0].get_ordered_ops()
        if operation.get_friendly_name() not in constant
    ]
    ends = [layer.name for layer in layers if layer.name + _QUANTIZED in theirs]
    outputs = [_inputs(result.get_node())[0] for result in models[0].outputs]  # their values come first
    inside = [layer.name for layer in layers if layer.name in theirs and layer.operator != "Result"]
    tapped = [name for name in inside if name not in outputs]
    models[0].add_outputs([ours[name].output(0) for name in tapped])
    models[1].add_outputs([theirs.get(name + _QUANTIZED, theirs[name]).output(0) for name in tapped])
    unroll(models[1], openvino.__name__)
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = [core.compile_model(model, "CPU", settings) for model in models]
    powers = Powers()
    for image in Batches(images, layout):
        results = [model([image]) for model in compiled]
        for position, name in enumerate([*outputs, *tapped]):
            powers.add(name, results[0][position], results[1][position])
    return {
        "layers": [layer._asdict() for layer in layers if layer.operator not in ("Parameter", "Result")],
        "noise": powers.ratios(),
        "ends": list(dict.fromkeys([*ends, *outputs])),
    }


def _inputs(operation: Any) -> list[str]:
    return [value.get_node().get_friendly_name() for value in operation.input_values()]


def _constants(model: Any) -> set[str]:
    """The operations that do not depend on the input."""
    found: set[str] = set()
    for operation in model.get_ordered_ops():
        inputs = _inputs(operation)
        if operation.get_type_name() == "Constant" or (inputs and found.issuperset(inputs)):
            found.add(operation.get_friendly_name())
    return found
