"""Whether the target throttled: yes, no, or "cannot tell"."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

import numpy as np

from edlab.metrics.verdict.facts import Facts, Finding, degraded

_CLOCK_LOSS = 0.10
_LEAST_LOOKS = 5
_TIMED = ("warmup", "latency", "throughput")  # with a steady load each
_LOADED = (*_TIMED, "search")


class Throttled(StrEnum):
    """The answer to whether the target throttled."""

    yes = "yes"
    no = "no"
    unknown = "cannot tell"


def throttled(facts: Facts) -> tuple[Throttled, str]:
    """The answer, and its evidence.

    The evidence is thermal events, if the processor counts them, and the clocks within each timed phase: phases keep
    different numbers of cores busy, so their clocks are not comparable. Clocks that never move prove nothing (a virtual
    machine shows a constant), and neither do clocks that go up and down. Clocks of the processor say nothing about an
    accelerator.
    """
    timed = {name: activity for name, activity in facts.activities.items() if name.startswith(_TIMED)}
    loaded = [activity for name, activity in facts.activities.items() if name.startswith(_LOADED)]
    counts = [activity.throttle_events for activity in loaded if activity.throttle_events is not None]
    if sum(counts):
        return Throttled.yes, f"the processor counted {sum(counts)} thermal events"
    clocks = {name: np.array(a.clocks_mhz) for name, a in timed.items() if len(a.clocks_mhz) >= _LEAST_LOOKS}
    for name, series in clocks.items():
        fifth = len(series) // 5
        first, last = np.median(series[:fifth]), np.median(series[-fifth:])
        if last < (1 - _CLOCK_LOSS) * first:
            return Throttled.yes, f"the clock fell from {first:.0f} to {last:.0f} MHz in the {name} phase"
    if not facts.on_cpu:
        return Throttled.unknown, "the model runs on an accelerator, whose clock is not monitored"
    for name, series in clocks.items():
        low, high = np.quantile(series, [0.1, 0.9])
        if low < (1 - _CLOCK_LOSS) * high:
            return Throttled.unknown, f"the clock went up and down, {low:.0f} to {high:.0f} MHz, in the {name} phase"
    if any(np.ptp(series) for series in clocks.values()):
        return Throttled.no, "the clocks were steady within each phase"
    if counts:
        return Throttled.no, "the processor counted no thermal event"
    return Throttled.unknown, "the target counts no thermal events, and its clocks are hidden or constant"


def throttling_rules(facts: Facts) -> Iterator[Finding]:
    """A reason if it throttled."""
    answer, ground = throttled(facts)
    if answer is Throttled.yes:
        yield degraded("throttled", ground, "cool the target, or set a lower clock")
