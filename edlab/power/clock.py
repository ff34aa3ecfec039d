"""The offset of the agent's clock from the host's, so that a meter here and a phase there use one time line."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

_ROUND_TRIPS = 20


class ClockOffset(NamedTuple):
    """The agent's clock minus the host's, both in ns, with an error of at most `error_ns`."""

    ns: int
    error_ns: int


def compare_clocks(agent_ns: Callable[[], int], host_ns: Callable[[], int] = time.perf_counter_ns) -> ClockOffset:
    """Query the agent's time in 20 round trips, and use the shortest one.

    The agent read its clock between the question and the answer: the midpoint is the best estimate, with an error of at
    most half of the round trip.
    """
    trips = []
    for _ in range(_ROUND_TRIPS):
        asked, reported, answered = host_ns(), agent_ns(), host_ns()
        trips.append((answered - asked, reported - (asked + answered) // 2))
    shortest, offset = min(trips)
    return ClockOffset(offset, shortest - shortest // 2)
