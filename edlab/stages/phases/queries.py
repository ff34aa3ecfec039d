"""Queries one after another for a fixed time: the load of the latency phase, without its rules on when to end."""

from __future__ import annotations

from edlab.agent import messages
from edlab.agent.messages import LatencyReport
from edlab.stages.load import OnProgress
from edlab.stages.phases.base import Bench

_ANY_INTERVAL = 1e9  # the phase does not continue until the interval is narrow
_STAGES_FILE = "queries_stages.npy"


def run_queries(bench: Bench, seconds: float, on_progress: OnProgress | None = None) -> LatencyReport:
    """Run queries for `seconds`, or one that takes longer."""
    protocol, out = bench.config.protocol, bench.folder / _STAGES_FILE
    request = messages.Latency(
        pool=bench.pool,
        queries=1,
        seconds=seconds,
        max_seconds=protocol.max_seconds + seconds,
        windows=protocol.windows,
        max_interval=_ANY_INTERVAL,
        out=str(out),
    )
    report = bench.session.measure(messages.LATENCY, request, on_progress)
    out.unlink()
    return report
