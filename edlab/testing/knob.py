"""The requirements of every knob of the agent, as tests that a third party's test class inherits.

    class TestAcmeClock(KnobConformance):
        knob = "acme_clock"  # the name of its entry point in edlab.knobs
        value = "turbo"  # the value to set; it must differ from the current one

The suite sets the knob of this machine, and restores it. If this machine does not have the knob, all tests but one are
skipped; `environment` can point the knob at a stand-in.
"""

from __future__ import annotations

import importlib
import os
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import pytest

from edlab import devices
from edlab.agent import boards, errors
from edlab.agent.boards import Knob
from edlab.cache import Cache
from edlab.config import DeviceConfig
from edlab.devices import AgentSession
from edlab.errors import AgentError
from edlab.registry import plugins

_PATIENCE_S = 30.0  # for what a process next to the agent does


class KnobConformance:
    """Subclass with `knob` and `value`."""

    knob: ClassVar[str]
    value: ClassVar[str]

    def environment(self) -> Mapping[str, str]:
        """Variables that the knob reads. Override it for a knob that uses a stand-in."""
        return {}

    @pytest.fixture
    def here(self, monkeypatch: pytest.MonkeyPatch) -> Knob:
        """The knob as its module creates it, in this process."""
        for name, text in self.environment().items():
            monkeypatch.setenv(name, text)
        entry = plugins("knobs").get(self.knob)
        knob: Knob = importlib.import_module(entry.value if entry else boards.BUILT_IN[self.knob]).Knob()
        return knob

    @pytest.fixture
    def before(self, here: Knob) -> str:
        """The current value; skips if there is none."""
        if reason := _why_not(here):
            pytest.skip(str(reason))
        return here.show()

    @pytest.fixture
    def session(self, before: str, tmp_path: Path) -> Iterator[AgentSession]:
        device = DeviceConfig(name="conformance", env=dict(self.environment()))
        with devices.connect(device, Cache(tmp_path / "cache")) as session:
            yield session

    def test_it_is_available_or_says_what_to_do(self, here: Knob) -> None:
        assert isinstance(here, Knob)
        reason = _why_not(here)
        assert reason is None or (str(reason) and reason.hint)

    def test_what_it_shows_can_be_chosen(self, here: Knob, before: str) -> None:
        assert before
        assert here.show() == before
        assert here.choose(self.value) != before, "the suite needs a value that differs from the current one"
        assert here.choose(here.choose(self.value)) == here.choose(self.value)

    def test_it_is_set_for_an_agent_and_put_back_after_it(self, here: Knob, before: str, session: AgentSession) -> None:
        change = session.set_knob(self.knob, self.value)
        assert change == (before, here.choose(self.value))
        assert here.show() == change.value
        session.close()
        _wait_for(here, before)

    def test_it_is_put_back_after_an_agent_that_is_killed(self, here: Knob, before: str, session: AgentSession) -> None:
        agent = session.hello().pid
        session.set_knob(self.knob, self.value)
        assert here.show() != before
        os.killpg(agent, signal.SIGKILL)
        _wait_for(here, before)

    def test_a_value_that_there_is_not_is_refused_and_changes_nothing(
        self, here: Knob, before: str, session: AgentSession
    ) -> None:
        with pytest.raises(AgentError, match="no_such_value") as caught:
            session.set_knob(self.knob, "no_such_value")
        assert here.choose(self.value) in caught.value.hint, "the hint must list the valid values"
        assert here.show() == before


def _why_not(knob: Knob) -> errors.AgentError | None:
    try:
        knob.available()
    except errors.AgentError as error:
        return error
    return None


def _wait_for(knob: Knob, value: str) -> None:
    end = time.monotonic() + _PATIENCE_S
    while knob.show() != value:
        assert time.monotonic() < end, f"the value is {knob.show()}, and {value} was not restored"
        time.sleep(0.05)
