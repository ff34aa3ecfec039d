"""What a conversion gives: the file that runs on the target, and how it came to be."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field

from edlab.source import Layout, SourceModel


class StepReport(BaseModel):
    """What a tool says of its own work; a step leaves it beside what it writes, and it goes into the run's record."""

    model_config = ConfigDict(frozen=True)

    FILE: ClassVar[str] = "step_report.json"

    figures: dict[str, float] = Field(default_factory=dict)  # metrics by name, units in the names
    accelerated_fraction: float | None = None  # share of the operators that run on the accelerator, 0..1
    details: dict[str, Any] = Field(default_factory=dict)  # what the figures rest on

    def write_beside(self, out: str) -> None:
        """Leave it beside `out`, the path that a step is given to write."""
        Path(out).with_name(self.FILE).write_text(self.model_dump_json(indent=2) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Self:
        """What a step left in its folder; an empty report where it left none."""
        path = folder / cls.FILE
        return cls.model_validate_json(path.read_text()) if path.exists() else cls()


class StepRecord(BaseModel):
    """One step of a conversion chain as it ran (or as it was found in the cache)."""

    model_config = ConfigDict(frozen=True)

    name: str
    seconds: float  # of the run that made it, also when it came from the cache
    cached: bool
    tools: dict[str, str]  # package -> version
    options: dict[str, Any]
    log: Path
    report: StepReport = Field(default_factory=StepReport)


class Artifact(BaseModel):
    """A converted model. `files[0]` is what a runtime opens; the others lie beside it."""

    model_config = ConfigDict(frozen=True)

    format: str  # "pt2", "keras", "onnx", "openvino", "tflite", ...
    precision: str
    layout: Layout
    files: tuple[Path, ...]
    sha256: str  # over the contents of all files, in order
    steps: tuple[StepRecord, ...] = ()
    portable: Self | None = None  # the last form before this one that a CPU opens; None: this one is
    unquantized: Self | None = None  # the last float32 form before this one; None: this one is, or there was none

    @classmethod
    def of(cls, source: SourceModel) -> Self:
        """The source model seen as the artifact that no conversion has touched."""
        return cls(
            format=source.format,
            precision=source.precision,
            layout=source.layout,
            files=(source.path,),
            sha256=source.sha256,
        )

    @property
    def on_host(self) -> Self:
        """The form of it that this machine's CPU can open."""
        return self.portable or self

    def before_quantization(self, precision: str) -> Self | None:
        """The `unquantized` form of what a step makes of this artifact in this precision."""
        return self if self.precision == "fp32" != precision else self.unquantized

    @property
    def size_bytes(self) -> int:
        return sum(file.stat().st_size for file in self.files)

    @property
    def accelerated_fraction(self) -> float | None:
        """Share of the operators that run on the accelerator, 0..1; None where no tool told."""
        told = [step.report.accelerated_fraction for step in self.steps]
        return next((fraction for fraction in reversed(told) if fraction is not None), None)

    @property
    def conversion_s(self) -> float:
        """Seconds that the chain took when each of its steps really ran."""
        return sum(step.seconds for step in self.steps)
