"""Whether the target throttled: yes, no, or cannot tell."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

from edlab.metrics.verdict.facts import Facts, Finding, degraded

_CLOCK_LOSS = 0.10
_TIMED = ("warmup", "latency", "throughput")


class Throttled(StrEnum):
    yes = "yes"
    no = "no"
    unknown = "cannot tell"


def throttled(facts: Facts) -> tuple[Throttled, str]:
    """The answer, and what it rests on.

    Clocks that never move prove nothing: a virtual machine shows a constant. Where they move, the last of a phase
    under load is compared with the first of the warm-up, both under load.
    """
    events = [facts.activities[name].throttle_events for name in facts.activities]
    counted = sum(count for count in events if count)
    if counted:
        return Throttled.yes, f"the processor counted {counted} thermal events"
    timed = [activity for name, activity in facts.activities.items() if name.startswith(_TIMED)]
    clocks = [clock for activity in timed for clock in activity.clocks_mhz]
    if len(clocks) >= 2 and min(clocks) < max(clocks):
        if 1 - clocks[-1] / clocks[0] > _CLOCK_LOSS:
            return (
                Throttled.yes,
                f"the clock fell from {clocks[0]:.0f} to {clocks[-1]:.0f} MHz under load",
            )
        return Throttled.no, f"the clocks were {min(clocks):.0f} to {max(clocks):.0f} MHz under load"
    if any(count is not None for count in events):
        return Throttled.no, "the processor counted no thermal event"
    return Throttled.unknown, "the target counts no thermal events, and its clocks are hidden or constant"


def throttling_rules(facts: Facts) -> Iterator[Finding]:
    answer, ground = throttled(facts)
    if answer is Throttled.yes:
        yield degraded("throttled", ground, "cool the target, or set a clock that it can hold")
