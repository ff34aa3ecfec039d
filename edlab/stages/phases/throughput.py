"""Throughput: the best setting, measured over a saturated window, and the power over the same window."""

from __future__ import annotations

from typing import Any

import numpy as np

from edlab import metrics
from edlab.agent import messages
from edlab.agent.messages import Activity, Setting, ThroughputReport, Trial
from edlab.metrics import Figures
from edlab.power import Estimate, Series, Source
from edlab.stages.phases.base import Bench, Measurement, Phase
from edlab.stages.phases.readings import bounds, instrument


class Throughput(Phase[ThroughputReport]):
    """Searches for the setting, unless it is known (`Bench.setting`)."""

    name = "throughput"
    samples_file = "power_samples.csv"

    def run(self, bench: Bench) -> ThroughputReport:
        seconds = bench.config.protocol.window_seconds
        if bench.source:
            seconds = max(seconds, bench.power_seconds)
        return bench.session.measure(
            messages.THROUGHPUT, self.request(bench, seconds, bench.setting), bench.on_progress
        )

    @staticmethod
    def request(bench: Bench, seconds: float, setting: Setting | None) -> messages.Throughput:
        """The request for a window of `seconds` at `setting`; None: the agent searches for the best one before it."""
        protocol, search = bench.config.protocol, bench.config.protocol.throughput
        beyond = max(seconds - protocol.seconds, 0)  # an intentionally long window does not shorten the search
        return messages.Throughput(
            pool=bench.pool,
            seconds=seconds,
            max_seconds=protocol.max_seconds + beyond,
            max_batch=search.max_batch if bench.inputs.source.batchable else 1,
            max_in_flight=search.max_in_flight,
            gain=search.gain,
            trial_seconds=search.trial_seconds,
            setting=setting,
        )

    def figures(self, bench: Bench, report: ThroughputReport, series: Series | None) -> Figures:
        rate = report.throughput_ips
        by_second, flops = np.array(report.ips_by_second), bench.inputs.source.complexity.flops
        figures = metrics.throughput(rate, flops) | metrics.throughput_interval(rate, by_second, flops)
        figures |= metrics.setting(report.batch, report.in_flight)
        if report.batch == 1:
            figures |= metrics.batch1(rate)
        elif bench.setting is None:
            figures |= metrics.batch1(report.batch1_ips, report.batch1_note)
        bench.measurement.batch_one_only = _batch_one_only(bench, report.search)
        figures |= metrics.sustained(by_second)
        source = bench.measurement.power
        if isinstance(source, Estimate):
            return figures | metrics.estimated_power(source.watts, rate, source.reason)
        assert source is not None
        assert series is not None
        bench.measurement.watts_by_second = metrics.watts_by_second(
            series.t_ns, series.watts, report.start_ns, len(report.ips_by_second), bounds(bench, source, Figures())
        )
        earlier = bench.measurement.figures
        power = self.power(bench, report, source, series, earlier)
        if power.doubts:  # about the main metric: those of earlier phases have the same cause
            bench.measurement.figures = earlier.without(())
        return figures | power

    def power(
        self, bench: Bench, report: ThroughputReport, source: Source, series: Series, earlier: Figures
    ) -> Figures:
        """The power over the window, from the source's readings in that time."""
        return Figures({"power_readings_failed": series.failed}) | metrics.power(
            series.t_ns,
            series.watts,
            bench.power_window(self.name, report.start_ns, report.end_ns),
            report.throughput_ips,
            instrument=instrument(source, series),
            bounds=bounds(bench, source, earlier),
            error=series.error,
        )

    def activities(self, report: ThroughputReport) -> dict[str, Activity]:
        found = super().activities(report)
        return found | {"search": report.search_activity} if report.search_activity else found

    def as_json(self, report: ThroughputReport, measurement: Measurement) -> dict[str, dict[str, Any]]:
        phases = super().as_json(report, measurement)
        if searching := phases[self.name].pop("search_activity"):
            phases["search"] = {"activity": searching}
        if measurement.watts_by_second is not None:
            phases[self.name]["watts_by_second"] = measurement.watts_by_second
        return phases


def _batch_one_only(bench: Bench, trials: list[Trial]) -> str:
    """Why only batch 1 could run; empty if a larger one ran, or none was tried."""
    if not bench.inputs.source.batchable:
        return "the images of a batch would affect each other's outputs"
    tried = metrics.batch_one_only(trials)
    if not tried:
        return ""
    converted = [step.report.details.get("batch_one_only", "") for step in bench.deployment.artifact.steps]
    if bench.inputs.source.fixed_batch and bench.deployment.artifact.format == "onnx" and not any(converted):
        return "the ONNX file's batch is fixed; export it with a free batch"
    return "; ".join(filter(None, [tried, *converted]))
