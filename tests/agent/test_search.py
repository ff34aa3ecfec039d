"""The throughput search: what it tries on known curves, and how it runs the trials."""

from __future__ import annotations

import itertools
import math
import random
import sys
from collections.abc import Callable

import numpy as np
import pytest
from curves import CURVES, LIMITS, best_rate
from echo import Echo, compiled, in_seconds, pool, quiet
from numpy.typing import NDArray

from edlab.agent import phases
from edlab.agent.errors import FixedBatchError
from edlab.agent.messages import Setting, Trial
from edlab.agent.observer import Counters
from edlab.agent.phases.settings import Limits, next_setting, winner
from edlab.agent.runtimes.base import Compiled

ONE = LIMITS._replace(max_batch=1, max_in_flight=1)

Curve = Callable[[int, int], "float | None"]


def decide(curve: Curve, limits: Limits = LIMITS, noise: float = 0.0, seed: int = 0) -> tuple[Setting, list[Trial]]:
    draw = random.Random(seed)
    trials: list[Trial] = []
    for _ in range(50):
        setting = next_setting(trials, limits)
        if setting is None:
            return winner(trials, limits), trials
        rate = curve(*setting)
        trials.append(Trial(*setting, None if rate is None else rate * math.exp(noise * draw.gauss(0, 1))))
    raise AssertionError("the search does not end")


@pytest.mark.parametrize("name", CURVES)
def test_the_choice_is_within_three_percent_of_the_best_on_average(name: str) -> None:
    curve = CURVES[name]
    found = [decide(curve, noise=0.05, seed=seed) for seed in range(200)]
    share = sum(curve(*setting) for setting, _ in found) / len(found) / best_rate(curve)
    assert share >= 0.965  # 97 % less what 200 can miss
    assert sum(len(trials) for _, trials in found) / len(found) < 15
    assert max(len(trials) for _, trials in found) <= 18


def test_without_noise_the_smallest_of_equal_settings_wins() -> None:
    assert decide(CURVES["flat"])[0] == (1, 1)
    assert decide(CURVES["+60 % at 2 in flight, then flat"])[0] == (1, 2)
    assert decide(CURVES["batch 2 is 5 % slower, 8 are 40 % faster"])[0] == (8, 1)


def test_repeats_on_a_flat_curve_mostly_agree() -> None:
    chosen = [decide(CURVES["flat"], noise=0.02, seed=seed)[0] for seed in range(100)]
    assert chosen.count(Setting(1, 1)) >= 90


def test_one_request_for_each_core_is_tried() -> None:
    def six_lanes(batch: int, in_flight: int) -> float:
        return 100.0 * min(in_flight, 6) if in_flight <= 6 else 400.0

    best, _ = decide(six_lanes, LIMITS._replace(cores=6))
    assert best == (1, 6)
    assert not any(trial.in_flight == 6 for trial in decide(six_lanes)[1])


def test_the_finalists_are_tried_again_in_the_order_abba() -> None:
    best, trials = decide(CURVES["+60 % at 2 in flight, then flat"])
    again = [trial.setting for trial in trials if sum(each.setting == trial.setting for each in trials) > 1]
    last = [trial.setting for trial in trials][-4:]
    assert last[0] == last[3] == best
    assert last[1] == last[2] != best
    assert set(again) == set(last)


@pytest.mark.parametrize("loss", [0.0, 0.02])
def test_a_target_that_slows_down_with_each_trial_does_not_favour_the_smaller_setting(loss: float) -> None:
    trials: list[Trial] = []
    while setting := next_setting(trials, LIMITS._replace(max_batch=2, max_in_flight=1)):
        rate = 1000 * (1.05 if setting.batch == 2 else 1) * (1 - loss) ** len(trials)
        trials.append(Trial(*setting, rate))
    assert winner(trials, LIMITS._replace(max_batch=2, max_in_flight=1)) == (2, 1)


def test_limits_hold_and_end_the_search() -> None:
    for most_batch, most_in_flight in itertools.product((1, 2, 3, 64), (1, 2, 5, 16)):
        limits = Limits(most_batch, most_in_flight, cores=8, gain=0.03)
        trials = decide(lambda b, f: 100.0 * b * f, limits)[1]
        assert all(trial.batch <= most_batch and trial.in_flight <= most_in_flight for trial in trials)
    assert decide(CURVES["flat"], ONE)[1] == [Trial(1, 1, 1000.0)]


def test_what_cannot_run_bounds_the_search() -> None:
    best, trials = decide(lambda b, f: 100.0 * f if b == 1 and f <= 4 else None)
    assert best == (1, 4)
    failed = [trial.setting for trial in trials if trial.ips is None]
    assert failed == [(1, 16), (4, 1), (2, 1)]
    assert decide(lambda b, f: 100.0 if b == f == 1 else None)[0] == (1, 1)


def test_where_batch_4_cannot_run_batch_2_is_tried() -> None:
    best, trials = decide(lambda b, f: 100.0 * b if b <= 2 else None, LIMITS._replace(max_in_flight=1))
    assert best == (2, 1)
    assert [trial.setting for trial in trials if trial.ips is None] == [(4, 1)]
    assert decide(lambda b, f: 100.0 * b if b <= 2 else None, LIMITS._replace(max_batch=3))[0].batch == 2


def test_a_finalist_that_does_not_run_again_loses() -> None:
    counts: dict[Setting, int] = {}

    def fails_later(batch: int, in_flight: int) -> float | None:
        setting = Setting(batch, in_flight)
        counts[setting] = counts.get(setting, 0) + 1
        return None if batch == 64 and counts[setting] > 1 else 100.0 * batch

    assert decide(fails_later, LIMITS._replace(max_in_flight=1))[0].batch < 64


def test_a_search_that_was_cut_short_still_has_a_winner() -> None:
    trials = decide(CURVES["b/(b+8), +10 % at 2 in flight"])[1]
    for count in range(1, len(trials)):
        assert winner(trials[:count], LIMITS) in {trial.setting for trial in trials[:count]}


def search(
    compile_model: Callable[[int, int], Compiled],
    limits: Limits,
    within_s: float = 60,
    trial_seconds: float = 0.05,
) -> phases.Search:
    return phases.search(compile_model, pool(4), limits, trial_seconds, in_seconds(within_s), quiet)


def test_batch_1_is_measured_anew_where_a_larger_batch_wins() -> None:
    def compile_model(in_flight: int, batch: int) -> Compiled:
        return compiled(Echo(0.02) for _ in range(in_flight))  # whatever the batch

    found = search(compile_model, LIMITS._replace(max_batch=4, max_in_flight=1))
    assert found.best.batch == 4
    assert found.trials[-1].batch == 1
    assert found.batch1_ips == found.trials[-1].ips
    alone = search(compile_model, ONE)
    assert alone.best == (1, 1)
    assert alone.batch1_ips is None


def test_the_search_ends_where_the_next_setting_might_not() -> None:
    found = search(lambda count, batch: compiled(Echo(0.05) for _ in range(count)), LIMITS, 1.0, trial_seconds=0.2)
    assert found.truncated
    assert 1 <= len(found.trials) < 8
    assert found.best in [trial.setting for trial in found.trials]
    late = search(lambda *_: compiled([Echo(0.01)]), LIMITS, 0)
    assert late.truncated
    assert [trial.setting for trial in late.trials] == [(1, 1)]


def test_a_setting_whose_queries_take_too_long_is_not_tried() -> None:
    found = search(lambda count, batch: compiled([Echo(0.2 * batch)]), LIMITS._replace(max_in_flight=1), 6)
    assert found.truncated
    assert max(trial.batch for trial in found.trials) < 64


def test_the_search_is_heard_of_while_it_tries() -> None:
    reports: list[str] = []
    phases.search(
        lambda *_: compiled([Echo(1.1)]), pool(1), ONE, 0.01, in_seconds(60),
        lambda fraction, message: reports.append(message),
    )  # fmt: skip
    assert len(reports) >= 2
    assert set(reports) == {"trying batch 1, 1 in flight"}


def test_the_search_notes_what_cannot_run_and_keeps_the_best() -> None:
    def compile_model(in_flight: int, batch: int) -> Compiled:
        if batch > 1:
            raise FixedBatchError("the batch is 1")
        return compiled(Echo(0.01) for _ in range(in_flight))

    found = search(compile_model, LIMITS._replace(max_in_flight=1))
    assert found.best == (1, 1)
    assert [(trial.batch, trial.ips is None, trial.note) for trial in found.trials] == [
        (1, False, ""),
        (4, True, "the batch is 1"),
        (2, True, "the batch is 1"),
    ]


def test_the_note_of_what_cannot_run_is_the_first_line() -> None:
    def compile_model(in_flight: int, batch: int) -> Compiled:
        if batch > 2:
            raise RuntimeError("\nout of memory\n  at 0x7f01\n  at 0x7f02")
        if batch > 1:
            raise MemoryError
        return compiled([Echo(0.01)])

    notes = [trial.note for trial in search(compile_model, LIMITS._replace(max_in_flight=1)).trials]
    assert notes == ["", "out of memory", "MemoryError"]


class Clock:
    """Stands still but for `pass_`."""

    def __init__(self) -> None:
        self.now_ns = 0

    def perf_counter_ns(self) -> int:
        return self.now_ns

    def pass_(self, seconds: float) -> None:
        self.now_ns += int(seconds * 1e9)


def test_a_repeated_trial_is_expected_to_take_what_its_first_took(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last one, of the quick setting, fits although the trial before it took longer than the time that is left."""
    clock = Clock()

    def saturate(requests: object, tensors: list[NDArray[np.float32]], *_: object) -> phases.Window:
        batch, start = len(tensors[0]), clock.now_ns
        clock.pass_(0.1 if batch == 1 else 1.0)
        ips = 50.0 if batch == 1 else 10.0
        counters = Counters.read()
        completed = ips * (clock.now_ns - start) / 1e9
        return phases.Window(completed, start, clock.now_ns, False, [], counters.since(counters, []))

    module = sys.modules["edlab.agent.phases.search"]
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(module, "saturate", saturate)
    limits = LIMITS._replace(max_batch=4, max_in_flight=1)
    found = phases.search(lambda *_: compiled([Echo()]), pool(4), limits, 0.05, int(3.8e9), quiet)
    assert [trial.batch for trial in found.trials] == [1, 4, 1, 4, 4, 1]
    assert not found.truncated


def test_the_search_survives_a_setting_that_the_device_refuses_but_not_a_broken_model() -> None:
    def one_at_a_time(in_flight: int, batch: int) -> Compiled:
        if in_flight > 1:
            raise RuntimeError("the accelerator is in use")
        return compiled([Echo(0.01 * batch)])

    found = search(one_at_a_time, LIMITS._replace(max_batch=1))
    assert found.best == (1, 1)
    assert found.trials[-1].note == "the accelerator is in use"

    def broken(in_flight: int, batch: int) -> Compiled:
        raise RuntimeError("the accelerator is gone")

    with pytest.raises(RuntimeError, match="gone"):
        search(broken, LIMITS)
