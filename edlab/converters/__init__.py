"""Vendor toolchains: from a source model to the artifact that a target accepts."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping

from edlab.artifact import Artifact
from edlab.cache import Cache
from edlab.config import ConverterConfig, QuantizationConfig
from edlab.converters.base import HOST, TARGET, TOOLENV, Capability, Converter, Step, ToolEnv, Workshop
from edlab.converters.calibration import CalibrationData
from edlab.converters.chain import run_steps
from edlab.converters.host import HostProcess
from edlab.registry import Group
from edlab.source import SourceModel

__all__ = [
    "HOST",
    "TARGET",
    "TOOLENV",
    "CalibrationData",
    "Capability",
    "Converter",
    "HostProcess",
    "Step",
    "ToolEnv",
    "Workshop",
    "available",
    "convert",
    "get",
    "load",
    "run_steps",
    "steps_on_target",
    "targets",
]

GROUP = Group(
    "converters",
    Converter,  # type: ignore[type-abstract]
    {
        "torch": "edlab.converters.unconverted:TorchConverter",
        "keras": "edlab.converters.unconverted:KerasConverter",
        "onnxruntime": "edlab.converters.onnxruntime:OnnxruntimeConverter",
        "openvino": "edlab.converters.openvino:OpenvinoConverter",
        "litert": "edlab.converters.litert:LitertConverter",
        "edgetpu": "edlab.converters.edgetpu:EdgetpuConverter",
        "tensorrt": "edlab.converters.tensorrt:TensorrtConverter",
    },
)

_HOST_ONLY: Mapping[str, Workshop] = {HOST: HostProcess()}


def available() -> list[str]:
    """The names of all converters: built-in ones and those of other packages."""
    return GROUP.names()


def load(name: str) -> type[Converter]:
    """The class of a converter. Raises `ConfigError` with similar names if it is unknown."""
    return GROUP.load(name)


def get(config: ConverterConfig) -> Converter:
    """The converter that the configuration names, with its options. Raises `ConfigError`."""
    return load(config.name)(config)


def targets(name: str, source: SourceModel) -> str | None:
    """The artifact format that converter `name` makes from the source, or None if the source is unsupported."""
    kind = load(name)
    return kind.format if source.format in kind.takes else None


def convert(
    source: SourceModel,
    quantization: QuantizationConfig,
    config: ConverterConfig,
    *,
    calibration: Callable[[], CalibrationData],
    cache: Cache,
    portable: Collection[str],
    only_portable: bool = False,
    workshops: Mapping[str, Workshop] = _HOST_ONLY,
    on_progress: Callable[[str], None] = lambda step: None,
    on_made: Callable[[Artifact], None] = lambda artifact: None,
) -> Artifact:
    """Convert with the converter that the configuration names, as far as this machine can: see `chain.run_steps`.

    Steps from the first one that runs on the target are not run: see `steps_on_target`. `portable` are the formats
    that this machine's CPU can open; with `only_portable`, steps from the first one that writes another format are
    not run either. `workshops` are the places where steps run, by name. Raises `UnsupportedError` too.
    """
    steps = itertools.takewhile(
        lambda step: step.workshop != TARGET and (not only_portable or step.format in portable),
        get(config).plan(source, quantization),
    )
    return run_steps(
        steps,
        Artifact.of(source),
        workshops,
        config,
        calibration=calibration,
        cache=cache,
        portable=portable,
        on_progress=on_progress,
        on_made=on_made,
    )


def steps_on_target(source: SourceModel, quantization: QuantizationConfig, config: ConverterConfig) -> tuple[Step, ...]:
    """The steps of the conversion that run on the target."""
    return tuple(step for step in get(config).plan(source, quantization) if step.workshop == TARGET)
