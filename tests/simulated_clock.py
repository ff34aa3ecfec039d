"""A clock that a test moves, for the sensors that this thread reads; all other code and threads keep the real one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from edlab.agent.sensors import base


def set_clock(monkeypatch: pytest.MonkeyPatch, now_ns: Callable[[], int]) -> None:
    """Let the sensors that this thread reads take `now_ns()` for the time."""
    here = threading.current_thread()

    def perf_counter_ns() -> int:
        return now_ns() if threading.current_thread() is here else time.perf_counter_ns()

    clock = SimpleNamespace(perf_counter_ns=perf_counter_ns, monotonic=time.monotonic, sleep=time.sleep)
    monkeypatch.setattr(base, "time", clock)
