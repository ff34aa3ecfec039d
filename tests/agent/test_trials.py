"""What the throughput search says of trials that were cut short or failed, where saturating is made up."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from echo import Clock, Echo, compiled, in_seconds, pool, quiet
from numpy.typing import NDArray

from edlab.agent import phases
from edlab.agent.messages import Activity
from edlab.agent.runtimes.base import Compiled

ONE = phases.Limits(max_batch=1, max_in_flight=1, cores=1, gain=0.03)
BATCHES = ONE._replace(max_batch=4)
TRIAL_S = 0.1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The search's clock; each trial takes TRIAL_S of it, in which ten queries complete whatever their batch."""
    clock = Clock()

    def saturate(requests: object, tensors: list[NDArray[np.float32]], *_: object) -> phases.Window:
        start = clock.perf_counter_ns()
        clock.sleep(TRIAL_S)
        activity = Activity(TRIAL_S, None, None, None, 0, [], None)
        return phases.Window(10 * len(tensors[0]), start, clock.perf_counter_ns(), False, [], activity)

    module = sys.modules["edlab.agent.phases.search"]
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(module, "saturate", saturate)
    return clock


def echo(in_flight: int, batch: int) -> Compiled:
    return compiled(Echo() for _ in range(in_flight))


def test_a_trial_that_the_limit_cut_short_truncates_the_search() -> None:
    found = phases.search(echo, pool(1), ONE, 60, in_seconds(0), quiet)
    assert len(found.trials) == 1
    assert found.truncated
    assert not phases.search(echo, pool(1), ONE, 0, in_seconds(60), quiet).truncated


@pytest.mark.usefixtures("clock")
def test_batch_1_has_a_rate_and_no_note_where_its_trial_ran() -> None:
    found = phases.search(echo, pool(4), BATCHES, TRIAL_S, int(60e9), quiet)
    assert found.best == (4, 1)
    assert found.batch1_ips == pytest.approx(100)
    assert found.batch1_note == ""
    alone = phases.search(echo, pool(4), ONE, TRIAL_S, int(60e9), quiet)
    assert (alone.best, alone.batch1_ips, alone.batch1_note) == ((1, 1), None, "")


@pytest.mark.usefixtures("clock")
def test_a_trial_at_batch_1_that_failed_leaves_its_note() -> None:
    made: list[int] = []

    def compile_model(in_flight: int, batch: int) -> Compiled:
        made.append(batch)
        if made.count(1) > 1:
            raise RuntimeError("the accelerator is in use\nby process 7")
        return echo(in_flight, batch)

    found = phases.search(compile_model, pool(4), BATCHES, TRIAL_S, int(60e9), quiet)
    assert found.best == (4, 1)
    assert found.batch1_ips is None
    assert found.batch1_note == "the accelerator is in use"
    assert not found.truncated


def test_no_time_for_a_trial_at_batch_1_is_its_note(clock: Clock) -> None:
    whole = phases.search(echo, pool(4), BATCHES, TRIAL_S, int(60e9), quiet)
    assert whole.trials[-1].batch == 1
    all_but_the_last_ns = clock.perf_counter_ns() - int(TRIAL_S * 1e9)
    limit_ns = clock.perf_counter_ns() + all_but_the_last_ns + int(0.5 * TRIAL_S * 1e9)  # and time for one query
    found = phases.search(echo, pool(4), BATCHES, TRIAL_S, limit_ns, quiet)
    assert found.trials == whole.trials[:-1]
    assert found.batch1_ips is None
    assert found.batch1_note == "no time was left for a trial at batch 1"
