"""The agent's clock by the host's, so that a meter here and a phase there use one time line."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_ROUND_TRIPS = 20


class ClockOffset(NamedTuple):
    """The agent's clock minus the host's, both in ns, with an error of at most `error_ns`, at `host_ns`."""

    ns: int
    error_ns: int
    host_ns: int


class ClockRelation(NamedTuple):
    """The relation of the two clocks in a recording, from the comparisons before and after it: one may be faster."""

    before: ClockOffset
    after: ClockOffset

    @property
    def error_ns(self) -> int:
        """The largest error of a converted time."""
        return max(self.before.error_ns, self.after.error_ns)

    @property
    def drift(self) -> float:
        """Seconds that the agent's clock gains on the host's in each second."""
        apart = self.after.host_ns - self.before.host_ns
        return (self.after.ns - self.before.ns) / apart if apart else 0.0

    def agent_ns(self, host_ns: NDArray[np.int64]) -> NDArray[np.int64]:
        """Times (N,) of the host's clock, on the agent's."""
        gained = np.rint(self.drift * (host_ns - self.before.host_ns)).astype(np.int64)
        converted: NDArray[np.int64] = host_ns + self.before.ns + gained
        return converted

    def host_ns(self, agent_ns: int) -> int:
        """A time of the agent's clock, on the host's."""
        since = agent_ns - self.before.ns - self.before.host_ns
        return self.before.host_ns + round(since / (1 + self.drift))


def compare_clocks(agent_ns: Callable[[], int], host_ns: Callable[[], int] = time.perf_counter_ns) -> ClockOffset:
    """Query the agent's time in 20 round trips, and use the shortest one.

    The agent read its clock between the question and the answer: the midpoint is the best estimate, with an error of at
    most half of the round trip.
    """
    trips = []
    for _ in range(_ROUND_TRIPS):
        asked, reported, answered = host_ns(), agent_ns(), host_ns()
        middle = (asked + answered) // 2
        trips.append((answered - asked, reported - middle, middle))
    shortest, offset, middle = min(trips)
    return ClockOffset(offset, shortest - shortest // 2, middle)
