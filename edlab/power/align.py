"""When a meter's readings were taken, from a load pattern in them: for an instrument whose clock is unknown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edlab.metrics import refresh_s

#: On and off, a Barker code of length 13: it resembles itself at no other time.
PATTERN = (True, True, True, True, True, False, False, True, True, False, True, False, True)
_GRID_NS = 10_000_000
_LEAST_CORRELATION = 0.6
_LEAST_LEAD = 0.1  # of the best correlation over the best one at another time
_NS_PER_S = 1e9


class Alignment(NamedTuple):
    """What must be added to the readings' times, and the largest error of the result, both in ns."""

    shift_ns: int
    error_ns: int


def align(
    t_ns: NDArray[np.int64], watts: NDArray[np.float64], on: Sequence[tuple[int, int]], search_s: float
) -> Alignment:
    """Find the load pattern in (N,) readings whose times are wrong by at most `search_s`.

    `on` are the spans with load, (start, end) in ns, in order. The shift is where the readings correlate best with it.
    Raises `ValueError` if they do not correlate, or nearly as well at another time.
    """
    margin = round(search_s * _NS_PER_S)
    start, end = on[0][0] - _chip_ns(on), on[-1][1] + _chip_ns(on)
    expected = _load(np.arange(start, end, _GRID_NS), on)
    expected = (expected - expected.mean()) / (expected.std() * len(expected))
    grid = np.arange(start - margin, end + margin, _GRID_NS)
    if len(t_ns) < len(PATTERN):
        raise ValueError(f"there are only {len(t_ns)} readings of the load pattern")
    read = np.interp(grid, t_ns, watts)
    spread = _rolling_deviation(read, len(expected))
    products = np.correlate(read, expected, "valid")
    correlation = np.divide(products, spread, out=np.zeros(len(spread)), where=spread > 0)
    best = int(correlation.argmax())
    apart = np.abs(np.arange(len(correlation)) - best) * _GRID_NS > _chip_ns(on)
    other = float(correlation[apart].max(initial=-1.0))
    if correlation[best] < _LEAST_CORRELATION:
        raise ValueError(f"the load pattern is not in the readings (correlation {correlation[best]:.2f})")
    if other > correlation[best] - _LEAST_LEAD:
        raise ValueError("the load pattern is in the readings at more than one time")
    found_at = int(grid[best])
    apart_s = max(float(np.median(np.diff(t_ns))) / _NS_PER_S, refresh_s(t_ns, watts) or 0.0)
    return Alignment(start - found_at, round(apart_s * _NS_PER_S / 2) + _GRID_NS)


def _rolling_deviation(values: NDArray[np.float64], length: int) -> NDArray[np.float64]:
    """The standard deviation of each `length` values that follow one another; float64."""
    centred = values - values.mean()
    sums, squares = (np.cumsum(np.concatenate(([0.0], each))) for each in (centred, centred**2))
    means = (sums[length:] - sums[:-length]) / length
    variances = (squares[length:] - squares[:-length]) / length - means**2
    deviations: NDArray[np.float64] = np.sqrt(np.maximum(variances, 0.0))
    return deviations


def _chip_ns(on: Sequence[tuple[int, int]]) -> int:
    """The shortest span with load."""
    return min(end - start for start, end in on)


def _load(grid: NDArray[np.int64], on: Sequence[tuple[int, int]]) -> NDArray[np.float64]:
    """1 where there is load, 0 elsewhere, at these times."""
    load = np.zeros(len(grid))
    for start, end in on:
        load[(grid >= start) & (grid < end)] = 1.0
    return load
