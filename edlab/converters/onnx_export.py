"""torch -> ONNX and Keras -> ONNX: the way into every toolchain that accepts ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edlab.artifact import StepReport
from edlab.converters.base import Step
from edlab.converters.onnx_batch import free_batch
from edlab.source import ArrayInput, SourceModel

OPSET = 17  # what every vendor's tool accepts
INPUT, OUTPUT = "input", "output"

_TORCH = {"torch": "edlab", "onnx": "edlab"}
_KERAS = {
    "tensorflow": "edlab[tensorflow]",
    "keras": "edlab[tensorflow]",
    "tf2onnx": "edlab[tensorflow]",
    "onnx": "edlab",
}


def export_steps(source: SourceModel, *, batches: bool = False) -> tuple[Step, ...]:
    """The steps from the source to an ONNX file of the same precision; none for an ONNX source.

    Its batch is static, 1, which every vendor's tool accepts; `batches` frees it for a model that can be run in
    batches, if the outputs stay the same (`onnx_batch`). If they do not, the step's report states why.
    """
    if source.format == "onnx":
        return ()
    function, tools = ("torch_to_onnx", _TORCH) if source.format == "pt2" else ("keras_to_onnx", _KERAS)
    options: dict[str, Any] = {"opset": OPSET}
    if batches and source.batchable:
        options["free_batch"] = True
        tools = {**tools, "onnxruntime": "edlab"}  # compares
    if isinstance(source.preprocessing, ArrayInput):
        options["array"] = True
    return (
        Step(
            name=function,
            version=1,
            function=f"{__name__}:{function}",
            output="model.onnx",
            format="onnx",
            precision=source.precision,
            layout="NCHW",
            tools=tools,
            options=options,
        ),
    )


def torch_to_onnx(inputs: list[str], out: str, options: dict[str, Any], calibration: None) -> None:
    """Exported program -> ONNX by torch's TorchScript exporter, whose graphs every vendor's tool reads."""
    import torch

    from edlab.converters.torch_program import load_module

    module, example = load_module(inputs[0])
    with torch.no_grad():
        torch.onnx.export(
            module,
            (example,),
            out,
            dynamo=False,
            opset_version=options["opset"],
            input_names=[INPUT],
            output_names=[OUTPUT],
        )
    _finish(out, options)


def keras_to_onnx(inputs: list[str], out: str, options: dict[str, Any], calibration: None) -> None:
    """Keras -> ONNX by tf2onnx with an NCHW input, so that no transposes remain inside."""
    import tensorflow as tf
    import tf2onnx

    model = tf.keras.models.load_model(inputs[0], compile=False)
    signature = [tf.TensorSpec((1, *model.input_shape[1:]), tf.float32, name=INPUT)]

    @tf.function(input_signature=signature)  # type: ignore[untyped-decorator]
    def predict(images: Any) -> Any:
        outputs = model(images, training=False)
        if isinstance(outputs, (list, tuple)):
            return [tf.identity(output, name=f"{OUTPUT}_{index}") for index, output in enumerate(outputs)]
        return tf.identity(outputs, name=OUTPUT)

    tf2onnx.convert.from_function(
        predict,
        input_signature=signature,
        opset=options["opset"],
        inputs_as_nchw=[] if options.get("array") else [INPUT],
        output_path=out,
    )
    _finish(out, options)


def _finish(out: str, options: dict[str, Any]) -> None:
    if options.get("free_batch"):
        reason = free_batch(Path(out))
        StepReport(details={"batch_one_only": reason} if reason else {}).write_beside(out)
