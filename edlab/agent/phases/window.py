"""A saturated window: from the completion times of queries to its count.

Pure functions. A window opens and closes with a completion. The queries of the other requests straddle its edges, and
each counts by the share of its time that is inside. Requests that start together complete together, again and again: if
only whole queries counted, each edge could lose almost one query of every request.

`completions` contains for each request the ends of its queries in order, in ns of one clock.
"""

from __future__ import annotations

from typing import NamedTuple, Sequence

import numpy as np

from ..messages import Activity
from .loop import NS


class Window(NamedTuple):
    """A saturated window, from one completion to another."""

    completed: float  # images; a query that straddles an edge counts by the share of its time inside
    start_ns: int
    end_ns: int
    truncated: bool  # the time limit was reached before the requested seconds
    ips_by_second: list[float]  # the rate in each whole second of it
    activity: Activity

    @property
    def seconds(self) -> float:
        """The length of the window."""
        return (self.end_ns - self.start_ns) / NS

    @property
    def ips(self) -> float:
        """Inferences (images) per second."""
        return self.completed / self.seconds


def bounds(completions: Sequence[Sequence[int]], seconds: float, limit_ns: int) -> tuple[int, int]:
    """When the window opens, and the time from which a completion closes it; ns. Each request must have completed once.

    It opens when the last request completes its first query. It closes after `seconds`, or at `limit_ns`.
    """
    start = max(stamps[0] for stamps in completions)
    return start, max(start + 1, min(start + int(seconds * NS), limit_ns))


def window_of(
    completions: Sequence[Sequence[int]], seconds: float, limit_ns: int, batch: int, activity: Activity
) -> Window:
    """The window, with `batch` images per query. Each request must have completed once after its bounds."""
    start, close_from = bounds(completions, seconds, limit_ns)
    stamps = [np.array(each, np.int64) - start for each in completions]
    length = min(int(each[np.searchsorted(each, close_from - start)]) for each in stamps)
    completed = float(_done(stamps, [0, length])[1] * batch)
    truncated = length < int(seconds * NS)
    edges = range(0, length + 1, NS)
    by_second: list[float] = (np.diff(_done(stamps, edges)) * batch).tolist()
    return Window(completed, start, start + length, truncated, by_second, activity)


def _done(stamps: list[np.ndarray], moments: Sequence[int]) -> np.ndarray:
    """Queries done between the first of `moments` and each of them, int64 ns: the work of a query is spread evenly.

    Its `stamps` are the ends of its queries, and extend beyond the moments at both ends.
    """
    done = np.array([np.interp(moments, each, np.arange(len(each))) for each in stamps])
    since: np.ndarray = (done - done[:, :1]).sum(axis=0)
    return since
