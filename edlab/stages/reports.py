"""The agent's reports of a run's phases, as they come in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from edlab.agent.messages import (
    Activity,
    HostWorkReport,
    IdleReport,
    LatencyReport,
    PredictReport,
    ThroughputReport,
    WarmupReport,
    encode,
)
from edlab.power import Series

_SAMPLED = {"idle", "throughput"}


@dataclass
class Reports:
    """One report a phase; None if the phase has not ended."""

    idle: IdleReport | None = None
    warmup: WarmupReport | None = None
    latency: LatencyReport | None = None
    host_work: HostWorkReport | None = None
    throughput: ThroughputReport | None = None
    accuracy: PredictReport | None = None
    power: dict[str, Series] = field(default_factory=dict)  # by phase, if a source was read meanwhile
    watts_by_second: list[float | None] | None = None  # over the throughput window, likewise

    def activities(self) -> dict[str, Activity]:
        """What the machine did in each phase, by its name."""
        found = {name: report.activity for name, report in self._by_name().items()}
        if self.throughput and self.throughput.search_activity:
            found["search"] = self.throughput.search_activity
        return found

    def truncated(self) -> list[str]:
        """The phases that their time limit cut short."""
        return [name for name, report in self._by_name().items() if getattr(report, "truncated", False)]

    def as_json(self) -> dict[str, dict[str, Any]]:
        """All of them, as result.json keeps them."""
        phases: dict[str, dict[str, Any]] = {name: encode(report) for name, report in self._by_name().items()}
        for name in phases.keys() & _SAMPLED:
            series = self.power.get(name)
            phases[name]["readings"] = {"failed": series.failed, "error": series.error} if series else None
        if self.throughput:
            if searching := phases["throughput"].pop("search_activity"):
                phases["search"] = {"activity": searching}
            if self.watts_by_second is not None:
                phases["throughput"]["watts_by_second"] = self.watts_by_second
        return phases

    def _by_name(self) -> dict[str, Any]:
        names = ("idle", "warmup", "latency", "host_work", "throughput", "accuracy")
        return {name: report for name in names if (report := getattr(self, name)) is not None}
