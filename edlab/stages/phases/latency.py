"""Latency: one query in flight, with each of its stages timed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edlab import metrics
from edlab.agent import messages
from edlab.agent.messages import LatencyReport
from edlab.devices import read_array
from edlab.metrics import Figures
from edlab.power import Series
from edlab.stages.phases.base import Bench, Phase

LATENCIES_FILE = "latencies.npy"  # int64 nanoseconds of each query, in order
_STAGES_FILE = "latency_stages.npy"
_STAGES = ("input_copy_ms", "execute_ms", "output_copy_ms")


class Latency(Phase[LatencyReport]):
    """Writes the latency of each query to LATENCIES_FILE."""

    name = "latency"

    def run(self, bench: Bench) -> LatencyReport:
        protocol = bench.config.protocol
        request = messages.Latency(
            pool=bench.pool,
            queries=protocol.queries,
            seconds=protocol.seconds,
            max_seconds=protocol.max_seconds,
            windows=protocol.windows,
            max_interval=protocol.max_interval,
            out=str(bench.folder / _STAGES_FILE),
        )
        return bench.session.measure(messages.LATENCY, request, bench.on_progress)

    def figures(self, bench: Bench, report: LatencyReport, series: Series | None) -> Figures:
        stages_ns: NDArray[np.int64] = read_array(bench.folder / _STAGES_FILE, 2)
        total_ns = stages_ns.sum(axis=1)
        path = bench.measurement.files[LATENCIES_FILE] = bench.folder / LATENCIES_FILE
        np.save(path, total_ns)
        windows = bench.config.protocol.windows
        stability = bench.measurement.stability = metrics.stability(total_ns, windows)
        stages_ms = dict(zip(_STAGES, (stages_ns.mean(axis=0) / 1e6).tolist(), strict=True))
        return metrics.latency(total_ns, windows) | metrics.stability_figures(stability) | Figures(stages_ms)
