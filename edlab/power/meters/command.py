"""Any program that prints watts: one number a line, for a meter that edlab does not read itself.

The program decides how often it prints. It must not buffer its output: `flush=True` in Python (which `PYTHONUNBUFFERED`
does for it here), `stdbuf -oL` before a C program. It is started without a shell: for a pipe, set the command to
`sh -c 'acme-meter | cut -f2'`.
"""

from __future__ import annotations

import contextlib
import math
import os
import queue
import re
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections import deque
from typing import IO

from edlab.agent.sensors.base import Sample, Sensor
from edlab.errors import ConfigError
from edlab.isolation import describe_exit
from edlab.power import options

_WAIT_S = 0.9
_DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+")
_RESTART_S = 1.0  # from one start to the next
_GRACE_S = 1.0  # from SIGTERM to SIGKILL
_JOIN_S = 0.2
_MOST_CHARACTERS = 1000  # of a line
_MOST_LINES = 10_000  # that no one has read


class Command(Sensor):
    """The watts that a program prints, each at the time when its line arrives.

    The first reading starts the program. If it ends, the reading fails with the last line of its stderr, and a later
    one starts it again, at most once a second. After `patience_s` without a line, readings fail too.
    """

    paced = False

    def __init__(self, *, command: str, boundary: str, lag_s: float = 0.0, patience_s: float = 5.0) -> None:
        """`lag_s` is how far back a number may reach. Raises `ConfigError` for a program that does not exist."""
        self._arguments = _arguments(command)
        name = f"command {shlex.join(self._arguments)}"[:80]
        super().__init__(name, "command", options.boundary(boundary), options.number("lag_s", lag_s))
        self._patience_s = options.number("patience_s", patience_s)
        self._program: _Program | None = None
        self._started = -math.inf

    def read(self) -> Sample | None:
        """See `Sensor.read`: the next line. None: there is none yet."""
        deadline = time.monotonic() + _WAIT_S
        if self._program is None:
            pause_s = self._started + _RESTART_S - time.monotonic()
            if pause_s > 0:
                time.sleep(min(pause_s, _WAIT_S))
            if time.monotonic() < self._started + _RESTART_S:
                return None
            self._started = time.monotonic()  # of a try that fails, too
            self._program = _Program(self._arguments)
        line = self._program.next_line(deadline)
        if line is not None:
            return Sample(line[0], _watts(line[1]))
        if self._program.has_ended():
            program, self._program = self._program, None
            raise OSError(f"{self.name} ended with {program.end()}{program.complaint()}")
        if self._program.silence_s() >= self._patience_s:
            silence = f"{self._program.silence_s():.0f} s"
            raise TimeoutError(f"{self.name} has printed no line for {silence}{self._program.complaint()}")
        return None

    def close(self) -> None:
        """End the program and its children."""
        program, self._program = self._program, None
        if program is not None:
            program.end()


class _Program:
    """A running program, whose lines two threads read: a pipe that is full would stop it."""

    def __init__(self, arguments: list[str]) -> None:
        """Raises `OSError` if it cannot be started."""
        self._process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,  # a separate group, which can be killed with its children, and gets no Ctrl-C
        )
        assert self._process.stdout
        assert self._process.stderr
        self._last_ns = time.perf_counter_ns()
        self._ending = False
        self._lines: queue.Queue[tuple[int, str]] = queue.Queue(_MOST_LINES)
        self._complaints: deque[str] = deque(maxlen=1)
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        self._listener = threading.Thread(target=self._listen, args=(self._process.stderr,), daemon=True)
        self._reader.start()
        self._listener.start()

    def next_line(self, deadline: float) -> tuple[int, str] | None:
        """The next line and its time (time.perf_counter_ns); None if there is none before `deadline`, or the end."""
        while True:
            ended = self.has_ended()  # asked first: the last lines come before the end
            with contextlib.suppress(queue.Empty):
                return self._lines.get(timeout=0 if ended else min(0.05, max(deadline - time.monotonic(), 0.001)))
            if ended or time.monotonic() > deadline:
                return None

    def has_ended(self) -> bool:
        """Whether no line will follow."""
        if _has_exited(self._process.pid):
            self._reader.join(_JOIN_S)  # the last lines; a child of its may keep the pipe open
            return True
        return not self._reader.is_alive()

    def silence_s(self) -> float:
        """Seconds since the last line, or since the start."""
        return (time.perf_counter_ns() - self._last_ns) / 1e9

    def complaint(self) -> str:
        """The last line of stderr, as the end of a message."""
        return f": {self._complaints[-1]}" if self._complaints else ""

    def end(self) -> str:
        """End it and its children, and say how it ended."""
        self._ending = True
        end = time.monotonic() + _GRACE_S
        if not _has_exited(self._process.pid):
            self._signal(signal.SIGTERM)  # it may have a device to release
            while not _has_exited(self._process.pid) and time.monotonic() < end:
                time.sleep(0.01)
        self._signal(signal.SIGKILL)  # before its exit is collected: until then, no other group can have its number
        try:
            result = describe_exit(self._process.wait(_GRACE_S))
        except subprocess.TimeoutExpired:
            result = "a process that cannot be killed"
        for thread in (self._reader, self._listener):
            thread.join(_JOIN_S)
        return result

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # of root, by sudo: it ends with its pipe
            os.killpg(self._process.pid, number)

    def _read(self, stream: IO[bytes]) -> None:
        with stream:
            for line in iter(lambda: stream.readline(_MOST_CHARACTERS), b""):
                now_ns = max(time.perf_counter_ns(), self._last_ns + 1)
                if text := line.decode(errors="replace").strip():
                    self._last_ns = now_ns
                    if self._lines.full():
                        with contextlib.suppress(queue.Empty):
                            self._lines.get_nowait()
                    self._lines.put((now_ns, text))
                if self._ending:
                    return

    def _listen(self, stream: IO[bytes]) -> None:
        with stream:
            for line in iter(lambda: stream.readline(_MOST_CHARACTERS), b""):
                if text := line.decode(errors="replace").strip():
                    self._complaints.append(text)


def _has_exited(pid: int) -> bool:
    """Whether a child has exited, without collecting its exit status."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:  # it has been collected
        return True


def _arguments(command: str) -> list[str]:
    try:
        arguments = shlex.split(options.text("command", command))
    except ValueError as error:
        raise ConfigError(
            f"the meter option command cannot be split into arguments: {error}",
            hint="quote it as in a shell: python3 'my meter.py' --fast",
        ) from error
    if shutil.which(arguments[0]) is None:
        raise ConfigError(
            f"the meter's program {arguments[0]} is not found, or cannot be executed",
            hint="set meter.options.command to a program on the PATH, or to its path",
        )
    return arguments


def _watts(line: str) -> float:
    try:
        watts = float(line)
    except ValueError:
        how = ": a number has a decimal point" if _DECIMAL_COMMA.fullmatch(line) else ""
        raise ValueError(f"the meter's program printed {line[:80]!r}, not a number of watts{how}") from None
    if not math.isfinite(watts) or watts < 0:
        raise ValueError(f"the meter's program printed {line[:80]!r}, which is no power")
    return watts
