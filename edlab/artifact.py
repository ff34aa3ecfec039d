"""The result of a conversion: the file that runs on the target, and how it was made."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field

from edlab.source import Layout, SourceModel


class StepReport(BaseModel):
    """What a tool reports about its own work; a step writes it next to its output for the run's record."""

    model_config = ConfigDict(frozen=True)

    FILE: ClassVar[str] = "step_report.json"

    figures: dict[str, float] = Field(default_factory=dict)  # metrics by name, units in the names
    accelerated_fraction: float | None = None  # share of the operators that run on the accelerator, 0..1
    details: dict[str, Any] = Field(default_factory=dict)  # the basis of the figures

    def write_beside(self, out: str) -> None:
        """Write it next to `out`, the output path of a step."""
        Path(out).with_name(self.FILE).write_text(self.model_dump_json(indent=2) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The report that a step wrote to its folder; an empty one if there is none."""
        path = folder / cls.FILE
        return cls.model_validate_json(path.read_text()) if path.exists() else cls()


class StepRecord(BaseModel):
    """One step of a conversion chain as it ran (or as it was found in the cache)."""

    model_config = ConfigDict(frozen=True)

    name: str  # of the step, such as `quantize_onnx`
    seconds: float  # of the run that made it, even if it was read from the cache
    cached: bool  # it was read from the cache
    tools: dict[str, str]  # package -> version
    options: dict[str, Any]  # that determined the output
    log: Path  # what the tool printed
    format: str = ""  # of what it wrote
    precision: str = ""  # of what it wrote
    layout: Layout = "NCHW"  # of the input of what it wrote
    files: tuple[Path, ...] = ()  # what it wrote, on the host
    report: StepReport = Field(default_factory=StepReport)  # what the tool reported about its work


class Artifact(BaseModel):
    """A converted model. A runtime opens `files[0]`; the others are next to it."""

    model_config = ConfigDict(frozen=True)

    format: str  # "pt2", "keras", "onnx", "openvino", "tflite", ...
    precision: str  # of the weights and activations
    layout: Layout  # of the input
    files: tuple[Path, ...]  # on the host, the one that the runtime opens first
    sha256: str  # over the contents of all files, in order
    steps: tuple[StepRecord, ...] = ()  # of the conversion, in order
    portable: Self | None = None  # the last earlier form that a CPU can open; None: this one
    unquantized: Self | None = None  # the last earlier float32 form; None: this one, or there is none

    @classmethod
    def of(cls, source: SourceModel) -> Self:
        """The source model as an artifact, without any conversion."""
        return cls(
            format=source.format,
            precision=source.precision,
            layout=source.layout,
            files=(source.path,),
            sha256=source.sha256,
        )

    @property
    def on_host(self) -> Self:
        """The form that this machine's CPU can open."""
        return self.portable or self

    def before_quantization(self, precision: str) -> Self | None:
        """The `unquantized` form for a step that converts this artifact to this precision."""
        return self if self.precision == "fp32" != precision else self.unquantized

    @property
    def size_bytes(self) -> int:
        return sum(file.stat().st_size for file in self.files)

    @property
    def accelerated_fraction(self) -> float | None:
        """Share of the operators that run on the accelerator, 0..1; None if no tool reported it."""
        reported = [step.report.accelerated_fraction for step in self.steps]
        return next((fraction for fraction in reversed(reported) if fraction is not None), None)

    @property
    def conversion_s(self) -> float:
        """Seconds that the steps of the chain took when they actually ran."""
        return sum(step.seconds for step in self.steps)
