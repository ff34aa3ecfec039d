"""Warm-up: queries until the latency has settled."""

from __future__ import annotations

import dataclasses

from edlab.agent import messages
from edlab.agent.messages import WarmupReport
from edlab.stages.phases.base import Bench, Phase


class Warmup(Phase[WarmupReport]):
    """Has no metrics: only the verdict uses whether it settled."""

    name = "warmup"

    def run(self, bench: Bench) -> WarmupReport:
        request = messages.Warmup(bench.pool, **dataclasses.asdict(bench.config.protocol.warmup))
        return bench.session.measure(messages.WARMUP, request, bench.on_progress)
