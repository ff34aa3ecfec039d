"""ONNX files, with onnxruntime's tool for the loss of Q/DQ models (onnxruntime.quantization.qdq_loss_debug)."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from edlab.converters.calibration import Batches
from edlab.converters.layer_noise.powers import Powers
from edlab.metrics.profile import SourceLayer
from edlab.source import Layout

_SAVED = "_ReshapedSavedOutput"  # what the tool appends to the name of a value
_PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def compare(
    floating: str, quantized: str, images: dict[str, Any], layout: Layout, options: dict[str, Any]
) -> dict[str, Any]:
    """See the package. The quantized file is computed in floating point, so that no kernel saturates."""
    import onnx
    from onnxruntime.quantization.qdq_loss_debug import (
        create_activation_matching,
        modify_model_output_intermediate_tensors,
    )

    from edlab.converters.onnxruntime import fold_and_fuse

    powers = Powers()
    quantized_values: dict[str, None] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        prepared = fold_and_fuse(floating, folder / "prepared.onnx", options.get("per_channel", False))
        sessions = []
        for name, path in (("float", prepared), ("quantized", Path(quantized))):
            tapped = folder / f"{name}.tapped.onnx"
            modify_model_output_intermediate_tensors(path, tapped, save_as_external_data=True)
            sessions.append(_session(tapped))
        model = onnx.load(prepared, load_external_data=False)
        for image in Batches(images, layout):
            ours, theirs = ({name: [value] for name, value in _run(each, image).items()} for each in sessions)
            matched = create_activation_matching(theirs, ours)
            quantized_values |= dict.fromkeys(matched)
            pairs = {name: (each["float"], each["post_qdq"]) for name, each in matched.items() if "float" in each}
            same = {name: (value, theirs[name]) for name, value in ours.items() if name in theirs}
            for name, (value, other) in (same | pairs).items():
                powers.add(name, value[0], other[0])
    weights = {weight.name for weight in model.graph.initializer}
    layers = [
        SourceLayer(
            node.name,
            node.op_type,
            [name for name in node.input if name not in weights],
            list(node.output),
            int(node.op_type in _PRODUCTS),
        )
        for node in model.graph.node
        if node.op_type != "Constant"
    ]
    dynamic = [value for layer in layers if layer.macs for value in layer.outputs]
    outputs = [output.name for output in model.graph.output]
    return {
        "layers": [layer._asdict() for layer in layers],
        "noise": powers.ratios(),
        "ends": list(dict.fromkeys([*(quantized_values or dynamic), *outputs])),
    }


def _session(path: Path) -> Any:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.add_session_config_entry("session.disable_quant_qdq", "1")
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])


def _run(session: Any, image: Any) -> dict[str, Any]:
    """The values of one image by their names in the file."""
    source = session.get_inputs()[0]
    names = [output.name for output in session.get_outputs()]
    values = session.run(names, {source.name: image})
    return {source.name: image} | {name.removesuffix(_SAVED): value for name, value in zip(names, values, strict=True)}
