"""What a conversion gives: the file that runs on the target, and how it came to be."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from edlab.source import Layout, SourceModel


class StepRecord(BaseModel):
    """One step of a conversion chain as it ran (or as it was found in the cache)."""

    model_config = ConfigDict(frozen=True)

    name: str
    seconds: float  # of the run that made it, also when it came from the cache
    cached: bool
    tools: dict[str, str]  # package -> version
    options: dict[str, Any]
    log: Path


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

    @property
    def size_bytes(self) -> int:
        return sum(file.stat().st_size for file in self.files)

    @property
    def conversion_s(self) -> float:
        """Seconds that the chain took when each of its steps really ran."""
        return sum(step.seconds for step in self.steps)
