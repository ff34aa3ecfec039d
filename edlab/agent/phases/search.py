"""The throughput search: runs the trials that `settings` requests, within a time limit."""

from __future__ import annotations

import time
from typing import Callable, NamedTuple

import numpy as np

from ..messages import Activity, OnProgress, Setting, Trial
from ..observer import Counters
from ..runtimes.base import Compiled
from .loop import NS
from .saturate import batches, saturate
from .settings import Limits, next_setting, winner
from .window import Window

_QUERIES_AROUND = 3  # of each request: before the window, while it closes, and in progress when it has
_NO_TIME = "no time was left for a trial at batch 1"
CompileModel = Callable[[int, int], Compiled]  # (requests in flight, batch)


class Search(NamedTuple):
    """The best setting, all trials in order, the best rate at batch 1, and what the machine did.

    `batch1_ips` is from one extra trial after the others, so it is not the highest of several. It is None if the best
    setting itself has batch 1, or if `batch1_note` states why: the trial failed, or no time was left for one.
    """

    best: Setting
    trials: list[Trial]
    batch1_ips: float | None
    batch1_note: str
    truncated: bool  # the time limit ended the search, or cut one of its trials short
    activity: Activity | None  # over all trials, including compilation; None if the setting was known


def search(
    compile_model: CompileModel,
    pool: list[np.ndarray],
    limits: Limits,
    trial_seconds: float,
    limit_ns: int,
    progress: OnProgress,
) -> Search:
    """Try settings until `settings.next_setting` returns none; each is compiled, then saturated for `trial_seconds`.

    A setting is tried only if its trial, and then compiling the best setting and filling its requests, are expected to
    end before `limit_ns` of the clock; the first one is always tried. Raises the error of a trial of the first setting;
    a larger setting that fails limits the search.
    """
    before = Counters.read()
    clocks_mhz: list[float] = []
    trials: list[Trial] = []
    took_ns: dict[Setting, int] = {}
    compiling_ns = 0  # the longest so far
    truncated = False

    def timed_compile(in_flight: int, batch: int) -> Compiled:
        nonlocal compiling_ns
        start = time.perf_counter_ns()
        compiled = compile_model(in_flight, batch)
        compiling_ns = max(compiling_ns, time.perf_counter_ns() - start)
        return compiled

    def fits(setting: Setting) -> bool:
        """A repeated trial takes as long as the first of its setting; a new one its window, and queries around it."""
        if not trials:
            return True
        best_ips = max(trial.ips for trial in trials if trial.ips)
        query_ns = setting.batch * setting.in_flight / best_ips * NS
        new_ns = compiling_ns + trial_seconds * NS + _QUERIES_AROUND * query_ns
        window_ns = compiling_ns + query_ns
        return time.perf_counter_ns() + took_ns.get(setting, new_ns) + window_ns <= limit_ns

    def run(setting: Setting) -> Trial:
        nonlocal truncated
        start = time.perf_counter_ns()
        trial, window = _run_trial(timed_compile, pool, setting, trial_seconds, limit_ns, progress, must_run=not trials)
        if window:
            clocks_mhz.extend(window.activity.clocks_mhz)
            truncated = truncated or window.truncated
        took_ns.setdefault(setting, time.perf_counter_ns() - start)
        return trial

    while True:
        setting = next_setting(trials, limits)
        if setting is None:
            break
        if not fits(setting):
            truncated = True
            break
        trials.append(run(setting))
    best = winner(trials, limits)
    batch1_ips, batch1_note = None, ""
    if best.batch > 1:
        at_batch_1 = winner([trial for trial in trials if trial.batch == 1], limits._replace(max_batch=1))
        if fits(at_batch_1):
            trials.append(run(at_batch_1))
            batch1_ips, batch1_note = trials[-1].ips, trials[-1].note
        else:
            batch1_note = _NO_TIME
    return Search(best, trials, batch1_ips, batch1_note, truncated, Counters.read().since(before, clocks_mhz))


def _run_trial(
    compile_model: CompileModel,
    pool: list[np.ndarray],
    setting: Setting,
    seconds: float,
    limit_ns: int,
    progress: OnProgress,
    must_run: bool,
) -> tuple[Trial, Window | None]:
    """One trial and its window; None if it could not run."""
    message = "trying batch %d, %d in flight" % setting
    progress(0.0, message)
    try:
        compiled = compile_model(setting.in_flight, setting.batch)
        tensors = batches(pool, setting.batch)
        window = saturate(compiled.requests, tensors, seconds, limit_ns, lambda fraction, _: progress(0.0, message))
    except Exception as error:  # a larger setting may exceed the limits of the model, the memory or the device
        if must_run:
            raise
        return Trial(setting.batch, setting.in_flight, None, _first_line(error)), None
    return Trial(setting.batch, setting.in_flight, window.ips), window


def _first_line(error: Exception) -> str:
    """The first line of a runtime's error, which may have pages of text."""
    lines = str(error).split("\n")
    return next((line.strip() for line in lines if line.strip()), type(error).__name__)
