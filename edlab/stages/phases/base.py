"""What a phase is, what phases are given, and what they leave."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np

from edlab.agent.messages import Activity, Pool, Setting, State, encode
from edlab.cache import Cache
from edlab.config import EdlabConfig
from edlab.devices import AgentSession
from edlab.metrics import Figures, Stability
from edlab.power import Estimate, Series, Source
from edlab.stages.deploy import Deployment
from edlab.stages.load import Inputs, OnProgress
from edlab.tasks import Comparison


class Report(Protocol):
    """What the agent reports of a phase: a message of `edlab.agent.messages`."""

    @property
    def activity(self) -> Activity:
        """What else the machine did meanwhile."""


R = TypeVar("R", bound=Report)


class Phase(ABC, Generic[R]):
    """One phase: what the agent is asked to do, and the figures of what it reports."""

    name: ClassVar[str]  # in result.json
    # Where the readings of the power source go (npy), which is then sampled while the phase runs. Its report tells
    # `start_ns` and `end_ns`. Empty: the source is not read, for reading it takes time from what is measured.
    samples_file: ClassVar[str] = ""

    @abstractmethod
    def run(self, bench: Bench) -> R:
        """Have the agent run it; files go to `bench.folder`."""

    def figures(self, bench: Bench, report: R, series: Series | None) -> Figures:
        """Its metrics; `series` are the power source's readings, if one was sampled. More goes into the measurement."""
        return Figures()

    def activities(self, report: R) -> dict[str, Activity]:
        """What the machine did meanwhile, by the name that a verdict gives it."""
        return {self.name: report.activity}

    def as_json(self, report: R, measurement: Measurement) -> dict[str, dict[str, Any]]:
        """What result.json keeps of it, by name."""
        return {self.name: encode(report)}

    def measure(self, bench: Bench) -> None:
        """Run it, with the power source sampled or not, and add what it gives to the measurement as it comes."""
        measurement = bench.measurement
        source = bench.source if self.samples_file else None
        with source or nullcontext():
            report = self.run(bench)
        result = measurement.results[type(self)] = Result(self, report)
        if source:
            span: Any = report
            result.series = source.series(span.start_ns, span.end_ns)
            result.series.save(bench.folder / self.samples_file)
            measurement.files[self.samples_file] = bench.folder / self.samples_file
        measurement.figures |= self.figures(bench, report, result.series)


@dataclass
class Result(Generic[R]):
    """What a phase that has ended gave."""

    phase: Phase[R]
    report: R
    series: Series | None = None


@dataclass
class Measurement:
    """What the phases gave, filled as each ends, so that a run which breaks off keeps what it had."""

    figures: Figures = field(default_factory=Figures)
    results: dict[type[Phase[Any]], Result[Any]] = field(default_factory=dict)
    stability: Stability | None = None
    power: Source | Estimate | None = None
    watts_by_second: list[float | None] | None = None  # over the throughput window, if a source was sampled
    batch_one_only: str = ""  # why no larger batch could be tried; empty where one could
    check: Comparison | None = None  # the target's outputs against the source model's
    after: State | None = None  # clocks, temperatures and load after the last timed phase
    files: dict[str, Path] = field(default_factory=dict)  # that belong to the run, by the name that MLflow keeps
    repeats: list[Measurement] = field(default_factory=list)  # the timed phases, in fresh processes (protocol.repeats)
    runs: list[Figures] = field(default_factory=list)  # each run's own figures, where there are repeats

    def report(self, phase: type[Phase[R]]) -> R | None:
        """What the agent reported of a phase; None if it has not ended."""
        result: Result[R] | None = self.results.get(phase)
        return result.report if result else None

    def activities(self) -> dict[str, Activity]:
        """What the machine did in each phase, by its name."""
        found: dict[str, Activity] = {}
        for result in self.results.values():
            found |= result.phase.activities(result.report)
        return found

    def truncated(self) -> list[str]:
        """The phases that their time limit cut short."""
        results = self.results.values()
        return [each.phase.name for each in results if getattr(each.report, "truncated", False)]

    def as_json(self) -> dict[str, dict[str, Any]]:
        """All reports, as result.json keeps them."""
        phases: dict[str, dict[str, Any]] = {}
        for result in self.results.values():
            phases |= result.phase.as_json(result.report, self)
            if result.phase.samples_file:
                series = result.series
                keys = ("failed", "error", "clock_error_ns")
                readings = {key: getattr(series, key) for key in keys} if series else None
                phases[result.phase.name]["readings"] = readings
        return phases


@dataclass
class Bench:
    """What the phases are measured with, and where their results go."""

    config: EdlabConfig
    inputs: Inputs
    deployment: Deployment
    measurement: Measurement
    cache: Cache
    folder: Path
    on_progress: OnProgress
    setting: Setting | None = None  # of the throughput, if an earlier run of the same row has found it

    @property
    def session(self) -> AgentSession:
        """The agent, with the artifact open."""
        return self.deployment.session

    @property
    def source(self) -> Source | None:
        """What measures power; None if nothing does."""
        return self.measurement.power if isinstance(self.measurement.power, Source) else None

    @cached_property
    def pool(self) -> Pool:
        """The images that the timed queries rotate over: drawn from the evaluation images with the protocol's seed."""
        protocol, data = self.config.protocol, self.inputs.data
        drawn = np.random.default_rng(protocol.seed).permutation(data.evaluation)[: protocol.pool]
        return Pool(str(data.images), drawn.tolist())
