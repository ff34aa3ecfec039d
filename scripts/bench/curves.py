"""Curves of throughput over (batch, requests in flight), of known best, for scripts/bench/search and for the tests."""

from __future__ import annotations

import math
from collections.abc import Callable

from edlab.agent.phases.settings import Limits

Curve = Callable[[int, int], float]  # (batch, in flight) -> inferences/s

LIMITS = Limits(max_batch=64, max_in_flight=16, cores=2, gain=0.03)
CURVES: dict[str, Curve] = {
    "flat": lambda b, f: 1000.0,
    "+60 % at 2 in flight, then flat": lambda b, f: 1000 * (1.6 if f > 1 else 1),
    "+2.5 % each doubling of the batch": lambda b, f: 1000 * 1.025 ** math.log2(b),
    "b/(b+8), +10 % at 2 in flight": lambda b, f: 9000 * b / (b + 8) * (1.1 if f > 1 else 1),
    "batch 2 is 5 % slower, 8 are 40 % faster": lambda b, f: 1000 * {1: 1, 2: 0.95, 4: 1.1}.get(b, 1.4),
    "2 in flight 10 % slower, 4 are 30 % faster": lambda b, f: 1000 * {1: 1, 2: 0.9}.get(f, 1.3),
    "batch pays only at 1 in flight": lambda b, f: (
        1000 * (1.05 if f > 1 else 1) * (1 + (0.5 if f == 1 else 0.05) * (1 - 1 / b))
    ),
    "peak at batch 8": lambda b, f: 1000 * {1: 1, 2: 1.2, 4: 1.35}.get(b, 1.45 * 0.8 ** (math.log2(b) - 3)),
}


def best_rate(curve: Curve) -> float:
    """The highest rate of the settings within LIMITS that are powers of two."""
    return max(curve(2**b, 2**f) for b in range(7) for f in range(5))
