"""Which settings of batch and requests in flight to try, and which of the tried ones is the best.

Pure functions from the trials so far to the next one. `search` runs them; the simulation in scripts/bench/search uses
the same functions.

The search explores, in steps of four because curves dip and gain slowly: the requests in flight at batch 1, including
one request per core; the batch at one request in flight; the batch at the best number of requests in flight, from the
best batch on; and both neighbours, half and double, of the best batch. If the first step of the batch cannot run, batch
2 is tried. Then the best setting and the smallest that is not clearly slower are tried again in turn, in the order
ABBA.

Noise: the finalists' later trials show how much two trials of one setting differ; their pooled standard deviation gives
the standard error of the lead. Spans within one trial are not enough: compiling again, clocks and other load differ
more between trials than within one. A finalist's first trial is not used here: it was chosen because it was high. The
larger setting wins only if it leads by more than `gain` and more than that standard error.
"""

from __future__ import annotations

import math
from typing import Iterable, NamedTuple, Sequence

from ..messages import Setting, Trial

_STEP = 4  # two doublings
_PATIENCE = 2  # steps without a gain before a climb stops
_IN_FLIGHT_HELPS = 0.10  # from this gain on, the batch is also searched at the best number in flight
_CONTESTED = 0.15  # settings this close to the best by one trial each may be as good: trials may differ by 5 %
_ROUNDS = 2  # of both finalists; one more if they do not decide


class Limits(NamedTuple):
    """The limits of the search, and the minimum gain (a fraction) for which a larger setting is used."""

    max_batch: int
    max_in_flight: int
    cores: int  # that the agent may use: one request per core is tried
    gain: float


def next_setting(trials: Sequence[Trial], limits: Limits) -> Setting | None:
    """The setting to try after these trials; None if the search has ended."""
    first = _first(trials)
    setting = _unexplored(first, limits)
    return setting if setting else _next_final(trials, _finalists(first), limits)


def winner(trials: Sequence[Trial], limits: Limits) -> Setting:
    """The best setting by these trials, which may be incomplete: the smallest that no other clearly beats.

    At least one trial must have run.
    """
    first = _first(trials)
    if not _unexplored(first, limits):
        finalists = _finalists(first)
        rates = _finals(trials, finalists)
        if rates[0]:
            lead, margin = _lead(rates, limits.gain)
            return finalists[1] if lead > margin else finalists[0]
    return _least(first, limits.gain)


def _first(trials: Iterable[Trial]) -> dict[Setting, float | None]:
    first: dict[Setting, float | None] = {}
    for trial in trials:
        first.setdefault(trial.setting, trial.ips)
    return first


def _unexplored(first: dict[Setting, float | None], limits: Limits) -> Setting | None:
    """The next setting to try, in the order of the module's docstring."""
    batches = _steps(limits.max_batch)
    if len(batches) > 1 and first.get(Setting(batches[1], 1), 0.0) is None:
        batches = sorted({*batches, 2})
    in_flights = _steps(limits.max_in_flight, limits.cores)
    at_batch_1 = [Setting(1, count) for count in in_flights]
    one_in_flight = [Setting(batch, 1) for batch in batches]
    setting = _climb(first, at_batch_1, limits.gain) or _next_untried(first, one_in_flight)
    if setting:
        return setting
    base = first[Setting(1, 1)]
    if not base:
        return None
    many = _least(_ran(first, at_batch_1), limits.gain)
    large = _least(_ran(first, one_in_flight), limits.gain)
    if many.in_flight > 1:
        line = [Setting(batch, many.in_flight) for batch in batches if batch > 1 and batch >= large.batch]
        if (first[many] or 0.0) < base * (1 + _IN_FLIGHT_HELPS):
            line = line[:1] if large.batch > 1 else []
        setting = _climb(first, [many, *line], limits.gain)
        if setting:
            return setting
    stepped = [each for each in first if each.batch in batches and each.in_flight in in_flights]
    best = _least(_ran(first, stepped), limits.gain)
    around = [Setting(best.batch * 2, best.in_flight), Setting(best.batch // 2, best.in_flight)]
    return _next_untried(first, [each for each in around if 1 < each.batch <= limits.max_batch and best.batch > 1])


def _steps(most: int, *others: int) -> list[int]:
    """1, 4, 16 ... and `most` itself, with the values of `others` up to it."""
    steps = {1, most}
    step = _STEP
    while step < most:
        steps.add(step)
        step *= _STEP
    return sorted(steps.union(each for each in others if 1 <= each <= most))


def _climb(first: dict[Setting, float | None], line: Sequence[Setting], gain: float) -> Setting | None:
    """The next setting on this line, until two successive steps have no gain over the best before them."""
    best, idle = 0.0, 0
    for setting in line:
        rate = first.get(setting)
        if rate is None:
            return _next_untried(first, [setting])
        if rate > best * (1 + gain):
            best, idle = rate, 0
        else:
            idle += 1
        if idle == _PATIENCE:
            return None
    return None


def _next_untried(first: dict[Setting, float | None], line: Iterable[Setting]) -> Setting | None:
    """The first untried setting on this line that is not larger in both values than one that could not run."""
    failed = [setting for setting, rate in first.items() if rate is None]
    for setting in line:
        if any(each.batch <= setting.batch and each.in_flight <= setting.in_flight for each in failed):
            continue
        if setting not in first:
            return setting
    return None


def _ran(first: dict[Setting, float | None], settings: Iterable[Setting]) -> dict[Setting, float | None]:
    return {setting: first[setting] for setting in settings if first.get(setting)}


def _least(first: dict[Setting, float | None], tolerance: float) -> Setting:
    """The smallest setting whose rate is within `tolerance` of the best."""
    rates = {setting: rate for setting, rate in first.items() if rate}
    best = max(rates.values())
    return min((setting for setting, rate in rates.items() if rate >= best * (1 - tolerance)), key=lambda s: s.size)


def _finalists(first: dict[Setting, float | None]) -> list[Setting]:
    """The best setting and the smallest that is not clearly slower, else the second best; the smaller one is first."""
    rates = {setting: rate for setting, rate in first.items() if rate}
    ranked = sorted(rates, key=lambda setting: -rates[setting])
    rival = _least(first, _CONTESTED)
    pair = [ranked[0], rival] if rival != ranked[0] else ranked[:2]
    return sorted(pair, key=lambda setting: setting.size)


def _finals(trials: Sequence[Trial], finalists: Sequence[Setting]) -> list[list[float]]:
    """The rates of each finalist's later trials, the same number for both."""
    found = [[trial.ips or 0.0 for trial in trials if trial.setting == each][1:] for each in finalists]
    if len(finalists) < 2:
        return [[], []]
    count = min(map(len, found))
    return [rates[:count] for rates in found]


def _next_final(trials: Sequence[Trial], finalists: Sequence[Setting], limits: Limits) -> Setting | None:
    """Rounds of both finalists, in alternating order: a target that warms up must not favour the first."""
    if len(finalists) < 2:
        return None
    repeats = [sum(trial.setting == each for trial in trials) - 1 for each in finalists]
    if repeats[0] != repeats[1]:
        return finalists[repeats.index(min(repeats))]
    leads = finalists[repeats[0] % 2]
    if repeats[0] < _ROUNDS:
        return leads
    if repeats[0] == _ROUNDS:
        lead, margin = _lead(_finals(trials, finalists), limits.gain)
        if 0 < lead < 2 * margin:
            return leads
    return None


def _lead(rates: list[list[float]], gain: float) -> tuple[float, float]:
    """The lead of the larger finalist, and the lead that it needs: both as differences of logarithms."""
    if not all(rates[1]):  # a later trial failed
        return -math.inf, 0.0
    if not all(rates[0]):
        return math.inf, 0.0
    logs = [[math.log(rate) for rate in each] for each in rates]
    means = [sum(each) / len(each) for each in logs]
    count = len(logs[0])
    error = 0.0
    if count > 1:
        squares = sum((value - mean) ** 2 for each, mean in zip(logs, means) for value in each)
        error = math.sqrt(squares / (2 * (count - 1)) * 2 / count)
    return means[1] - means[0], max(math.log1p(gain), error)
