"""The interface of a phase, its input and its results."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np

from edlab import metrics
from edlab.agent.messages import Activity, Pool, Setting, State, encode
from edlab.cache import Cache
from edlab.config import EdlabConfig
from edlab.devices import AgentSession
from edlab.metrics import Figures, Stability
from edlab.power import Estimate, Series, Source
from edlab.stages.deploy import Deployment
from edlab.stages.load import Inputs, OnProgress, OnWarning
from edlab.tasks import Comparison


class Report(Protocol):
    """The agent's report of a phase: a message of `edlab.agent.messages`."""

    @property
    def activity(self) -> Activity:
        """What else the machine did in that time."""


R = TypeVar("R", bound=Report)

_MARGIN = 1.25  # of the time that a slow source needs for its readings


class Phase(ABC, Generic[R]):
    """One phase: the request to the agent, and the metrics from its report."""

    name: ClassVar[str]  # in result.json
    # The file for the readings of the power source (CSV), which is then sampled while the phase runs. The phase's
    # report has `start_ns` and `end_ns`. Empty: the source is not read, because reading it takes time from the
    # measurement.
    samples_file: ClassVar[str] = ""

    def applies(self, bench: Bench) -> bool:
        """Whether it is part of this run."""
        return True

    @abstractmethod
    def run(self, bench: Bench) -> R:
        """Let the agent run it; files are written to `bench.folder`."""

    def figures(self, bench: Bench, report: R, series: Series | None) -> Figures:
        """Its metrics, by default those of power; `series` are the power source's readings, if any.

        Other results go into the measurement.
        """
        if series is None or bench.source is None:
            return Figures()
        return self.power(bench, report, bench.source, series, bench.measurement.figures)

    def power(self, bench: Bench, report: R, source: Source, series: Series, earlier: Figures) -> Figures:
        """The power metrics of one source in this phase; `earlier` are those of its earlier phases."""
        return Figures()

    def activities(self, report: R) -> dict[str, Activity]:
        """What the machine did in that time, by the name of the phase in a verdict."""
        return {self.name: report.activity}

    def as_json(self, report: R, measurement: Measurement) -> dict[str, dict[str, Any]]:
        """Its results for result.json, by name."""
        return {self.name: encode(report)}

    def measure(self, bench: Bench) -> None:
        """Run it, with the power source sampled or not, and add its results to the measurement immediately."""
        measurement = bench.measurement
        source = bench.source if self.samples_file else None
        others = measurement.others if self.samples_file else []
        with ExitStack() as stack:
            for each in (source, *(other.source for other in others)):
                if each:
                    stack.enter_context(each)
            report = self.run(bench)
            result = measurement.results[type(self)] = Result(self, report)  # kept if a source cannot be stopped
        if source:
            result.series = self._series(bench, report, source, self.samples_file)
        figures = self.figures(bench, report, result.series)
        measurement.figures |= figures
        bench.warn_of(figures, "power")
        for number, other in enumerate(others, 2):
            name = f"{Path(self.samples_file).stem}_{number}.csv"
            series = self._series(bench, report, other.source, name)
            result.others.append(series)
            figures = self.power(bench, report, other.source, series, other.figures)
            other.figures |= figures
            bench.warn_of(figures, f"power by {other.source.name}")

    def _series(self, bench: Bench, report: Any, source: Source, name: str) -> Series:
        """A source's readings in this phase, which are also a file of the run."""
        series = source.series(report.start_ns, report.end_ns)
        path = bench.measurement.files[name] = bench.folder / name
        series.save(path)
        return series


@dataclass
class Result(Generic[R]):
    """The result of a finished phase."""

    phase: Phase[R]
    report: R
    series: Series | None = None
    others: list[Series] = field(default_factory=list)  # of the other sources, in their order

    @property
    def refresh_s(self) -> float | None:
        """How often the source renewed its readings in this phase, in seconds; None if it is unknown."""
        return metrics.refresh_s(self.series.t_ns, self.series.watts) if self.series else None


@dataclass
class Other:
    """A source of power next to the one of the power metrics, and its own metrics."""

    source: Source
    figures: Figures = field(default_factory=Figures)


@dataclass
class Measurement:
    """The results of the phases, added as each ends, so that a run that fails keeps its results so far."""

    figures: Figures = field(default_factory=Figures)
    results: dict[type[Phase[Any]], Result[Any]] = field(default_factory=dict)
    stability: Stability | None = None
    power: Source | Estimate | None = None
    others: list[Other] = field(default_factory=list)
    sampling_cost_with: str = ""  # the model and runtime with which the sampling cost was measured
    watts_by_second: list[float | None] | None = None  # over the throughput window, if a source was sampled
    batch_one_only: str = ""  # why no larger batch could be tried; empty if one could
    predictions_sha256: str = ""  # of the file with the predictions for the scored images; empty if there is none
    check: Comparison | None = None  # the target's outputs compared with the source model's
    after: State | None = None  # clocks, temperatures and load after the last timed phase
    files: dict[str, Path] = field(default_factory=dict)  # files of the run, by their name in MLflow
    repeats: list[Measurement] = field(default_factory=list)  # the timed phases, in new processes (protocol.repeats)
    runs: list[Figures] = field(default_factory=list)  # the metrics of each run, if there are repeats

    def report(self, phase: type[Phase[R]]) -> R | None:
        """The agent's report of a phase; None if it has not ended."""
        result: Result[R] | None = self.results.get(phase)
        return result.report if result else None

    def refresh_s(self) -> float | None:
        """How often the source renews its readings, in seconds, from those so far; None if it is unknown."""
        found = [result.refresh_s for result in self.results.values()]
        return min((each for each in found if each is not None), default=None)

    def activities(self) -> dict[str, Activity]:
        """What the machine did in each phase, by its name."""
        found: dict[str, Activity] = {}
        for result in self.results.values():
            found |= result.phase.activities(result.report)
        return found

    def truncated(self) -> list[str]:
        """The phases that were cut short by their time limit."""
        results = self.results.values()
        return [each.phase.name for each in results if getattr(each.report, "truncated", False)]

    def as_json(self) -> dict[str, dict[str, Any]]:
        """All reports, in the form of result.json."""
        phases: dict[str, dict[str, Any]] = {}
        for result in self.results.values():
            phases |= result.phase.as_json(result.report, self)
            if result.phase.samples_file:
                series = result.series
                keys = ("failed", "error", "clock_error_ns", "clock_drift")
                readings = (
                    {key: getattr(series, key) for key in keys} | {"refresh_s": result.refresh_s} if series else None
                )
                phases[result.phase.name]["readings"] = readings
        return phases


@dataclass
class Bench:
    """The inputs of the phases, and the place for their results."""

    config: EdlabConfig
    inputs: Inputs
    deployment: Deployment
    measurement: Measurement
    cache: Cache
    folder: Path
    on_progress: OnProgress
    setting: Setting | None = None  # for the throughput, if an earlier run of the same row has found it
    on_warning: OnWarning = lambda message: None

    def warn_of(self, figures: Figures, what: str) -> None:
        """Report at once why the metrics of a phase are doubtful."""
        for doubt in figures.doubts:
            self.on_warning(f"{what}: {doubt.message}")

    @property
    def session(self) -> AgentSession:
        """The agent, with the artifact open."""
        return self.deployment.session

    @property
    def source(self) -> Source | None:
        """The source of power readings; None if there is none."""
        return self.measurement.power if isinstance(self.measurement.power, Source) else None

    @property
    def lag_s(self) -> float:
        """How far back a reading of any source of power may reach, in seconds."""
        sources = [self.source, *(other.source for other in self.measurement.others)]
        return max((source.lag_s for source in sources if source), default=0.0)

    @property
    def power_seconds(self) -> float:
        """How long a phase must be, so that the source's readings in it are enough; at most the protocol's limit.

        That is longer for a source whose readings were renewed slowly in the phases so far.
        """
        config, refresh_s = self.config.power, self.measurement.refresh_s()
        renewals_s = _MARGIN * config.active_samples * refresh_s if refresh_s else 0.0
        return max(config.active_seconds, min(renewals_s, self.config.protocol.max_seconds)) + self.lag_s

    def power_window(self, phase: str, start_ns: int, end_ns: int) -> metrics.Window:
        """The span of a phase, with what its readings need."""
        config = self.config.power
        return metrics.Window(start_ns, end_ns, config.active_seconds, config.active_samples, phase)

    @cached_property
    def pool(self) -> Pool:
        """The images of the timed queries: drawn from the evaluation images with the protocol's seed."""
        protocol, data = self.config.protocol, self.inputs.data
        drawn = np.random.default_rng(protocol.seed).permutation(data.evaluation)[: protocol.pool]
        return Pool(str(data.images), drawn.tolist())
