"""OpenVINO: intermediate representation (.xml and .bin) in float32, float16, or int8 by NNCF.

Facts are from https://docs.openvino.ai/2025/openvino-workflow/model-optimization-guide/quantizing-models-post-training.html.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from edlab.config import CalibrationMethod, Granularity, Precision, QuantizationConfig, Symmetry
from edlab.converters import onnx_prepare
from edlab.converters.base import Capability, Converter, Step, check_excluded
from edlab.converters.calibration import Batches
from edlab.converters.onnx_export import export_steps
from edlab.source import SourceModel

_OPENVINO = {"openvino": "edlab[openvino]"}
_IMPORT = {**_OPENVINO, "onnx": "edlab"}  # inlines functions
_NNCF = {**_OPENVINO, "nncf": "edlab[openvino]"}


class OpenvinoConverter(Converter):
    """Converts to OpenVINO IR, via ONNX. Int8 is NNCF's post-training quantization with its fast bias correction.

    Option `percentile`: the share of values, in percent, that calibration method percentile keeps of each image; the
    range is the widest over the images.
    """

    name = "openvino"
    format = "openvino"
    weight_readers: ClassVar[Mapping[str, str]] = {"openvino": "edlab.converters.inspect:openvino_weights"}
    layer_noise: ClassVar[Mapping[str, str]] = {"openvino": "edlab.converters.layer_noise.openvino:compare"}
    takes = ("pt2", "keras", "onnx")
    capabilities: ClassVar[Mapping[Precision, Capability]] = {
        Precision.fp32: Capability(),
        Precision.fp16: Capability(),
        Precision.int8: Capability(
            granularities=tuple(Granularity),
            activations=tuple(Symmetry),
            methods=(CalibrationMethod.minmax, CalibrationMethod.percentile),
            exclude=True,
        ),
    }
    requirements = _NNCF
    default_options: ClassVar[Mapping[str, Any]] = {"percentile": 99.999}

    def _steps(self, source: SourceModel, quantization: QuantizationConfig) -> tuple[Step, ...]:
        export = export_steps(source)
        layout = "NCHW" if export else source.layout
        quantize = quantization.precision is Precision.int8 and source.precision != Precision.int8
        compress = quantization.precision is Precision.fp16
        convert = Step(
            name="onnx_to_openvino",
            version=2,
            function=f"{__name__}:onnx_to_openvino",
            output="model.xml",
            format="openvino",
            precision="fp32" if quantize else quantization.precision.value,
            layout=layout,
            tools=_IMPORT,
            options={"compress_to_fp16": compress},
        )
        if not quantize:
            return (*export, convert)
        options = {
            "layout": layout,
            "per_channel": quantization.granularity is Granularity.per_channel,
            "symmetric": quantization.activations is Symmetry.symmetric,
            "method": quantization.calibration.method.value,
            "exclude": list(quantization.exclude),
        }
        if quantization.calibration.method is CalibrationMethod.percentile:
            options["percentile"] = self.options["percentile"]
        return (
            *export,
            convert,
            Step(
                name="quantize_openvino",
                version=1,
                function=f"{__name__}:quantize_openvino",
                output="model.xml",
                format="openvino",
                precision="int8",
                layout=layout,
                tools=_NNCF,
                options=options,
                calibrates=True,
            ),
        )


def onnx_to_openvino(inputs: list[str], out: str, options: dict[str, Any], calibration: None) -> None:
    """ONNX -> IR; float16 compresses the weights, and the device chooses the arithmetic."""
    _silence_telemetry()
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        model = openvino.convert_model(onnx_prepare.prepare(inputs[0], Path(folder, "model.onnx")))
    openvino.save_model(model, out, compress_to_fp16=options["compress_to_fp16"])


def quantize_openvino(inputs: list[str], out: str, options: dict[str, Any], calibration: dict[str, Any]) -> None:
    """Static int8: symmetric weights, and activations as requested."""
    _silence_telemetry()
    import nncf
    import openvino
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, QuantizationParameters

    model = openvino.Core().read_model(inputs[0])
    check_excluded(options["exclude"], [operation.get_friendly_name() for operation in model.get_ops()])
    quantized = nncf.quantize(
        model,
        nncf.Dataset(Batches(calibration, options["layout"])),
        preset=nncf.QuantizationPreset.PERFORMANCE if options["symmetric"] else nncf.QuantizationPreset.MIXED,
        subset_size=len(calibration["indices"]),
        ignored_scope=nncf.IgnoredScope(names=options["exclude"]),
        advanced_parameters=AdvancedQuantizationParameters(
            weights_quantization_params=QuantizationParameters(per_channel=options["per_channel"]),
            activations_range_estimator_params=_ranges(options.get("percentile")),
        ),
    )
    _number_unnamed(quantized)
    openvino.save_model(quantized, out, compress_to_fp16=False)


def _ranges(percentile: float | None) -> Any:
    """How NNCF measures a range: the widest over all images, like the other toolchains, of all values or of a share.

    NNCF's default is the mean over the images; with quantiles that clips half of them: MobileNet V2 drops from 80 % to
    48 % top-1.
    """
    from nncf.quantization.range_estimator import (
        AggregatorType,
        RangeEstimatorParameters,
        RangeEstimatorParametersSet,
        StatisticsCollectorParameters,
        StatisticsType,
    )

    if percentile is None:
        return RangeEstimatorParametersSet.MINMAX
    outliers = 1 - percentile / 100
    return RangeEstimatorParameters(
        min=StatisticsCollectorParameters(StatisticsType.QUANTILE, AggregatorType.MIN, quantile_outlier_prob=outliers),
        max=StatisticsCollectorParameters(StatisticsType.QUANTILE, AggregatorType.MAX, quantile_outlier_prob=outliers),
    )


def _number_unnamed(model: Any) -> None:
    """Name unnamed operations by their position: OpenVINO's own numbering differs from run to run."""
    for place, operation in enumerate(model.get_ordered_ops()):
        kind = operation.get_type_name()
        if re.fullmatch(rf"{kind}_\d+", operation.get_friendly_name()):
            operation.set_friendly_name(f"{kind}_{place}")


def _silence_telemetry() -> None:
    os.environ["NNCF_CI"] = "1"  # nncf/telemetry/wrapper.py
    os.environ["CI"] = "true"  # openvino_telemetry/utils/opt_in_checker.py
