"""The base class of converters: a vendor's toolchain that plans a chain of steps, each from files to a file.

A third party subclasses `Converter`, gives it an entry point in `edlab.converters`, and tests it with
`edlab.testing.converter.ConverterConformance`.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from edlab.config import CalibrationMethod, ConverterConfig, Granularity, Precision, QuantizationConfig, Symmetry
from edlab.converters.calibration import CalibrationData
from edlab.errors import ConfigError, UnsupportedError
from edlab.registry import did_you_mean
from edlab.source import Layout, SourceModel
from edlab.toolenvs import ToolEnv

__all__ = [
    "HOST",
    "TARGET",
    "TOOLENV",
    "CalibrationData",
    "Capability",
    "Converter",
    "Step",
    "ToolEnv",
    "Workshop",
    "check_excluded",
]

HOST = "host"  # edlab's own Python, in a separate process
TOOLENV = "toolenv"  # the converter's tool environment
TARGET = "target"  # the device that is benchmarked


@dataclass(frozen=True)
class Step:
    """One step of a chain: a function that runs in a separate process and is cached by all fields of this class.

    `function` is "module:function" of the form `fn(inputs, out, options, calibration) -> None`: paths of the input
    files, the path to write (further files go next to it), JSON options, and `CalibrationData.describe()` or None.
    Increase `version` when the function's output changes. What a tool reports about its own work is written next to the
    output as an `edlab.artifact.StepReport`. A step that runs in a workshop other than HOST has the name of an agent's
    `toolchain` instead of a function, and no tools: the `identity` of that toolchain is part of its cache key.
    """

    name: str
    version: int
    function: str
    output: str  # file name of what a runtime, or the next step, opens
    format: str
    precision: str
    layout: Layout  # of the input of the model written
    tools: Mapping[str, str]  # import name -> what pip installs it with; their versions are part of the cache key
    options: Mapping[str, Any] = field(default_factory=dict)
    # For tools that are not Python packages: `options` -> their versions, which are part of the cache key too. Called
    # when the step is reached; raises `MissingDependencyError`.
    identity: Callable[[Mapping[str, Any]], dict[str, str]] | None = None
    calibrates: bool = False
    workshop: str = HOST  # where it runs: HOST, TOOLENV, or TARGET, after all others
    toolchain: str = ""  # of the agent that runs it (edlab.agent.toolchains)


@dataclass(frozen=True)
class Capability:
    """What a toolchain supports at one precision. An empty setting is not used at this precision."""

    granularities: tuple[Granularity, ...] = ()
    activations: tuple[Symmetry, ...] = ()
    methods: tuple[CalibrationMethod, ...] = ()
    exclude: bool = False  # whether named nodes can be left in floating point


class Workshop(ABC):
    """Where a conversion step runs."""

    @abstractmethod
    def versions(self, step: Step) -> dict[str, str]:
        """What the step's output depends on besides its input, by name. Raises `MissingDependencyError`."""

    @abstractmethod
    def run(
        self,
        step: Step,
        inputs: Sequence[Path],
        out: Path,
        calibration: CalibrationData | None,
        config: ConverterConfig,
        log: Path,
    ) -> float:
        """Write `out` and the files that belong to it next to it; the tool's output goes to `log`, even if it fails.

        Returns the seconds that the tool took.

        Raises `ConversionError`, or what a target raises.
        """


class Converter(ABC):
    """A vendor's toolchain. Subclasses declare what it supports and return the steps from `_steps`."""

    name: ClassVar[str]
    format: ClassVar[str]  # of the artifact
    takes: ClassVar[tuple[str, ...]]  # formats of the source
    capabilities: ClassVar[Mapping[Precision, Capability]]
    requirements: ClassVar[Mapping[str, str]]  # import name -> what pip installs it with
    on_target: ClassVar[bool] = False  # its tool is on the device, as the last step is: see TARGET
    toolenv: ClassVar[ToolEnv | None] = None  # for tools that cannot be installed next to edlab: see TOOLENV
    default_options: ClassVar[Mapping[str, Any]] = {}  # every option of `converter.options`, with its default
    # Artifact format -> "module:function" of Path -> iterable of (shape, dtype): the constants of such a file. Without
    # a reader edlab cannot check that an int8 file contains int8 weights. It runs in a separate process.
    weight_readers: ClassVar[Mapping[str, str]] = {}
    # Artifact format -> "module:function" that compares a quantized file with its float32 file, value by value: see
    # `edlab.converters.layer_noise`. Without it `edlab explain-accuracy` is not available.
    layer_noise: ClassVar[Mapping[str, str]] = {}

    def __init__(self, config: ConverterConfig) -> None:
        """Raises `ConfigError` for an option that this toolchain does not have, or that has the wrong type."""
        if config.python and not self.toolenv:
            raise ConfigError(
                f"converter={self.name} runs in edlab's own Python: it has no tool environment",
                hint="remove converter.python",
            )
        for key, value in config.options.items():
            _check_option(self.name, key, value, self.default_options)
        self.options = {**self.default_options, **config.options}

    @classmethod
    def missing(cls) -> list[str]:
        """The packages of `requirements` that are not installed."""
        return [package for package in cls.requirements if importlib.util.find_spec(package) is None]

    def check_programs(self) -> None:  # noqa: B027
        """Raise `MissingDependencyError` if a program that is not a Python package is missing."""

    @classmethod
    def target_format(cls, source: SourceModel) -> str:
        """The format of the artifact. Raises `UnsupportedError` if this toolchain does not support the source."""
        if source.format not in cls.takes:
            raise UnsupportedError(
                f"converter={cls.name} does not support {source.format} models",
                hint=f"it supports {', '.join(cls.takes)}; `edlab converters` lists all",
            )
        return cls.format

    def plan(self, source: SourceModel, quantization: QuantizationConfig) -> tuple[Step, ...]:
        """The steps from the source to the artifact; none if the source is already what is requested.

        Raises `UnsupportedError` that names the unsupported setting and what the toolchain supports instead.
        """
        self.target_format(source)
        quantization = self._with_granularity(quantization)
        self._check_precision(source, quantization)
        return self._steps(source, quantization)

    def _with_granularity(self, quantization: QuantizationConfig) -> QuantizationConfig:
        """The settings with this toolchain's default granularity, if none is set."""
        if quantization.granularity is not None or quantization.precision not in self.capabilities:
            return quantization
        able = self.capability(quantization.precision).granularities
        return dataclasses.replace(quantization, granularity=able[0]) if able else quantization

    @abstractmethod
    def _steps(self, source: SourceModel, quantization: QuantizationConfig) -> tuple[Step, ...]:
        """The steps for a source and settings that are known to be supported."""

    def capability(self, precision: Precision) -> Capability:
        """What this toolchain supports at one of its precisions; options may restrict it."""
        return self.capabilities[precision]

    def _check_precision(self, source: SourceModel, quantization: QuantizationConfig) -> None:
        precision = quantization.precision
        if source.precision not in (Precision.fp32, precision):
            raise UnsupportedError(
                f"{source.name} is already {source.precision} and cannot become {precision}",
                hint=f"set quantization={source.precision}, or start from a float model",
            )
        if precision not in self.capabilities:
            raise self._refusal("quantization", precision, list(self.capabilities))
        if source.precision == precision != Precision.fp32:
            return  # the file is already quantized: no setting is used
        able = self.capability(precision)
        for setting, value, possible in (
            ("granularity", quantization.granularity, able.granularities),
            ("activations", quantization.activations, able.activations),
            ("calibration.method", quantization.calibration.method, able.methods),
        ):
            if possible and value is not None and value not in possible:
                raise self._refusal(f"quantization.{setting}", value, possible)
        if precision is not Precision.fp32 and quantization.exclude and not able.exclude:
            raise UnsupportedError(
                f"converter={self.name} does not support quantization.exclude", hint="remove quantization.exclude"
            )

    def _refusal(self, setting: str, value: str, possible: Sequence[str]) -> UnsupportedError:
        fix = f"set {setting} to one of: {', '.join(possible)}" if len(possible) > 1 else f"set {setting}={possible[0]}"
        return UnsupportedError(f"converter={self.name} does not support {setting}={value}", hint=fix)


def check_excluded(names: Sequence[str], nodes: Sequence[str]) -> None:
    """Raise `ConfigError` for a name in `quantization.exclude` that is not a node of the model."""
    for name in names:
        if name not in nodes:
            hint = did_you_mean(name, nodes, 3) or f"the first of its nodes: {', '.join(nodes[:3])}"
            raise ConfigError(f"quantization.exclude: the model has no node '{name}'", hint=hint.rstrip())


def _check_option(converter: str, key: str, value: Any, defaults: Mapping[str, Any]) -> None:
    if key not in defaults:
        options = f"its options: {', '.join(defaults)}" if defaults else "it has no options"
        raise ConfigError(f"converter={converter} has no option '{key}'", hint=did_you_mean(key, defaults) + options)
    kind = type(defaults[key])
    if not isinstance(value, kind) and not (kind is float and isinstance(value, int)):
        raise ConfigError(
            f"converter.options.{key}={value!r} is not of type {kind.__name__}",
            hint=f"for example converter.options.{key}={defaults[key]}",
        )
