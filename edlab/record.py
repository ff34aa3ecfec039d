"""The record of one run: the content of result.json, of the table's row and of the MLflow run."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from html import escape
from pathlib import Path
from typing import Any
from uuid import uuid4

from pydantic import AliasChoices, BaseModel, Field

from edlab import durable
from edlab.errors import StorageError
from edlab.sanitize import sanitized
from edlab.source import Reason

__all__ = ["Reason", "RunRecord", "Stage", "Status", "Verdict", "VerdictState", "as_text", "finite"]

SCHEMA_VERSION = 1


class Status(StrEnum):
    """How the run ended, if it has ended."""

    running = "running"

    ok = "ok"
    failed = "failed"
    skipped = "skipped"
    interrupted = "interrupted"


class Stage(StrEnum):
    """The five stages of a run, in order."""

    load = "load"
    convert = "convert"
    deploy = "deploy"
    measure = "measure"
    record = "record"


class VerdictState(StrEnum):
    """Whether the numbers are reliable."""

    valid = "VALID"
    degraded = "DEGRADED"
    invalid = "INVALID"


def as_text(value: Any) -> str:
    """The value of a parameter as text, as MLflow stores it."""
    if isinstance(value, str):
        return value
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) is int:
        return str(value)  # five times as fast as json, which matters for the settings of 10,000 runs
    return json.dumps(value, default=str)


def finite(metrics: Mapping[str, float]) -> tuple[dict[str, float], dict[str, str]]:
    """The metrics that are numbers, and why the others are missing: NaN and infinity cannot be shown or ranked."""
    if sum(map(abs, metrics.values())) < sys.float_info.max:
        return dict(metrics), {}  # the usual case, in a tenth of the time
    reasons = {}
    for name, value in metrics.items():
        if math.isnan(value):
            reasons[name] = "the value is not a number (NaN)"
        elif abs(value) >= sys.float_info.max:  # MLflow's database has the largest number for infinity
            reasons[name] = "the value is infinite"
    return {name: value for name, value in metrics.items() if name not in reasons}, reasons


class Verdict(BaseModel):
    """VALID without reasons, else the worst state of the reasons."""

    state: VerdictState = VerdictState.valid  # the worst state of the reasons
    reasons: list[Reason] = Field(default_factory=list)  # all reasons that were found

    @property
    def invalidating(self) -> list[str]:
        """The codes of the reasons that make it INVALID; all, if an older version recorded them."""
        codes = [reason.code for reason in self.reasons if reason.invalid]
        return codes or [reason.code for reason in self.reasons]


class RunRecord(BaseModel):
    """One run = model x quantization x converter x device, whatever happened.

    `params` are flat and dotted ("model.name"). `metrics` carry their units in their names; a metric that could not be
    measured is absent, and `missing` states why.
    """

    schema_version: int = SCHEMA_VERSION  # of this file
    uuid: str = Field(default_factory=lambda: uuid4().hex)  # edlab's own id, which identifies the run in MLflow
    run_id: str = ""  # MLflow's id, once it is known
    unrecorded: str = ""  # why MLflow does not have the run yet
    name: str  # model, quantization, converter and device
    sweep_id: str  # the command that made the run
    started_at: str  # ISO 8601 with offset
    ended_at: str = ""  # the same
    status: Status = Status.ok  # how it ended
    stage: Stage | None = Field(default=None, validation_alias=AliasChoices("stage", "step"))  # where it failed
    reason: str = ""  # why it failed or was skipped
    hint: str = ""  # how to fix it
    log_tail: str = ""  # the last lines of the failed step's log
    params: dict[str, Any] = Field(default_factory=dict)  # the configuration of the run, by key
    metrics: dict[str, float] = Field(default_factory=dict)  # by name; docs/metrics.md lists all
    missing: dict[str, str] = Field(default_factory=dict)  # why a metric is absent, by its name
    tags: dict[str, str] = Field(default_factory=dict)  # facts as text, by name
    verdict: Verdict | None = None  # of a run that was measured
    seconds: dict[str, float] = Field(default_factory=dict)  # wall time of each stage
    environment: dict[str, Any] = Field(default_factory=dict)  # host, target and installed packages
    details: dict[str, Any] = Field(default_factory=dict)  # source, artifact, phases: the basis of the metrics

    @property
    def phases(self) -> dict[str, dict[str, Any]]:
        """The report of each phase by name; the name for a repeat is "latency (repeat 2)"."""
        phases = dict(self.details.get("phases", {}))
        for number, repeat in enumerate(self.details.get("repeats", []), 2):
            phases |= {f"{name} (repeat {number})": phase for name, phase in repeat.items()}
        return phases

    @property
    def ending(self) -> str:
        """The verdict of a run that ended well, otherwise its status in capitals; empty without both."""
        if self.status is not Status.ok:
            return self.status.upper()
        return str(self.verdict.state) if self.verdict else ""

    def _repr_html_(self) -> str:
        """The run as a notebook shows it: how it ended, what was measured, and what is missing."""
        ended = f"{self.status}{f' at {self.stage}' if self.stage else ''}"
        rows = {"status": ended, "reason": self.reason, "hint": self.hint}
        if self.verdict:
            rows["verdict"] = ", ".join([self.verdict.state, *(reason.code for reason in self.verdict.reasons)])
        rows |= {name: f"{value:.6g}" for name, value in self.metrics.items()}
        rows |= {name: f"missing: {reason}" for name, reason in self.missing.items()}
        cells = "".join(
            f"<tr><th style='text-align:left'>{escape(name)}</th><td style='text-align:left'>{escape(value)}</td></tr>"
            for name, value in rows.items()
            if value
        )
        return f"<table><caption>{escape(self.name)}</caption>{cells}</table>"

    def sanitize(self) -> None:
        """Make every text safe to write and send: see `edlab.sanitize`; a metric that is not a number is missing."""
        self.metrics, reasons = finite(self.metrics)
        self.missing |= reasons
        for name in ("reason", "hint", "log_tail", "unrecorded", "params", "missing", "tags", "environment", "details"):
            setattr(self, name, sanitized(getattr(self, name)))
        if self.verdict:
            self.verdict = Verdict.model_validate(sanitized(self.verdict.model_dump()))

    @property
    def started_ms(self) -> int:
        """When the run started, milliseconds since the epoch."""
        return _ms(self.started_at)

    @property
    def ended_ms(self) -> int:
        """When the run ended, milliseconds since the epoch."""
        return _ms(self.ended_at or self.started_at)

    def write(self, path: Path) -> None:
        """Write result.json, completely or not at all."""
        durable.write_text(path, json.dumps(self.model_dump(mode="json"), indent=2) + "\n")

    @classmethod
    def read(cls, path: Path) -> RunRecord:
        """The run of a result.json. Raises `StorageError` for one that is damaged or cannot be read."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError as error:
            raise StorageError(f"{path} is missing", hint="copy the whole folder of the run") from error
        except OSError as error:
            raise StorageError(f"{path} cannot be read: {error.strerror}", hint="let this user read it") from error
        except ValueError as error:
            raise StorageError(f"{path} is damaged", hint="remove it, or restore it from a backup") from error


def _ms(moment: str) -> int:
    """Milliseconds since the epoch."""
    return round(datetime.fromisoformat(moment).timestamp() * 1000)
