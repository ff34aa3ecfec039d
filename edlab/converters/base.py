"""What a converter is: a vendor's toolchain that plans a chain of steps, each of them files in, file out.

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

HOST = "host"  # edlab's own Python, in a process of its own
TOOLENV = "toolenv"  # the converter's tool environment
TARGET = "target"  # the device that is benchmarked


@dataclass(frozen=True)
class Step:
    """One step of a chain: a function run in a process of its own, and cached by all that is named here.

    `function` is "module:function" of the form `fn(inputs, out, options, calibration) -> None`: paths of the input
    files, the path to write (further files go beside it), JSON options, and `CalibrationData.describe()` or None.
    Raise `version` when the function changes what it writes. What a tool says of its own work is left beside the output
    as an `edlab.artifact.StepReport`. A step that runs in another workshop than HOST has the name of an agent's
    `toolchain` in place of a function, and no tools: the toolchain's `identity` there enters its key.
    """

    name: str
    version: int
    function: str
    output: str  # file name of what a runtime, or the next step, opens
    format: str
    precision: str
    layout: Layout  # of the input of the model written
    tools: Mapping[str, str]  # import name -> what pip installs it with; their versions enter the key
    options: Mapping[str, Any] = field(default_factory=dict)
    # For tools that are no Python package: `options` -> their versions, which enter the key as well. Asked when the
    # step is reached; raises `MissingDependencyError`.
    identity: Callable[[Mapping[str, Any]], dict[str, str]] | None = None
    calibrates: bool = False
    workshop: str = HOST  # where it runs: HOST, TOOLENV, or TARGET, after all others
    toolchain: str = ""  # of an agent there (edlab.agent.toolchains)


@dataclass(frozen=True)
class Capability:
    """What a toolchain does at one precision. An empty setting is one that this precision does not use."""

    granularities: tuple[Granularity, ...] = ()
    activations: tuple[Symmetry, ...] = ()
    methods: tuple[CalibrationMethod, ...] = ()
    exclude: bool = False  # whether named nodes can be left in floating point


class Workshop(ABC):
    """Where a conversion step runs."""

    @abstractmethod
    def versions(self, step: Step) -> dict[str, str]:
        """What the step's output depends on beside its input, by name. Raises `MissingDependencyError`."""

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
        """Write `out`, and what belongs to it beside it; what the tool prints goes to `log`, also if it fails.

        Gives the seconds that the tool took.

        Raises `ConversionError`, or what a target raises.
        """


class Converter(ABC):
    """A vendor's toolchain. Subclasses declare what it can do and give the steps in `_steps`."""

    name: ClassVar[str]
    format: ClassVar[str]  # of the artifact
    takes: ClassVar[tuple[str, ...]]  # formats of the source
    capabilities: ClassVar[Mapping[Precision, Capability]]
    requirements: ClassVar[Mapping[str, str]]  # import name -> what pip installs it with
    on_target: ClassVar[bool] = False  # its tool is on the device, as the last step is: see TARGET
    toolenv: ClassVar[ToolEnv | None] = None  # for tools that cannot be installed next to edlab: see TOOLENV
    default_options: ClassVar[Mapping[str, Any]] = {}  # every option of `converter.options`, with its default
    # Artifact format -> "module:function" of Path -> iterable of (shape, dtype): the constants of such a file. Without
    # one edlab cannot see whether an int8 file holds int8 weights. It runs in a process of its own.
    weight_readers: ClassVar[Mapping[str, str]] = {}

    def __init__(self, config: ConverterConfig) -> None:
        """Raises `ConfigError` for an option that this toolchain does not have, or of another type."""
        if config.python and not self.toolenv:
            raise ConfigError(
                f"converter={self.name} runs in edlab's own Python: it has no tool environment",
                hint="leave out converter.python",
            )
        for key, value in config.options.items():
            _check_option(self.name, key, value, self.default_options)
        self.options = {**self.default_options, **config.options}

    @classmethod
    def missing(cls) -> list[str]:
        """The packages of `requirements` that are not installed."""
        return [package for package in cls.requirements if importlib.util.find_spec(package) is None]

    def check_programs(self) -> None:  # noqa: B027
        """Raise `MissingDependencyError` where a program that is no Python package is not there."""

    @classmethod
    def target_format(cls, source: SourceModel) -> str:
        """The format of the artifact. Raises `UnsupportedError` where this toolchain does not take the source."""
        if source.format not in cls.takes:
            raise UnsupportedError(
                f"converter={cls.name} does not take {source.format} models",
                hint=f"{cls.name} takes {', '.join(cls.takes)}; see `edlab converters`",
            )
        return cls.format

    def plan(self, source: SourceModel, quantization: QuantizationConfig) -> tuple[Step, ...]:
        """The steps from the source to the artifact; none where the source is what was asked for.

        Raises `UnsupportedError` naming the setting that the toolchain cannot do, with the nearest that it can.
        """
        self.target_format(source)
        quantization = self._with_granularity(quantization)
        self._check_precision(source, quantization)
        return self._steps(source, quantization)

    def _with_granularity(self, quantization: QuantizationConfig) -> QuantizationConfig:
        """The settings with this toolchain's own granularity, where none is set."""
        if quantization.granularity is not None or quantization.precision not in self.capabilities:
            return quantization
        able = self.capability(quantization.precision).granularities
        return dataclasses.replace(quantization, granularity=able[0]) if able else quantization

    @abstractmethod
    def _steps(self, source: SourceModel, quantization: QuantizationConfig) -> tuple[Step, ...]:
        """The steps for a source and settings that have been found to be possible."""

    def capability(self, precision: Precision) -> Capability:
        """What this toolchain does at one of its precisions; options may narrow it."""
        return self.capabilities[precision]

    def _check_precision(self, source: SourceModel, quantization: QuantizationConfig) -> None:
        precision = quantization.precision
        if source.precision not in (Precision.fp32, precision):
            raise UnsupportedError(
                f"{source.name} is {source.precision} already and cannot become {precision}",
                hint=f"quantization={source.precision}, or start from a float model",
            )
        if precision not in self.capabilities:
            raise self._refusal("quantization", precision, list(self.capabilities))
        if source.precision == precision != Precision.fp32:
            return  # the file is quantized already: no setting is used
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
                f"{self.name} cannot leave named nodes in floating point", hint="quantization.exclude=[]"
            )

    def _refusal(self, setting: str, value: str, possible: Sequence[str]) -> UnsupportedError:
        return UnsupportedError(
            f"{self.name} does not do {setting}={value}",
            hint=f"{self.name} does {', '.join(possible)}: {setting}={possible[0]}",
        )


def check_excluded(names: Sequence[str], nodes: Sequence[str]) -> None:
    """Raise `ConfigError` for a name of `quantization.exclude` that is not among the model's nodes."""
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
