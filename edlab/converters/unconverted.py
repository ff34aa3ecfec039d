"""The unconverted baselines: the source file itself, run by its own framework."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from edlab.config import Precision, QuantizationConfig
from edlab.converters.base import Capability, Converter, Step
from edlab.source import SourceModel


class _Unconverted(Converter):
    capabilities: ClassVar[Mapping[Precision, Capability]] = {Precision.fp32: Capability()}

    def _steps(self, source: SourceModel, quantization: QuantizationConfig) -> tuple[Step, ...]:
        return ()


class TorchConverter(_Unconverted):
    """The exported program, for torch."""

    name = "torch"
    format = "pt2"
    weight_readers: ClassVar[Mapping[str, str]] = {"pt2": "edlab.converters.inspect:pt2_weights"}
    takes = ("pt2",)
    requirements: ClassVar[Mapping[str, str]] = {"torch": "edlab"}


class KerasConverter(_Unconverted):
    """The Keras model, for TensorFlow."""

    name = "keras"
    format = "keras"
    weight_readers: ClassVar[Mapping[str, str]] = {"keras": "edlab.converters.inspect:keras_weights"}
    takes = ("keras",)
    requirements: ClassVar[Mapping[str, str]] = {"tensorflow": "edlab[tensorflow]"}
