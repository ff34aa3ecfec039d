"""A board: the agent runs there, and communicates by the system's OpenSSH client."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import shlex
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import edlab.agent
from edlab.agent.protocol import HEARTBEAT_S
from edlab.cache import sha256_files
from edlab.config import DeviceConfig
from edlab.devices.base import Device
from edlab.devices.remote_files import RemoteFiles, content_key
from edlab.devices.session import AgentSession
from edlab.errors import ConfigError, DeviceError, StorageError
from edlab.openssh import FAILED, Link

_KILL_S = 5.0
HOST_SILENCE_S = 30.0  # then an agent ends itself: its link broke silently
DEFAULT_PYTHON = "python3"

# Any version of Python can run this, and no login shell changes it between single quotes. Nothing is imported from the
# login's folder.
_GUARD = (
    "import sys; sys.path[:] = [p for p in sys.path if p]; "
    'sys.version_info < (3, 7) and sys.exit("too old: " + sys.version.split()[0]); '
    "import base64; exec(base64.b64decode(sys.argv[1]))"
)
_TOO_OLD = re.compile(r"^too old: (\S+)$", re.MULTILINE)
_NOT_FOUND = (126, 127)  # a shell's exit codes for a program that cannot be run


@dataclass(frozen=True)
class Board:
    """The facts of a board before an agent is started there."""

    workdir: str  # absolute
    agent: str | None  # the path of the zip; None if it has not been sent yet
    cpus: list[int]
    rsync: bool


class SshDevice(Device):
    """A machine that `ssh` reaches by the name `device.address`."""

    def connect(self) -> SshSession:
        """Start an agent there, which is sent first if the board does not have it yet.

        Raises `DeviceError` if the board cannot be reached, or Python or numpy is missing there, `StorageError` if its
        disk is full or read-only, `ConfigError` for an invalid host, variable or number of threads.
        """
        if not self.config.address:
            raise DeviceError(
                f"{self.config.name} is not configured: device.address is not set",
                hint="set device.address=NAME, a name that `ssh NAME` reaches without a password (docs/boards.md)",
            )
        link = Link(self.config.address)
        board = self._survey(link, self.agent())
        cpus = ",".join(map(str, self._cpus(board)))
        words = [str(board.agent), "--cpus", cpus, "--workdir", board.workdir, "--host-silence-s", str(HOST_SILENCE_S)]
        return SshSession(link.start(self._python(*words)), self.config, link, board)

    def _survey(self, link: Link, archive: Path) -> Board:
        """Query the facts of the board, and make sure that it has the agent."""
        request = {
            "workdir": self.config.workdir,
            "key": content_key([archive]),
            "name": archive.name,
            "sha256": sha256_files([archive]),
        }
        board = self._ask(link, request)
        if board.agent is None:
            board = self._ask(link, request, archive)
        if board.agent is None:
            raise DeviceError(
                f"the agent was damaged on its way to {link.host}", hint="check the board's disk and memory"
            )
        return board

    def _ask(self, link: Link, request: dict[str, Any], content: Path | None = None) -> Board:
        program = Path(edlab.agent.__file__).with_name("bootstrap.py").read_bytes()
        encoded = [base64.b64encode(data).decode() for data in (program, json.dumps(request).encode())]
        with open(content, "rb") if content else contextlib.nullcontext() as stdin:
            done = link.run(self._python("-c", _GUARD, *encoded), stdin)
        facts = _facts(done.stdout)
        if facts is None:
            raise self._unfit(link, done)
        if "storage_error" in facts:
            raise StorageError(
                f"{self.config.name} ({link.host}) {facts['storage_error']}",
                hint="free space on the board's disk, or set device.workdir to a writable folder there",
            )
        if reason := facts.pop("numpy_error"):
            raise DeviceError(
                f"{self._interpreter} on {link.host} cannot import numpy: {reason}",
                hint=self._by_hand(link, "-m pip install numpy"),
            )
        return Board(**facts)

    def _unfit(self, link: Link, done: subprocess.CompletedProcess[bytes]) -> DeviceError:
        """The error that explains why Python did not answer there."""
        output = (done.stdout + done.stderr).decode(errors="replace").strip()
        if old := _TOO_OLD.search(output):
            return DeviceError(
                f"{self._interpreter} on {link.host} is Python {old.group(1)}: the agent needs 3.7 or later",
                hint="set device.python to the path of a newer one there",
            )
        if done.returncode in _NOT_FOUND:
            return DeviceError(
                f"{self._interpreter} is not found on {link.host}",
                hint=f"install Python 3.7 or later and numpy there, or set device.python to its path; "
                f"check that `{self._by_hand(link, '--version')}` works",
                log=output,
            )
        return DeviceError(
            f"{self._interpreter} on {link.host} failed with exit code {done.returncode}",
            hint=f"check that `{self._by_hand(link, '--version')}` works",
            log=output,
        )

    @property
    def _interpreter(self) -> str:
        return self.config.python or DEFAULT_PYTHON

    @property
    def _program(self) -> str:
        """The interpreter, quoted for the login shell there."""
        home, _, rest = self._interpreter.partition("~/")
        return f"~/{shlex.quote(rest)}" if rest and not home else shlex.quote(self._interpreter)

    def _by_hand(self, link: Link, arguments: str) -> str:
        """The command that runs Python there from a user's shell: two shells parse it, one here and one there."""
        return f"{link.login} {shlex.quote(f'{self._program} {arguments}')}"

    def _python(self, *arguments: str) -> str:
        """The line that runs Python with `device.env` in the login shell there."""
        for name in self.config.env:
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                raise ConfigError(
                    f"device.env: {name!r} is not a valid name of an environment variable",
                    hint="use letters, digits and underscores",
                )
        assignments = [shlex.quote(f"{name}={value}") for name, value in self.config.env.items()]
        return " ".join(["exec", "env", *assignments, self._program, *map(shlex.quote, arguments)])

    def _cpus(self, board: Board) -> list[int]:
        threads = self.config.threads or len(board.cpus)
        if threads > len(board.cpus):
            raise ConfigError(
                f"device.threads={threads} is more than the {len(board.cpus)} cores that {self.config.name} has",
                hint=f"set device.threads={len(board.cpus)} or less",
            )
        return board.cpus[:threads]


class SshSession(AgentSession):
    """Communicates with an agent on a board, which has its own files, and ends itself if its host is silent."""

    def __init__(self, process: subprocess.Popen[bytes], device: DeviceConfig, link: Link, board: Board) -> None:
        super().__init__(process, device)
        self._link = link
        self._files = RemoteFiles(link, self.call, device.workdir_limit_gb, board.rsync)
        threading.Thread(target=self._beat, daemon=True).start()

    def put(self, files: Sequence[Path]) -> list[str]:
        return self._files.put(files)

    def outbox(self, path: Path) -> str:
        return self._files.outbox(path)

    def get(self, remote: str, to: Path) -> None:
        self._files.get(remote, to)

    def _beat(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # the agent has ended: the next call will report it
            while True:
                self._write({"event": "heartbeat"})
                time.sleep(HEARTBEAT_S)

    def _kill(self) -> None:
        """End ssh, which ends the agent, and kill an agent that is too stuck to notice that."""
        lives = self.process.poll() is None
        super()._kill()
        if lives and self._agent_pid is not None:
            with contextlib.suppress(DeviceError):  # the link is dead: the agent will notice the missing heartbeats
                self._link.run(f"kill -s KILL -- -{self._agent_pid}", timeout_s=_KILL_S)

    def _exit(self) -> str:
        """How the agent ended. ssh's exit code is the same if it was killed and if the link broke."""
        ended = super()._exit()
        if self.process.returncode != FAILED:
            return ended
        return "killed there (the board ran out of memory?)" if self._link.is_up() else "the link to it broke"


def _facts(stdout: bytes) -> dict[str, Any] | None:
    """The answer of the bootstrap, among the output of the login shell."""
    for line in stdout.splitlines():
        with contextlib.suppress(ValueError, TypeError, KeyError):
            facts: dict[str, Any] = json.loads(line)["edlab"]
            return facts
    return None
