"""A folder in which a small sweep is started, broken and started again, with its own cache, disk and locks."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from fault_injection import forked

from edlab.engine.command import read_records
from edlab.record import RunRecord
from edlab.testing.sshd import LoopbackBoard

WORDS = [
    "-m", "model=digits_cnn", "converter=onnxruntime", "quantization=fp32,int8", "device=cpu", "device.threads=1",
    "protocol=smoke", "protocol.queries=20", "protocol.seconds=0.3", "protocol.max_interval=1",
    "protocol.warmup.seconds=0.2", "protocol.warmup.max_seconds=1", "protocol.throughput.trial_seconds=0.1",
    "protocol.throughput.max_in_flight=1", "protocol.throughput.max_batch=1", "dataset.images=200",
]  # fmt: skip
KINDS = {
    "digits_cnn": WORDS,
    "over ssh": [*WORDS, f"device.python={sys.executable}"],
    "mobilenet_v2": [*WORDS, "model=mobilenet_v2", "model.weights=random", "dataset=synthetic", "dataset.images=16"],
}
LONGEST_S = 240
_MARK = "EDLAB_FAULT_POINT"
_FORK = multiprocessing.get_context("fork")


class ForkedCommand:
    """`edlab WORDS` forked from this process, which has already imported the libraries: it saves seconds per start.

    It has the parts of `subprocess.Popen` that are needed here.
    """

    def __init__(self, words: list[str], folder: Path, environment: dict[str, str], stdin: int, output: int) -> None:
        self._process = _FORK.Process(target=forked.run_edlab, args=(words, folder, environment, stdin, output, output))
        self._process.start()
        assert self._process.pid
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float) -> int:
        """The exit code. Raises `TimeoutError`."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise TimeoutError(f"edlab did not end within {timeout:g} s")
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


Command = ForkedCommand | subprocess.Popen[bytes]


@dataclass
class World:
    """Everything that one test point uses."""

    folder: Path
    words: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    board: LoopbackBoard | None = None  # where the agent is reached over ssh
    sent_away: list[Path] = field(default_factory=list)  # folders of sweeps that were recorded on a tracking server
    _started: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in ("work", "cache", "tmp", "locks"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("EDLAB_", "MLFLOW_"))}
        self.environment = {
            **clean,
            "EDLAB_CACHE": str(self.folder / "cache"),
            "EDLAB_LOCK_DIR": str(self.folder / "locks"),
            "TMPDIR": str(self.folder / "tmp"),
            "COLUMNS": "200",
            _MARK: self.folder.name,
            **self.environment,
        }

    @property
    def work(self) -> Path:
        """The user's current folder."""
        return self.folder / "work"

    @property
    def output(self) -> Path:
        """What all commands printed."""
        return self.folder / "output.txt"

    def start(self, *words: str, terminal: int | None = None) -> ForkedCommand:
        """Start the sweep, or another command; its output goes to a file, or to a terminal."""
        with open(self.output, "ab") as output, open(os.devnull, "rb") as nothing:
            stdin = nothing.fileno() if terminal is None else terminal
            out = output.fileno() if terminal is None else terminal
            command = ForkedCommand(list(words or ("run", *self.words)), self.work, self.environment, stdin, out)
        self._started.append(command.pid)
        return command

    def execute(self, **environment: str) -> subprocess.Popen[bytes]:
        """Start the sweep in a new interpreter, with more environment variables."""
        with open(self.output, "ab") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "edlab.cli", "run", *self.words],
                cwd=self.work, env={**self.environment, **environment}, stdin=subprocess.DEVNULL,
                stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip

    def run(self, *words: str) -> int:
        """Like `start`, but waits for the end; the exit code. Raises `TimeoutError`."""
        return self.start(*words).wait(timeout=LONGEST_S)

    def processes(self) -> list[psutil.Process]:
        """The processes of this point that are still running."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                ours = process.pid in self._started or process.environ().get(_MARK) == self.folder.name
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found + (self.board.processes() if self.board else [])

    def sweeps(self) -> list[Path]:
        """The folders of the sweeps, oldest first."""
        return sorted((self.work / "mlruns" / "sweeps").glob("*"))


@dataclass(frozen=True)
class Template:
    """A world with a finished sweep of a kind, to be copied for each point."""

    kind: str
    folder: Path
    expected: list[RunRecord]
    life_s: float  # how long the sweep takes with everything cached

    def copy(self, folder: Path) -> World:
        shutil.copytree(self.folder, folder, symlinks=True)
        world = World(folder, list(KINDS[self.kind]))
        world.output.unlink(missing_ok=True)
        return world


def make_template(kind: str, folder: Path) -> Template:
    """Run the sweep twice; over ssh it must have the same results."""
    world = World(folder, list(KINDS[kind]))
    assert world.run() == 0, world.output.read_text()
    start = time.monotonic()
    assert world.run() == 0, world.output.read_text()
    return Template(kind, folder, read_records(world.sweeps()[-1]), time.monotonic() - start)


def command_line(process: psutil.Process) -> str:
    return " ".join(process.cmdline())


def environment_of(world: World, **changes: str) -> dict[str, str]:
    """The environment of a helper that does not belong to the point: it is not searched for orphans."""
    return {**{name: value for name, value in world.environment.items() if name != _MARK}, **changes}
