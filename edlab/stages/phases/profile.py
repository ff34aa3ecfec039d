"""Profile: the time of each layer by the runtime's own profiler, mapped to the model's layers."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, NamedTuple

from edlab.agent import messages
from edlab.agent.messages import Activity, ProfileReport, encode
from edlab.errors import DeviceError
from edlab.metrics.profile import ProfileRow, attribute
from edlab.stages.layers import source_layers
from edlab.stages.phases.base import Bench, Measurement, Phase

PROFILE_FILE = "profile.csv"
_MOST_RUNS, _LEAST_RUNS = 50, 5
_SECONDS = 5.0  # about as long as the queries may take
_UNOBSERVED = Activity(0.0, None, None, None, 0, [], None)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would run a name that begins with one


class Profiled(NamedTuple):
    """The rows of a profile, or the reason why there are none."""

    rows: list[ProfileRow]
    reason: str
    runs: int
    macs: int | None  # of all layers of the model; None if they are unknown
    query_ms: float | None  # mean of as many queries right before, without the profiler; None if the agent was lost
    latency_ms: float | None  # the metric, of the latency phase
    activity: Activity


class Profile(Phase[Profiled]):
    """Runs after all other phases, on a model compiled for it alone: no metric depends on it."""

    name = "profile"

    def applies(self, bench: Bench) -> bool:
        return bench.config.protocol.profile

    def run(self, bench: Bench) -> Profiled:
        figures = bench.measurement.figures.values
        median_ms = figures.get("latency_p50_ms")
        fitting = int(_SECONDS * 1e3 / median_ms) if median_ms else _LEAST_RUNS
        runs = max(_LEAST_RUNS, min(_MOST_RUNS, fitting))
        report = _report(bench, runs)
        deployment = bench.deployment
        layers = source_layers(deployment.artifact, bench.inputs.source, bench.cache) if report.layers else []
        rows = attribute(report.layers or [], layers)
        if rows:
            path = bench.measurement.files[PROFILE_FILE] = bench.folder / PROFILE_FILE
            _write(path, rows, "emulated_" if deployment.device.stand_in else "")
        return Profiled(
            rows=rows,
            reason=report.reason,
            runs=runs,
            macs=sum(layer.macs for layer in layers) if layers else None,
            query_ms=report.query_ms or None,
            latency_ms=figures.get("latency_ms"),
            activity=report.activity,
        )

    def activities(self, report: Profiled) -> dict[str, Activity]:
        """None: a verdict is about what was measured before."""
        return {}

    def as_json(self, report: Profiled, measurement: Measurement) -> dict[str, dict[str, Any]]:
        return {self.name: encode(report)}


def _report(bench: Bench, runs: int) -> ProfileReport:
    """The agent's report; if the profiler ends the agent, that is the reason, and the run keeps its metrics."""
    try:
        return bench.session.measure(messages.PROFILE, messages.Profile(bench.pool, runs), bench.on_progress)
    except DeviceError as error:
        return ProfileReport(None, error.message, 0.0, _UNOBSERVED)


def _write(path: Path, rows: list[ProfileRow], prefix: str) -> None:
    """The rows as CSV, units in the headings; `prefix` marks what was not measured on the device."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(
            [
                "layer",
                "operator",
                "kernel",
                "place",
                "precision",
                f"{prefix}median_ms",
                f"{prefix}mean_ms",
                "share_percent",
                "source_layers",
                "modules",
                "macs",
                f"{prefix}gmacs_per_s",
            ]
        )
        for row in rows:
            texts = [row.name, row.operator, row.kernel, row.place, row.precision]
            names = [" + ".join(row.layers), " + ".join(row.modules)]
            numbers = [f"{row.ms:.6g}", f"{row.mean_ms:.6g}", f"{100 * row.share:.3g}"]
            work = ["" if row.macs is None else row.macs, "" if row.gmacs_per_s is None else f"{row.gmacs_per_s:.4g}"]
            writer.writerow([*map(_text, texts), *numbers, *map(_text, names), *work])


def _text(value: str) -> str:
    return f"'{value}" if value.startswith(_FORMULA) else value
