"""ONNX Runtime: ONNX in float32, float16, or int8 with QuantizeLinear and DequantizeLinear nodes.

Every choice is from onnxruntime's guide, https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from numpy.typing import NDArray

from edlab.artifact import StepReport
from edlab.config import CalibrationMethod, Granularity, Precision, QuantizationConfig, Symmetry
from edlab.converters import onnx_prepare
from edlab.converters.base import Capability, Converter, Step, check_excluded
from edlab.converters.calibration import Batches
from edlab.converters.onnx_export import export_steps
from edlab.errors import ModelError
from edlab.source import SourceModel

_TOOLS = {"onnxruntime": "edlab", "onnx": "edlab"}

# Histograms are computed from this many images at a time: the calibrator keeps every tensor of each of them in memory,
# and one whole slice sets the width of the bins.
_SLICE = 8

# Of the histograms for entropy. onnxruntime's default is 128, the number of levels that it quantizes to, so that the
# only range that it can choose is the whole one. More bins cost time and clip harder: of MobileNet V2's 82 % top-1, 512
# keep 79 % and 2,048 keep 73 %.
_ENTROPY_BINS = 512

# Operators that have weights, and so run in int8 if their input is int8.
_WEIGHTED = ["Conv", "ConvTranspose", "Gemm", "MatMul"]


class OnnxruntimeConverter(Converter):
    """Converts to ONNX. Option `percentile`: the share of values (%) that calibration method percentile keeps."""

    name = "onnxruntime"
    format = "onnx"
    weight_readers: ClassVar[Mapping[str, str]] = {"onnx": "edlab.converters.inspect:onnx_weights"}
    layer_noise: ClassVar[Mapping[str, str]] = {"onnx": "edlab.converters.layer_noise.onnx:compare"}
    takes = ("pt2", "keras", "onnx")
    capabilities: ClassVar[Mapping[Precision, Capability]] = {
        Precision.fp32: Capability(),
        Precision.fp16: Capability(),
        Precision.int8: Capability(
            granularities=tuple(Granularity),
            activations=tuple(Symmetry),
            methods=tuple(CalibrationMethod),
            exclude=True,
        ),
        # ConvInteger has one scale per kernel; DynamicQuantizeLinear always has a zero point.
        Precision.int8_dynamic: Capability(
            granularities=(Granularity.per_tensor,), activations=(Symmetry.asymmetric,), exclude=True
        ),
    }
    requirements = _TOOLS
    batches: ClassVar[bool] = True  # whether the tool that reads the exported file accepts a free batch
    default_options: ClassVar[Mapping[str, Any]] = {"percentile": 99.999}

    def _steps(self, source: SourceModel, quantization: QuantizationConfig) -> tuple[Step, ...]:
        dynamic = quantization.precision is Precision.int8_dynamic
        export = export_steps(source, batches=self.batches and not dynamic)
        if quantization.precision in (Precision.fp32, source.precision):
            return export
        function = {
            Precision.fp16: "onnx_to_fp16",
            Precision.int8: "quantize_onnx",
            Precision.int8_dynamic: "quantize_onnx_dynamic",
        }[quantization.precision]
        return (
            *export,
            Step(
                name=function,
                version=3 if dynamic else 2,
                function=f"{__name__}:{function}",
                output="model.onnx",
                format="onnx",
                precision=quantization.precision.value,
                layout="NCHW" if export else source.layout,
                tools=_TOOLS,
                options=self._step_options(source, quantization, export),
                calibrates=quantization.precision is Precision.int8,
            ),
        )

    def _step_options(
        self, source: SourceModel, quantization: QuantizationConfig, export: tuple[Step, ...]
    ) -> dict[str, Any]:
        if quantization.precision is Precision.fp16:
            return {}
        options: dict[str, Any] = {"exclude": list(quantization.exclude)}
        if quantization.precision is Precision.int8:
            options["layout"] = "NCHW" if export else source.layout
            options["per_channel"] = quantization.granularity is Granularity.per_channel
            options["symmetric"] = quantization.activations is Symmetry.symmetric
            options["method"] = quantization.calibration.method.value
            if quantization.calibration.method is CalibrationMethod.percentile:
                options["percentile"] = self.options["percentile"]
            if quantization.calibration.method is CalibrationMethod.entropy:
                options["bins"] = _ENTROPY_BINS
        return options


def onnx_to_fp16(inputs: list[str], out: str, options: dict[str, Any], calibration: None) -> None:
    """Weights and arithmetic in float16; inputs and outputs stay float32."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = onnx.load(onnx_prepare.prepare(inputs[0], out))
    onnx.save(convert_float_to_float16(model, keep_io_types=True), out)


def quantize_onnx(inputs: list[str], out: str, options: dict[str, Any], calibration: dict[str, Any]) -> None:
    """Static int8 as Q/DQ nodes: int8 weights, and activations uint8 with a zero point or int8 without.

    Three options are for runtimes other than onnxruntime, and are optional. `only_weighted_inputs`: only the inputs of
    operators that have weights are quantized. `weights_as_qdq`: weights stay in float32, followed by a Q/DQ pair.
    `quantize_bias`: False keeps biases in float32.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    prepared = _preprocess(inputs[0], out, options["exclude"], options["per_channel"])
    only_weighted = options.get("only_weighted_inputs", False)
    extra: dict[str, Any] = {
        "ActivationSymmetric": options["symmetric"],
        "AddQDQPairToWeight": options.get("weights_as_qdq", False),
        "QuantizeBias": options.get("quantize_bias", True),
        "OpTypesToExcludeOutputQuantization": _WEIGHTED if only_weighted else [],
    }
    with tempfile.TemporaryDirectory() as folder:
        ranges = Path(folder, "ranges.json")
        _calibrate(prepared, options, calibration, ranges)
        quantize_static(
            prepared,
            out,
            quant_format=QuantFormat.QDQ,
            per_channel=options["per_channel"],
            activation_type=QuantType.QInt8 if options["symmetric"] else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=options["exclude"],
            calibrate_method=_method(options["method"]),
            calibration_cache_path=ranges,
            op_types_to_quantize=_WEIGHTED if only_weighted else None,
            extra_options=extra,
        )
    prepared.unlink()


def quantize_onnx_dynamic(inputs: list[str], out: str, options: dict[str, Any], calibration: None) -> None:
    """Weights in int8, one scale for each; activations quantized to uint8 at run time."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    prepared = _preprocess(inputs[0], out, options["exclude"])
    quantize_dynamic(prepared, out, weight_type=QuantType.QInt8, nodes_to_exclude=options["exclude"])
    prepared.unlink()
    reason = "ranges measured at run time cover the whole batch, so its images would affect one another's outputs"
    StepReport(details={"batch_one_only": reason}).write_beside(out)


def fold_and_fuse(path: str, prepared: Path, per_channel: bool) -> Path:
    """Write the float32 model that is quantized: folded and fused, which keeps the names of the nodes that remain.

    Functions are inlined first, because the quantizer does not look into them; scales per channel need a recent opset.
    """
    from onnxruntime.quantization.shape_inference import quant_pre_process

    opset = onnx_prepare.PER_CHANNEL_OPSET if per_channel else None
    ready = onnx_prepare.prepare(path, prepared.with_suffix(".ready.onnx"), opset=opset)
    quant_pre_process(ready, prepared, skip_symbolic_shape=True)
    if ready != Path(path):
        ready.unlink()
    return prepared


def _preprocess(path: str, out: str, exclude: list[str], per_channel: bool = False) -> Path:
    """`fold_and_fuse` next to `out`, and check the names of excluded nodes against the result."""
    import onnx

    prepared = fold_and_fuse(path, Path(out).with_suffix(".prepared.onnx"), per_channel)
    check_excluded(exclude, [node.name for node in onnx.load(prepared, load_external_data=False).graph.node])
    return prepared


def _calibrate(model: Path, options: dict[str, Any], calibration: dict[str, Any], ranges: Path) -> None:
    """Write the range of every tensor of the model, as onnxruntime's calibration cache."""
    from onnxruntime.quantization.calibrate import create_calibrator, save_tensors_data

    extra: dict[str, Any] = {"symmetric": options["symmetric"]}
    if "bins" in options:
        extra["num_bins"] = options["bins"]
    if "percentile" in options:
        extra["percentile"] = options["percentile"]
    calibrator = create_calibrator(
        model,
        augmented_model_path=str(ranges.with_suffix(".onnx")),
        calibrate_method=_method(options["method"]),
        extra_options=extra,
    )
    name, dtype = _input(model)
    inputs = ({name: batch.astype(dtype)} for batch in Batches(calibration, options["layout"]))
    while slice := list(itertools.islice(inputs, _SLICE)):
        calibrator.collect_data(_Reader(slice))
    save_tensors_data(calibrator.compute_data(), ranges)


def _method(name: str) -> Any:
    from onnxruntime.quantization import CalibrationMethod as Method

    return {"minmax": Method.MinMax, "entropy": Method.Entropy, "percentile": Method.Percentile}[name]


def _input(path: Path) -> tuple[str, Any]:
    """Name and dtype of the only input."""
    import onnx

    values = onnx_prepare.inputs(onnx.load(path, load_external_data=False).graph)
    if len(values) != 1:
        names = ", ".join(value.name for value in values)
        raise ModelError(f"the model has {len(values)} inputs: {names}", hint="use a model with one input")
    return values[0].name, onnx.helper.tensor_dtype_to_np_dtype(values[0].type.tensor_type.elem_type)


class _Reader:
    """onnxruntime's CalibrationDataReader over a list of inputs."""

    def __init__(self, inputs: list[dict[str, NDArray[Any]]]) -> None:
        self._inputs = iter(inputs)

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        return next(self._inputs, None)
