"""Vendor toolchains: from a source model to the artifact that a target eats."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from edlab.artifact import Artifact
from edlab.cache import Cache
from edlab.config import ConverterConfig, QuantizationConfig
from edlab.converters.base import Capability, Converter, Step
from edlab.converters.calibration import CalibrationData
from edlab.converters.chain import run_chain
from edlab.errors import ConfigError
from edlab.registry import load_target, plugins
from edlab.source import SourceModel

__all__ = [
    "CalibrationData",
    "Capability",
    "Converter",
    "Step",
    "available",
    "convert",
    "get",
    "load",
    "steps_on_target",
    "targets",
]

_BUILT_IN = {
    "torch": "edlab.converters.unconverted:TorchConverter",
    "keras": "edlab.converters.unconverted:KerasConverter",
    "onnxruntime": "edlab.converters.onnxruntime:OnnxruntimeConverter",
    "openvino": "edlab.converters.openvino:OpenvinoConverter",
    "litert": "edlab.converters.litert:LitertConverter",
    "ncnn": "edlab.converters.ncnn:NcnnConverter",
    "edgetpu": "edlab.converters.edgetpu:EdgetpuConverter",
    "tensorrt": "edlab.converters.tensorrt:TensorrtConverter",
}


def available() -> dict[str, str]:
    """The names of all converters, built in and of outside packages, each with its "module:class"."""
    return {**_BUILT_IN, **{name: entry.value for name, entry in plugins("converters").items()}}


def load(name: str) -> type[Converter]:
    """The class of a converter. Raises `ConfigError` with near names where there is none."""
    known = available()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        raise ConfigError(
            f"there is no converter '{name}'",
            hint=(f"did you mean '{close[0]}'? " if close else "") + f"converter: {', '.join(known)}",
        )
    kind = load_target(known[name])
    if not (isinstance(kind, type) and issubclass(kind, Converter)):
        raise ConfigError(f"{known[name]} is not a Converter", hint="subclass edlab.converters.Converter")
    return kind


def get(config: ConverterConfig) -> Converter:
    """The converter that the configuration names, with its options. Raises `ConfigError`."""
    return load(config.name)(config)


def targets(name: str, source: SourceModel) -> str | None:
    """The artifact format that converter `name` makes of the source, or None where it does not take it."""
    kind = load(name)
    return kind.format if source.format in kind.takes else None


def convert(
    source: SourceModel,
    quantization: QuantizationConfig,
    config: ConverterConfig,
    *,
    calibration: Callable[[], CalibrationData],
    cache: Cache,
    portable: bool = False,
    on_progress: Callable[[str], None] = lambda step: None,
    on_made: Callable[[Artifact], None] = lambda artifact: None,
) -> Artifact:
    """Convert with the converter that the configuration names; see `edlab.converters.chain.run_chain`."""
    return run_chain(
        get(config),
        source,
        quantization,
        config,
        calibration=calibration,
        cache=cache,
        portable=portable,
        on_progress=on_progress,
        on_made=on_made,
    )


def steps_on_target(source: SourceModel, quantization: QuantizationConfig, config: ConverterConfig) -> tuple[Step, ...]:
    """The steps of the conversion that are left to the target."""
    return tuple(step for step in get(config).plan(source, quantization) if step.on_target)
