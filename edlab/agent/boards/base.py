"""What a knob is to the agent, and the change of one that is undone however the agent ends."""

from __future__ import annotations

import contextlib
import os
import subprocess
from abc import ABC, abstractmethod

from ..errors import AgentError
from ..protocol import MARK_VARIABLE

_TIMEOUT_S = 30


class Knob(ABC):
    """One setting of this machine; its values are text."""

    name = ""  # by which the host asks for it; set when it is found

    @abstractmethod
    def available(self) -> None:
        """Raises `AgentError`, with what to do, where this machine does not have it or this user may not set it."""

    @abstractmethod
    def show(self) -> str:
        """The value in force."""

    @abstractmethod
    def choose(self, wanted: str) -> str:
        """A value that a person asks for, as `show` tells it. Raises `AgentError` with those that there are."""

    @abstractmethod
    def set(self, value: str) -> None:
        """Put a value of `choose` in force. Raises `AgentError` where that cannot be now."""

    @abstractmethod
    def undo(self, value: str) -> list[str]:
        """The command that puts a value of `show` in force again.

        A process beside this one runs it, with an empty stdin: nothing else would outlive a kill.
        """


class Change:
    """A knob at another value until `undo`, or until this process ends, however it does."""

    def __init__(self, knob: Knob, wanted: str, lock: int | None = None) -> None:
        """Raises `AgentError` where the knob cannot be set to that now.

        `lock` is the descriptor that holds the device (`locks.acquire`); it is held until the value is back, so that
        no other run measures with this one. None: the device is not locked.
        """
        knob.available()
        self._knob = knob
        self.before = knob.show()
        self.value = knob.choose(wanted)
        self._guard: subprocess.Popen[bytes] | None = None
        if self.value == self.before:
            return
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", 'trap "" HUP INT TERM; read -r _; "$@"', "undo", *knob.undo(self.before)],
            stdin=subprocess.PIPE,  # closes with this process
            stdout=subprocess.DEVNULL,  # this process's own are a link's, and a write to a dead link is a SIGPIPE
            stderr=subprocess.DEVNULL,
            pass_fds=() if lock is None else (lock,),  # flock(2): held until every copy of it is closed
            start_new_session=True,  # out of the group that is killed with the agent
            env={name: value for name, value in os.environ.items() if name != MARK_VARIABLE},  # nor found by its mark
        )
        try:
            knob.set(self.value)
            now = knob.show()
            if now != self.value:
                raise AgentError(
                    "%s was set to %s, but is %s" % (knob.name, self.value, now),
                    hint="another program on the target changes it: stop that program, or remove device.knobs.%s"
                    % knob.name,
                )
        except Exception:
            with contextlib.suppress(AgentError):  # who may not set it may not set it back: the first error says why
                self.undo()
            raise

    def undo(self) -> None:
        """Put the value back that was in force, and wait for it. Raises `AgentError` where that fails."""
        guard, self._guard = self._guard, None
        if guard is None:
            return
        guard.communicate(timeout=_TIMEOUT_S)
        if guard.returncode:
            raise AgentError(
                "%s could not be restored from %s to %s" % (self._knob.name, self.value, self.before),
                hint="set it manually on the target before the next run",
            )
