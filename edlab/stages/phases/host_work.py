"""Host work: the work around the model, timed separately."""

from __future__ import annotations

from edlab.agent import messages
from edlab.agent.messages import HostWorkReport
from edlab.metrics import Figures
from edlab.power import Series
from edlab.stages.phases.base import Bench, Phase


class HostWork(Phase[HostWorkReport]):
    """Preprocessing and postprocessing."""

    name = "host_work"

    def run(self, bench: Bench) -> HostWorkReport:
        return bench.session.measure(messages.HOST_WORK, messages.HostWork(bench.pool), bench.on_progress)

    def figures(self, bench: Bench, report: HostWorkReport, series: Series | None) -> Figures:
        return Figures({"preprocess_ms": report.preprocess_ms, "postprocess_ms": report.postprocess_ms})
