"""LiteRT: TFLite in float32, float16 weights, or int8 by ai-edge-quantizer.

The int8 scheme is the runtime's, https://ai.google.dev/edge/litert/conversion/tensorflow/quantization/quantization_spec.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from edlab import tflite_file
from edlab.artifact import StepReport
from edlab.config import CalibrationMethod, Granularity, Precision, QuantizationConfig, Symmetry
from edlab.converters.base import Capability, Converter, Step, check_excluded
from edlab.converters.calibration import Batches
from edlab.errors import ModelError, UnsupportedError
from edlab.source import ArrayInput, SourceModel

_TORCH = {"litert_torch": "edlab[litert]", "torch": "edlab"}
_ONNX = {"onnx2torch": "edlab[litert]", "onnx": "edlab", **_TORCH}
_KERAS = {"tensorflow": "edlab[tensorflow]", "keras": "edlab[tensorflow]"}
_EXPORTS = {  # by format: the step, its version, its tools
    "pt2": ("torch_to_tflite", 1, _TORCH),
    "onnx": ("onnx_to_tflite", 2, _ONNX),
    "keras": ("keras_to_tflite", 1, _KERAS),
}
_QUANTIZER = {"ai_edge_quantizer": "edlab[litert]", "ai_edge_litert": "edlab[litert]"}


class LitertConverter(Converter):
    """Converts to TFLite with an NHWC input.

    Int8: kernels symmetric, per output channel for convolutions and per tensor for fully-connected layers (the Edge
    TPU compiler accepts only these); input and output tensors are int8 too. Names in `quantization.exclude` are
    regular expressions for the names of an operation's output tensors.
    """

    name = "litert"
    format = "tflite"
    weight_readers: ClassVar[Mapping[str, str]] = {"tflite": "edlab.converters.inspect:tflite_weights"}
    layer_noise: ClassVar[Mapping[str, str]] = {"tflite": "edlab.converters.layer_noise.tflite:compare"}
    takes = ("pt2", "keras", "onnx", "tflite")
    capabilities: ClassVar[Mapping[Precision, Capability]] = {
        Precision.fp32: Capability(),
        Precision.fp16: Capability(),
        Precision.int8: Capability(
            granularities=tuple(Granularity),
            activations=tuple(Symmetry),
            methods=(CalibrationMethod.minmax,),
            exclude=True,
        ),
        # The runtime's kernels quantize activations with a zero point.
        Precision.int8_dynamic: Capability(
            # Its kernels read one scale per channel: with a single one, outputs of convolutions differ from run to run.
            granularities=(Granularity.per_channel,),
            activations=(Symmetry.asymmetric,),
            exclude=True,
        ),
    }
    requirements: ClassVar[Mapping[str, str]] = {"litert_torch": "edlab[litert]", **_QUANTIZER}

    def _steps(self, source: SourceModel, quantization: QuantizationConfig) -> tuple[Step, ...]:
        export = _export_steps(source)
        precision = quantization.precision
        if precision in (Precision.fp32, source.precision):
            return export
        options: dict[str, Any] = {"precision": precision.value}
        if precision is not Precision.fp16:
            options["per_channel"] = quantization.granularity is Granularity.per_channel
            options["symmetric"] = quantization.activations is Symmetry.symmetric
            options["exclude"] = list(quantization.exclude)
        if precision is Precision.int8:
            options["layout"] = "NHWC" if export else source.layout
        return (
            *export,
            Step(
                name="quantize_tflite",
                version=2,
                function=f"{__name__}:quantize_tflite",
                output="model.tflite",
                format="tflite",
                precision=precision.value,
                layout="NHWC" if export else source.layout,
                tools=_QUANTIZER,
                options=options,
                calibrates=precision is Precision.int8,
            ),
        )


def _export_steps(source: SourceModel) -> tuple[Step, ...]:
    if source.format == "tflite":
        return ()
    if source.format == "onnx" and source.precision != Precision.fp32:
        raise UnsupportedError(
            f"converter=litert does not support quantized ONNX files, and {source.name} is {source.precision}",
            hint="start from the float model, or set converter=onnxruntime",
        )
    function, version, tools = _EXPORTS[source.format]
    as_it_is = isinstance(source.preprocessing, ArrayInput) or (source.format, source.layout) == ("onnx", "NHWC")
    return (
        Step(
            name=function,
            version=version,
            function=f"{__name__}:{function}",
            output="model.tflite",
            format="tflite",
            precision=source.precision,
            layout="NHWC",
            tools=tools,
            options={"array": True} if as_it_is else {},
        ),
    )


def torch_to_tflite(inputs: list[str], out: str, options: dict[str, Any], calibration: None) -> None:
    """Exported program -> TFLite by litert-torch."""
    from edlab.converters.torch_program import load_module

    module, example = load_module(inputs[0])
    _export(module, example, out, options)


def onnx_to_tflite(inputs: list[str], out: str, options: dict[str, Any], calibration: None) -> None:
    """ONNX -> torch by onnx2torch -> TFLite by litert-torch. Raises `ConversionError` for an unknown operator.

    The step's report states what was changed in the graph before, such as its opset.
    """
    from edlab.converters.onnx_to_torch import load_onnx

    opened = load_onnx(inputs[0])
    _export(opened.module, opened.example, out, options)
    StepReport(details=opened.changes).write_beside(out)


def _export(module: Any, example: Any, out: str, options: dict[str, Any]) -> None:
    """By litert-torch; images (1, channels, height, width) become channels-last."""
    import litert_torch

    if not options.get("array"):
        module = litert_torch.to_channel_last_io(module, args=[0])
        example = example.permute(0, 2, 3, 1).contiguous()
    litert_torch.convert(module, (example,)).export(out)


def keras_to_tflite(inputs: list[str], out: str, options: dict[str, Any], calibration: None) -> None:
    """Keras -> TFLite by TensorFlow's converter, with a static batch of 1."""
    import tensorflow as tf

    model = tf.keras.models.load_model(inputs[0], compile=False)
    archive = tf.keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(
        "serve",
        lambda images: model(images, training=False),
        input_signature=[tf.TensorSpec((1, *model.input_shape[1:]), tf.float32, name="input")],
    )
    with tempfile.TemporaryDirectory() as folder:
        archive.write_out(folder)
        Path(out).write_bytes(tf.lite.TFLiteConverter.from_saved_model(folder).convert())


def quantize_tflite(inputs: list[str], out: str, options: dict[str, Any], calibration: dict[str, Any] | None) -> None:
    """Float TFLite -> float16 weights, int8 weights, or int8 throughout."""
    from ai_edge_quantizer.quantizer import Quantizer

    _check_patterns(inputs[0], options.get("exclude", []))
    with tempfile.TemporaryDirectory() as folder:
        path = ensure_signature(inputs[0], Path(folder, "model.tflite"))
        quantizer = Quantizer(path, _recipe(options).get_quantization_recipe())
        ranges = _calibrate(path, options, calibration) if calibration else None
        quantizer.quantize(ranges, enable_progress_report=False).export_model(out)


def ensure_signature(path: str, copy: Path) -> str:
    """The file itself, or a copy with a signature if it has none, as before TensorFlow 2.5.

    ai-edge-quantizer calibrates by signature.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = tflite_file.parse(Path(path).read_bytes())
    if model.signatureDefs:
        return path
    graph = model.subgraphs[0]
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = "serving_default", 0
    signature.inputs = [_tensor_map(schema, f"input_{n}", tensor) for n, tensor in enumerate(graph.inputs)]
    signature.outputs = [_tensor_map(schema, f"output_{n}", tensor) for n, tensor in enumerate(graph.outputs)]
    model.signatureDefs = [signature]
    copy.write_bytes(tflite_file.pack(model))
    return str(copy)


def _tensor_map(schema: Any, name: str, tensor: int) -> Any:
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name, int(tensor)
    return entry


def _recipe(options: dict[str, Any]) -> Any:
    """ai-edge-quantizer's RecipeManager for the options of `quantize_tflite`."""
    from ai_edge_quantizer import qtyping
    from ai_edge_quantizer.algorithm_manager import AlgorithmName
    from ai_edge_quantizer.recipe_manager import RecipeManager

    operations, granularities = qtyping.TFLOperationName, qtyping.QuantGranularity
    recipe = RecipeManager()
    if options["precision"] == "fp16":
        recipe.add_weight_only_config(
            ".*", operations.ALL_SUPPORTED, num_bits=16, algorithm_key=AlgorithmName.FLOAT_CASTING
        )
        return recipe

    def add(operation: Any, granularity: Any) -> None:
        activations = None
        if options["precision"] == "int8":
            activations = qtyping.TensorQuantizationConfig(num_bits=8, symmetric=options["symmetric"])
        recipe.add_quantization_config(
            ".*",
            operation,
            qtyping.OpQuantizationConfig(
                activation_tensor_config=activations,
                weight_tensor_config=qtyping.TensorQuantizationConfig(
                    num_bits=8, symmetric=True, granularity=granularity
                ),
                compute_precision=qtyping.ComputePrecision.INTEGER,
            ),
        )

    add(operations.ALL_SUPPORTED, granularities.CHANNELWISE if options["per_channel"] else granularities.TENSORWISE)
    add(operations.FULLY_CONNECTED, granularities.TENSORWISE)
    for pattern in options["exclude"]:
        recipe.add_quantization_config(pattern, operations.ALL_SUPPORTED, algorithm_key=AlgorithmName.NO_QUANTIZE)
    return recipe


def _calibrate(path: str, options: dict[str, Any], calibration: dict[str, Any]) -> dict[str, Any]:
    """The minimum and maximum of every tensor over all images.

    Quantizer.calibrate computes a moving average instead, which depends on the order of the images.
    """
    from ai_edge_quantizer.calibrator import Calibrator
    from ai_edge_quantizer.utils.qsv_utils import min_max_update
    from ai_edge_quantizer.utils.tfl_interpreter_utils import create_tfl_interpreter

    interpreter = create_tfl_interpreter(path)
    signature = next(iter(interpreter.get_signature_list()), None)
    names = list(interpreter.get_signature_runner(signature).get_input_details())
    if len(names) != 1:
        raise ModelError(f"the model has {len(names)} inputs: {', '.join(names)}", hint="use a model with one input")
    calibrator = Calibrator(path, qsv_update_func=min_max_update)
    recipe = _recipe(options)
    for batch in Batches(calibration, options["layout"]):
        calibrator.calibrate({signature: [{names[0]: batch}]}, recipe)
    ranges: dict[str, Any] = calibrator.get_model_qsvs()
    return ranges


def _check_patterns(path: str, patterns: list[str]) -> None:
    from ai_edge_quantizer.utils import tfl_flatbuffer_utils

    graph = tfl_flatbuffer_utils.read_model(path).subgraphs[0]
    scopes = [tfl_flatbuffer_utils.get_op_scope(operator, graph.tensors) for operator in graph.operators]
    check_excluded([name for name in patterns if not any(re.search(name, scope) for scope in scopes)], scopes)
