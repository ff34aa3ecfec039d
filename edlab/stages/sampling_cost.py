"""How much reading the power source slows the target: measured once for each of them, and kept in the cache."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from edlab import metrics
from edlab.agent import messages
from edlab.agent.messages import Setting
from edlab.cache import digest
from edlab.errors import EdlabError
from edlab.metrics import Figures
from edlab.power import Source
from edlab.stages.phases import Bench, Throughput, run_queries

_PAIRS = 5  # of a window with the source read and one without
_KIND, _FILE = "sampling-cost", "cost.json"


def sampling_cost(bench: Bench) -> Figures:
    """How much longer inference takes while the power source is read; empty without a source, or for a stand-in.

    From pairs of windows of `protocol.throughput.trial_seconds`, with the source read and without, in changing order.
    Missing if queries are longer than that, if readings arrive late, or if a window fails.
    """
    source, config = bench.source, bench.config
    if source is None or source.stand_in or config.device.stand_in:
        return Figures()
    if reason := _too_slow(bench, source):
        return Figures.withheld(metrics.SAMPLING_COSTS, reason)
    machine = bench.session.hello()._replace(pid=0, executable="")
    key = digest([machine, source.name, source.boundary, config.power.interval_s])

    def make(folder: Path) -> None:
        (folder / _FILE).write_text(json.dumps(_measure(bench, source).values))

    try:
        return Figures(json.loads((bench.cache.get_or_make(_KIND, key, make) / _FILE).read_text()))
    except EdlabError as error:
        return Figures.withheld(metrics.SAMPLING_COSTS, f"a window of its measurement failed: {error.message}")


def _too_slow(bench: Bench, source: Source) -> str:
    """Why it would take too long; empty if it would not."""
    window_s = bench.config.protocol.throughput.trial_seconds
    if bench.measurement.figures.values["latency_ms"] > 1e3 * window_s:
        return f"a query is longer than protocol.throughput.trial_seconds={window_s:g}"
    if source.late_s > window_s:
        return f"readings of {source.name} arrive {source.late_s:g} s late"
    return ""


def _measure(bench: Bench, source: Source) -> Figures:
    bench.on_progress("sampling cost", None, source.name)
    latency = _pairs(source, lambda: _query_s(bench))
    rate = _pairs(source, lambda: _throughput_ips(bench))
    seconds = np.divide(1, rate, out=np.zeros_like(rate), where=rate > 0)
    return metrics.sampling_cost("latency", latency) | metrics.sampling_cost("throughput", seconds)


def _pairs(source: Source, measure: Callable[[], float]) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """float64 (pairs, 2): what `measure` returns without the source being read, and with it."""
    pairs = np.empty((_PAIRS, 2))
    for number in range(_PAIRS):
        for read in (False, True) if number % 2 else (True, False):
            with source if read else nullcontext():
                pairs[number, int(read)] = measure()
    return pairs


def _query_s(bench: Bench) -> float:
    """The mean time of a query in a short window."""
    report = run_queries(bench, bench.config.protocol.throughput.trial_seconds)
    return report.seconds / report.queries


def _throughput_ips(bench: Bench) -> float:
    """The rate of a short window at the setting that the search has found."""
    protocol, found = bench.config.protocol, bench.measurement.report(Throughput)
    assert found
    search = protocol.throughput
    request = messages.Throughput(
        pool=bench.pool,
        seconds=search.trial_seconds,
        max_seconds=protocol.max_seconds,
        max_batch=search.max_batch,
        max_in_flight=search.max_in_flight,
        gain=search.gain,
        trial_seconds=search.trial_seconds,
        setting=Setting(found.batch, found.in_flight),
    )
    return bench.session.measure(messages.THROUGHPUT, request).throughput_ips
