"""What one run leaves behind: the content of result.json, of the table's row and of the MLflow run."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from edlab.source import Reason

__all__ = ["Reason", "RunRecord", "Status", "Step", "Verdict", "VerdictState"]

SCHEMA_VERSION = 1


class Status(StrEnum):
    """How the run ended."""

    ok = "ok"
    failed = "failed"
    skipped = "skipped"
    interrupted = "interrupted"


class Step(StrEnum):
    """The five steps of a run, in order."""

    load = "load"
    convert = "convert"
    deploy = "deploy"
    measure = "measure"
    record = "record"


class VerdictState(StrEnum):
    """Whether the numbers can be defended."""

    valid = "VALID"
    degraded = "DEGRADED"
    invalid = "INVALID"


class Verdict(BaseModel):
    """VALID without reasons, else the worst that a reason gives."""

    state: VerdictState = VerdictState.valid
    reasons: list[Reason] = Field(default_factory=list)


class RunRecord(BaseModel):
    """One run = model x quantization x converter x device, whatever happened.

    `params` are flat and dotted ("model.name"). `metrics` carry their units in their names; one that could not be
    measured is absent, and `missing` says why.
    """

    schema_version: int = SCHEMA_VERSION
    run_id: str = ""  # MLflow's, once it is known
    name: str
    sweep_id: str
    started_at: str  # ISO 8601 with offset
    status: Status = Status.ok
    step: Step | None = None  # where a run that is not ok ended
    reason: str = ""
    hint: str = ""
    log_tail: str = ""
    params: dict[str, Any] = Field(default_factory=dict)
    metrics: dict[str, float] = Field(default_factory=dict)
    missing: dict[str, str] = Field(default_factory=dict)  # metric -> reason
    tags: dict[str, str] = Field(default_factory=dict)
    verdict: Verdict | None = None  # of a run that measured
    seconds: dict[str, float] = Field(default_factory=dict)  # wall time of each step
    environment: dict[str, Any] = Field(default_factory=dict)
    details: dict[str, Any] = Field(default_factory=dict)  # source, artifact, phases: what the figures rest on

    @property
    def phases(self) -> dict[str, dict[str, Any]]:
        """Each phase's own account by its name; those of a repeat are called "latency (repeat 2)"."""
        phases = dict(self.details.get("phases", {}))
        for number, repeat in enumerate(self.details.get("repeats", []), 2):
            phases |= {f"{name} (repeat {number})": phase for name, phase in repeat.items()}
        return phases

    def write(self, path: Path) -> None:
        """Write result.json, whole or not at all."""
        scratch = path.with_suffix(".tmp")
        scratch.write_text(json.dumps(self.model_dump(mode="json"), indent=2) + "\n")
        scratch.replace(path)

    @classmethod
    def read(cls, path: Path) -> RunRecord:
        return cls.model_validate_json(path.read_text())
