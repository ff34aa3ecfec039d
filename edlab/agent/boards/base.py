"""The interface of a knob, and the change of a knob, which is undone however the agent ends."""

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

    name = ""  # the host's name for it; set when it is found

    @abstractmethod
    def available(self) -> None:
        """Raises `AgentError`, with the fix, if this machine does not have it or this user may not set it."""

    @abstractmethod
    def show(self) -> str:
        """The current value."""

    @abstractmethod
    def choose(self, wanted: str) -> str:
        """A value that the user requests, in the form of `show`. Raises `AgentError` with the valid values."""

    @abstractmethod
    def set(self, value: str) -> None:
        """Set a value of `choose`. Raises `AgentError` if that is not possible now."""

    @abstractmethod
    def undo(self, value: str) -> list[str]:
        """The command that restores a value of `show`.

        A separate process runs it, with an empty stdin: nothing else would survive a kill.
        """


class Change:
    """A knob at another value until `undo`, or until this process ends in any way."""

    def __init__(self, knob: Knob, wanted: str, lock: int | None = None) -> None:
        """Raises `AgentError` if the knob cannot be set to that value now.

        `lock` is the descriptor that locks the device (`locks.acquire`); it is held until the value is restored, so
        that no other run measures with this value. None: the device is not locked.
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
            stdout=subprocess.DEVNULL,  # this process's streams are a link's, and a write to a dead link is a SIGPIPE
            stderr=subprocess.DEVNULL,
            pass_fds=() if lock is None else (lock,),  # flock(2): held until every copy of it is closed
            start_new_session=True,  # outside the process group that is killed with the agent
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
            with contextlib.suppress(AgentError):  # a knob that cannot be set cannot be restored either
                self.undo()
            raise

    def undo(self) -> None:
        """Restore the previous value, and wait for it. Raises `AgentError` if that fails."""
        guard, self._guard = self._guard, None
        if guard is None:
            return
        guard.communicate(timeout=_TIMEOUT_S)
        if guard.returncode:
            raise AgentError(
                "%s could not be restored from %s to %s" % (self._knob.name, self.value, self.before),
                hint="set it manually on the target before the next run",
            )
