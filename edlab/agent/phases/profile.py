"""Profile: the time of each layer, by the runtime's own profiler. Nothing that it does is part of another phase."""

from __future__ import annotations

import time

import numpy as np

from ..errors import AgentError
from ..messages import OnProgress, ProfileReport
from ..observer import Look, Observer
from ..runtimes.base import LayerTime, Request, Runtime
from .loop import run_untimed


def profile(
    runtime: Runtime, request: Request, tensors: list[np.ndarray], runs: int, progress: OnProgress
) -> ProfileReport:
    """The layers, or why they are not available: a profiler that fails is not an error of the run.

    As many queries are timed right before, without the profiler: the load of the machine may have changed since the
    latency phase.
    """
    layers: list[LayerTime] | None = None
    with Observer(lambda: Look(0, 0.0, "%d queries" % runs), progress) as observer:
        query_ms = _query_ms(request, tensors, runs)
        try:
            runtime.check_profiler(runtime.options)
            layers = runtime.profile(tensors, runs)
            reason = "" if layers else "the profiler of %s reported no layers" % runtime.name
        except AgentError as error:
            reason = "; ".join(filter(None, [str(error), error.hint]))
        except Exception as error:  # each profiler has its own errors
            lines = str(error).strip().splitlines() or [""]
            reason = "the profiler of %s failed: %s: %s" % (runtime.name, type(error).__name__, lines[0])
    return ProfileReport(layers or None, reason, query_ms, observer.activity)


def _query_ms(request: Request, tensors: list[np.ndarray], runs: int) -> float:
    """The mean of queries of the latency phase's request."""
    inputs = [request.prepare(tensor) for tensor in tensors]
    run_untimed(request, inputs)
    start = time.perf_counter_ns()
    for number in range(runs):
        request.set_input(inputs[number % len(inputs)])
        request.execute()
        request.get_outputs()
    return (time.perf_counter_ns() - start) / runs / 1e6
