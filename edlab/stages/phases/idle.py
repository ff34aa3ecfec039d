"""Idle: the target without inference, and its power."""

from __future__ import annotations

from edlab import metrics
from edlab.agent import messages
from edlab.agent.messages import IdleReport
from edlab.metrics import Figures
from edlab.power import Series, Source
from edlab.stages.phases.base import Bench, Phase
from edlab.stages.phases.readings import instrument, max_watts

_WITHOUT_SOURCE_S = 1.0  # long enough to detect other load on the target


class Idle(Phase[IdleReport]):
    """Does nothing for as long as the power source needs."""

    name = "idle"
    samples_file = "idle_samples.csv"

    def run(self, bench: Bench) -> IdleReport:
        """Wait; again and longer if the source turns out to renew its readings slowly."""
        source, config = bench.source, bench.config
        if source is None:
            return _wait(bench, _WITHOUT_SOURCE_S, "")
        message = f"reading {source.name}"
        report = _wait(bench, config.power.idle_seconds + bench.lag_s, message)
        series = source.series(report.start_ns, report.end_ns)
        needed_s = metrics.idle_seconds(series.t_ns, series.watts)
        if needed_s > config.power.idle_seconds:
            report = _wait(bench, min(needed_s, config.protocol.max_seconds) + bench.lag_s, message)
        return report

    def power(self, bench: Bench, report: IdleReport, source: Source, series: Series, earlier: Figures) -> Figures:
        return metrics.idle_power(
            series.t_ns,
            series.watts,
            start_ns=report.start_ns + round(source.lag_s * 1e9),
            instrument=instrument(source, series),
            bounds=metrics.Bounds(source.boundary, max_watts=max_watts(bench, source)),
            error=series.error,
        )


def _wait(bench: Bench, seconds: float, message: str) -> IdleReport:
    return bench.session.measure(
        messages.IDLE,
        messages.Idle(seconds),
        lambda phase, fraction, _: bench.on_progress(phase, fraction, message),
    )
