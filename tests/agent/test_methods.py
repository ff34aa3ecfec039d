"""The agent's methods with a runtime that keeps what it made: which model each phase runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from echo import Echo, quiet

from edlab.agent import runtimes
from edlab.agent.messages import Open, Pool, Setting, Throughput, ThroughputReport
from edlab.agent.methods import Agent
from edlab.agent.runtimes import base


class Keeping(base.Runtime):
    made: list[tuple[int, int, list[Echo]]]  # requests in flight, batch and the requests of each call of `compile`

    @staticmethod
    def version() -> str:
        return "1"

    def load(self) -> None:
        pass

    def compile(self, in_flight: int, batch: int) -> base.Compiled:
        requests = [Echo(0.001) for _ in range(in_flight)]
        self.made.append((in_flight, batch, requests))
        spec = base.TensorSpec("image", (None, 3, 2, 2), "float32")
        return base.Compiled(list(requests), [spec], [spec], {})


@pytest.fixture
def images(tmp_path: Path) -> str:
    np.save(tmp_path / "images.npy", np.zeros((2, 2, 2, 3), np.uint8))
    return str(tmp_path / "images.npy")


@pytest.fixture
def agent(images: str, monkeypatch: pytest.MonkeyPatch) -> Agent:
    """With a model open."""
    monkeypatch.setattr(runtimes, "find", lambda name: Keeping)
    monkeypatch.setattr(Keeping, "made", [], raising=False)
    agent = Agent()
    agent.open(quiet, Open("keeping", [images], {}, 1, [0.0] * 3, [1.0] * 3, "NCHW"))
    return agent


def throughput(agent: Agent, images: str, setting: Setting | None = None) -> ThroughputReport:
    wanted = Throughput(
        pool=Pool(images, [0, 1]),
        seconds=0.01,
        max_seconds=60,
        max_batch=1,
        max_in_flight=1,
        gain=0.03,
        trial_seconds=0.01,
        setting=setting,
    )
    return agent.throughput(quiet, wanted)


def test_each_trial_and_the_window_run_a_model_compiled_for_it(agent: Agent, images: str) -> None:
    """Also at the setting of the latency phases, whose model has run for long."""
    warm = Keeping.made[0][2][0]
    result = throughput(agent, images)
    assert [(in_flight, batch) for in_flight, batch, _ in Keeping.made] == [(1, 1)] * 3  # open, trial, window
    assert all(requests[0].seen for _, _, requests in Keeping.made[1:])
    assert not warm.seen
    assert (result.batch, result.in_flight, len(result.search)) == (1, 1, 1)
    assert result.batch1_note == ""


def test_a_known_setting_is_measured_without_a_search(agent: Agent, images: str) -> None:
    result = throughput(agent, images, Setting(2, 1))
    assert (result.batch, result.in_flight, result.search) == (2, 1, [])
    assert (result.batch1_ips, result.batch1_note) == (None, "")
