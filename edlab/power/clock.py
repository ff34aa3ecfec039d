"""How far the agent's clock is from the host's, so that a meter here and a phase there can be put on one time line."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

_ROUND_TRIPS = 20


class ClockOffset(NamedTuple):
    """The agent's clock less the host's, both in ns; the truth is within `error_ns` of it."""

    ns: int
    error_ns: int


def compare_clocks(agent_ns: Callable[[], int], host_ns: Callable[[], int] = time.perf_counter_ns) -> ClockOffset:
    """Ask for the agent's time in 20 round trips, and take the shortest.

    The agent read its clock between the question and the answer: nearest by guess to the midpoint, and at most half of
    the round trip from it.
    """
    trips = []
    for _ in range(_ROUND_TRIPS):
        asked, reported, answered = host_ns(), agent_ns(), host_ns()
        trips.append((answered - asked, reported - (asked + answered) // 2))
    shortest, offset = min(trips)
    return ClockOffset(offset, shortest - shortest // 2)
