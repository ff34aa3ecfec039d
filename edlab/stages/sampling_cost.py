"""How much reading the power sources slows the target: measured once for each target and its sources, and cached."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from edlab import metrics
from edlab.agent import messages
from edlab.agent.messages import Setting
from edlab.cache import digest
from edlab.errors import EdlabError, MeasurementError
from edlab.metrics import Figures
from edlab.power import Source
from edlab.stages.phases import Bench, Throughput, run_queries

_PAIRS = 5  # of a window with the sources read and one without
_LONGEST_WINDOW = 5.0  # times its measured part: above, the runtime compiles in each window, which takes too long
_KIND, _FILE = "sampling-cost", "cost.json"


def sampling_cost(bench: Bench) -> Figures:
    """How much longer inference takes while the power sources are read; empty without one, or for a stand-in.

    From pairs of windows of `protocol.throughput.trial_seconds`, with the sources read and without, in changing order.
    The first run on a target measures it with its own model, which `Measurement.sampling_cost_with` names.
    Missing if queries are longer than that, if readings arrive late, if a source cannot be read, or if a window fails.
    """
    source, config = bench.source, bench.config
    if source is None or source.stand_in or config.device.stand_in:
        return Figures()
    sources = [source, *(other.source for other in bench.measurement.others)]
    if reason := _too_slow(bench, sources):
        return Figures.withheld(metrics.SAMPLING_COSTS, reason)
    machine = bench.session.hello()._replace(pid=0, executable="")
    key = digest([machine, [[each.name, each.boundary] for each in sources], config.power.interval_s])

    def make(folder: Path) -> None:
        load = f"{config.model.name} on {bench.deployment.model.runtime}"
        (folder / _FILE).write_text(json.dumps({"with": load, "metrics": _measure(bench, sources).values}))

    try:
        found = json.loads((bench.cache.get_or_make(_KIND, key, make) / _FILE).read_text())
    except EdlabError as error:
        return Figures.withheld(metrics.SAMPLING_COSTS, f"its measurement failed: {error.message}")
    bench.measurement.sampling_cost_with = found["with"]
    return Figures(found["metrics"])


def _too_slow(bench: Bench, sources: list[Source]) -> str:
    """Why it would take too long; empty if it would not."""
    window_s = bench.config.protocol.throughput.trial_seconds
    if bench.measurement.figures.values["latency_ms"] > 1e3 * window_s:
        return f"a query is longer than protocol.throughput.trial_seconds={window_s:g}"
    if late := next((source for source in sources if source.late_s > window_s), None):
        return f"readings of {late.name} arrive {late.late_s:g} s late"
    return ""


def _measure(bench: Bench, sources: list[Source]) -> Figures:
    bench.on_progress("sampling cost", None, ", ".join(source.name for source in sources))
    latency = _pairs(bench, sources, _query_s)
    throughput = _pairs(bench, sources, _inference_s)
    return metrics.sampling_cost("latency", latency) | metrics.sampling_cost("throughput", throughput)


def _pairs(
    bench: Bench, sources: list[Source], measure: Callable[[Bench], float]
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """float64 (pairs, 2): the seconds that `measure` returns without the sources being read, and with it."""
    longest_s = _LONGEST_WINDOW * bench.config.protocol.throughput.trial_seconds
    pairs = np.empty((_PAIRS, 2))
    unread = {source.name for source in sources}
    for number in range(_PAIRS):
        for read in (False, True) if number % 2 else (True, False):
            with ExitStack() as stack:
                for source in sources if read else ():
                    stack.enter_context(source)
                start, start_ns = time.monotonic(), bench.session.clock()
                pairs[number, int(read)] = measure(bench)
                if (seconds := time.monotonic() - start) > longest_s:
                    raise MeasurementError(f"one of its windows takes {seconds:.0f} s")
                end_ns = bench.session.clock()
            for source in sources if read else ():
                if _was_read(source, start_ns, end_ns):
                    unread.discard(source.name)
    if unread:
        raise MeasurementError(f"{', '.join(sorted(unread))} sent no reading")
    return pairs


def _was_read(source: Source, start_ns: int, end_ns: int) -> bool:
    """Whether there are readings of a window, on the agent's clock. Raises `MeasurementError` if all of them failed.

    A slow source may have none in a short window, without an error.
    """
    series = source.series(start_ns, end_ns)
    if series.failed and not len(series.watts):
        raise MeasurementError(f"{source.name} cannot be read: {series.error}")
    return len(series.watts) > 0


def _query_s(bench: Bench) -> float:
    """The mean time of a query in a short window."""
    report = run_queries(bench, bench.config.protocol.throughput.trial_seconds)
    return report.seconds / report.queries


def _inference_s(bench: Bench) -> float:
    """The mean time of an inference in a short window, at the setting that the search has found."""
    found = bench.measurement.report(Throughput)
    assert found
    setting = Setting(found.batch, found.in_flight)
    request = Throughput.request(bench, bench.config.protocol.throughput.trial_seconds, setting)
    report = bench.session.measure(messages.THROUGHPUT, request)
    if report.throughput_ips <= 0:
        raise MeasurementError("one of its windows had no inference")
    return 1 / report.throughput_ips
