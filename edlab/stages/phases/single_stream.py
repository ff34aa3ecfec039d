"""Single stream: the same queries as in the latency phase, with the power source read: the energy of a query.

The latency phase itself runs without it, since reading a sensor of the target takes time from the queries.
"""

from __future__ import annotations

from edlab import metrics
from edlab.agent import messages
from edlab.agent.messages import LatencyReport
from edlab.metrics import Figures
from edlab.power import Series, Source
from edlab.stages.phases.base import ANY_INTERVAL, Bench, Phase
from edlab.stages.phases.readings import bounds, instrument

_STAGES_FILE = "single_stream_stages.npy"


class SingleStream(Phase[LatencyReport]):
    """Only measured if there is a power source."""

    name = "single_stream"
    samples_file = "single_stream_samples.csv"

    def applies(self, bench: Bench) -> bool:
        return bench.source is not None

    def run(self, bench: Bench) -> LatencyReport:
        protocol, seconds = bench.config.protocol, bench.power_seconds
        request = messages.Latency(
            pool=bench.pool,
            queries=1,
            seconds=seconds,
            max_seconds=protocol.max_seconds + seconds,
            windows=protocol.windows,
            max_interval=ANY_INTERVAL,
            out=str(bench.folder / _STAGES_FILE),
        )
        report = bench.session.measure(
            messages.LATENCY, request, lambda _, fraction, message: bench.on_progress(self.name, fraction, message)
        )
        (bench.folder / _STAGES_FILE).unlink()
        return report

    def figures(self, bench: Bench, report: LatencyReport, series: Series | None) -> Figures:
        if series is None or bench.source is None:
            return Figures()
        return self.power(bench, report, bench.source, series, bench.measurement.figures)

    def power(self, bench: Bench, report: LatencyReport, source: Source, series: Series, earlier: Figures) -> Figures:
        return metrics.single_stream_power(
            series.t_ns,
            series.watts,
            bench.power_window(report.start_ns, report.end_ns),
            report.seconds / report.queries,
            instrument=instrument(source, series),
            bounds=bounds(bench, source, earlier),
            error=series.error,
        )
