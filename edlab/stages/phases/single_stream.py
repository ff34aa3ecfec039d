"""Single stream: the same queries as in the latency phase, with the power source read: the energy of a query.

The latency phase itself runs without it, since reading a sensor of the target takes time from the queries.
"""

from __future__ import annotations

from edlab import metrics
from edlab.agent.messages import LatencyReport
from edlab.metrics import Figures
from edlab.power import Series, Source
from edlab.stages.phases.base import Bench, Phase
from edlab.stages.phases.queries import run_queries
from edlab.stages.phases.readings import bounds, instrument


class SingleStream(Phase[LatencyReport]):
    """Only measured if there is a power source."""

    name = "single_stream"
    samples_file = "single_stream_samples.csv"

    def applies(self, bench: Bench) -> bool:
        return bench.source is not None

    def run(self, bench: Bench) -> LatencyReport:
        return run_queries(
            bench, bench.power_seconds, lambda _, fraction, message: bench.on_progress(self.name, fraction, message)
        )

    def power(self, bench: Bench, report: LatencyReport, source: Source, series: Series, earlier: Figures) -> Figures:
        return metrics.single_stream_power(
            series.t_ns,
            series.watts,
            bench.power_window("single-stream", report.start_ns, report.end_ns),
            report.seconds / report.queries,
            instrument=instrument(source, series),
            bounds=bounds(bench, source, earlier),
            error=series.error,
        )
