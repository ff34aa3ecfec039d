"""TensorRT: ONNX in float32, float16, or int8 with Q/DQ nodes, from which the target builds its engine.

An engine is for one GPU and one version of TensorRT, so the last step runs on the target, by the agent's runtime of the
same name. The ONNX file is already typed, as strongly typed networks need it: TensorRT 11 has no others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from edlab.config import CalibrationMethod, ConverterConfig, Granularity, Precision, QuantizationConfig, Symmetry
from edlab.converters.base import TARGET, Capability, Step
from edlab.converters.onnx_export import export_steps
from edlab.converters.onnxruntime import OnnxruntimeConverter
from edlab.errors import ConfigError
from edlab.source import Layout, SourceModel

_EXPLICIT, _IMPLICIT = "explicit", "implicit"

# Of `quantize_onnx`. Q/DQ nodes are placed before weighted layers only, so that what follows one (a ReLU, the sum of a
# residual block) is fused into it; the parser accepts int8 initializers from version 10 on, int32 ones never. TensorRT
# developer guide, "Explicit Quantization": quantized weights, Q/DQ layer-placement recommendations; onnxruntime issues
# 11535 and 14229.
_EXPLICIT_OPTIONS = {"only_weighted_inputs": True, "weights_as_qdq": True, "quantize_bias": False}

# TensorRT's own calibrators: they measure the range of every tensor; each channel of a kernel has its own scale.
_IMPLICIT_INT8 = Capability(
    granularities=(Granularity.per_channel,),
    activations=(Symmetry.symmetric,),
    methods=(CalibrationMethod.minmax, CalibrationMethod.entropy),
)


class TensorrtConverter(OnnxruntimeConverter):
    """Converts to ONNX, from which the target builds a TensorRT engine.

    Options in addition to `percentile` of converter=onnxruntime:
    int8: explicit (Q/DQ nodes added on this machine, any version) or implicit (calibrated by the target, below 11).
    workspace_mb: the maximum scratch memory of a layer, in 2^20 bytes.
    tf32: whether float32 layers may round their inputs to 10 bits of mantissa (TF32, from Ampere on).
    """

    name = "tensorrt"
    format = "tensorrt"
    on_target = True
    capabilities: ClassVar[Mapping[Precision, Capability]] = {
        Precision.fp32: Capability(),
        Precision.fp16: Capability(),
        Precision.int8: Capability(
            granularities=tuple(Granularity),
            activations=(Symmetry.symmetric,),  # the only kind that TensorRT supports ("Working with Quantized Types")
            methods=tuple(CalibrationMethod),
            exclude=True,
        ),
    }
    batches = False  # a free dimension needs an optimization profile for each range of it
    default_options: ClassVar[Mapping[str, Any]] = {
        **OnnxruntimeConverter.default_options,
        "int8": _EXPLICIT,
        "workspace_mb": 1024,
        "tf32": False,
    }

    def __init__(self, config: ConverterConfig) -> None:
        super().__init__(config)
        if self.options["int8"] not in (_EXPLICIT, _IMPLICIT):
            raise ConfigError(
                f"converter.options.int8={self.options['int8']} is neither {_EXPLICIT} nor {_IMPLICIT}",
                hint=f"set converter.options.int8={_EXPLICIT}",
            )

    def capability(self, precision: Precision) -> Capability:
        return _IMPLICIT_INT8 if self._is_implicit(precision) else super().capability(precision)

    def _steps(self, source: SourceModel, quantization: QuantizationConfig) -> tuple[Step, ...]:
        precision = quantization.precision
        implicit = self._is_implicit(precision) and source.precision != Precision.int8
        export = export_steps(source)
        options = {name: self.options[name] for name in ("workspace_mb", "tf32")}
        layout = "NCHW" if export else source.layout
        if implicit:
            options.update(int8=_IMPLICIT, method=quantization.calibration.method.value, layout=layout)
        build = Step(
            name="build_engine",
            version=1,
            function="",
            output="model.engine",
            format="tensorrt",
            precision=precision.value,
            layout=layout,
            tools={},
            options={"precision": precision.value, **options},
            calibrates=implicit,
            workshop=TARGET,
            toolchain="tensorrt",
        )
        steps = export if implicit else super()._steps(source, quantization)
        if source.format == "onnx" and not steps:
            steps = (_inline_functions(layout, source.precision),)
        return (*steps, build)

    def _step_options(
        self, source: SourceModel, quantization: QuantizationConfig, export: tuple[Step, ...]
    ) -> dict[str, Any]:
        options = super()._step_options(source, quantization, export)
        return {**options, **_EXPLICIT_OPTIONS} if quantization.precision is Precision.int8 else options

    def _is_implicit(self, precision: Precision) -> bool:
        return precision is Precision.int8 and self.options["int8"] == _IMPLICIT


def _inline_functions(layout: Layout, precision: str) -> Step:
    """For an ONNX file that goes to the target unconverted: before 10, TensorRT's parser has no local functions."""
    return Step(
        name="inline_functions",
        version=1,
        function="edlab.converters.onnx_prepare:inline_functions",
        output="model.onnx",
        format="onnx",
        precision=precision,
        layout=layout,
        tools={"onnx": "edlab"},
    )
