"""Profile: the time of each layer, by the runtime's own profiler. Nothing that it does is part of another phase."""

from __future__ import annotations

import numpy as np

from ..errors import AgentError
from ..messages import OnProgress, ProfileReport
from ..observer import Look, Observer
from ..runtimes.base import LayerTime, Runtime


def profile(runtime: Runtime, tensors: list[np.ndarray], runs: int, progress: OnProgress) -> ProfileReport:
    """The layers, or why they are not available: a profiler that fails is not an error of the run."""
    layers: list[LayerTime] | None = None
    with Observer(lambda: Look(0, 0.0, "%d queries" % runs), progress) as observer:
        try:
            layers = runtime.profile(tensors, runs)
            reason = "" if layers else "the runtime %s does not report the time of each layer" % runtime.name
        except AgentError as error:
            reason = "; ".join(filter(None, [str(error), error.hint]))
        except Exception as error:  # each profiler has its own errors
            lines = str(error).strip().splitlines() or [""]
            reason = "the profiler of %s failed: %s: %s" % (runtime.name, type(error).__name__, lines[0])
    return ProfileReport(layers or None, reason, observer.activity)
