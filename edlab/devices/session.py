"""A session with an agent: requests out, replies and events in; the agent is always ended."""

from __future__ import annotations

import contextlib
import functools
import getpass
import itertools
import json
import os
import queue
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
from pydantic import TypeAdapter, ValidationError

from edlab.agent import int8, messages
from edlab.agent.messages import (
    Availability,
    Calibration,
    KnobSet,
    Machine,
    Method,
    Nothing,
    Opened,
    Pool,
    PredictReport,
    Q,
    R,
    Sensors,
    State,
    encode,
)
from edlab.artifact import Artifact
from edlab.config import DeviceConfig
from edlab.devices.arrays import read_array
from edlab.errors import AgentError, BusyError, DeviceError, EdlabError, StorageError, UnsupportedError
from edlab.isolation import describe_exit
from edlab.power import Series
from edlab.source import ArrayInput, OutputReader, Preprocessing, normalisation

OnProgress = Callable[[str, float | None, str], None]  # (phase, fraction 0..1 or None if unknown, message)

SILENCE_S = 45.0  # a query may hold Python's lock in native code for half a minute, and block the heartbeats
LOADING_SILENCE_S = 120.0  # importing and compiling may hold Python's lock in native code, and block the heartbeats
STALL_S = 600.0
# TensorRT tries kernels for many minutes on a small board, without any output. Heartbeats continue: its Python bindings
# release Python's lock (NVIDIA/TensorRT, python/src/infer/pyCore.cpp, build_serialized_network).
BUILD_S = 3600.0
# The methods that import a runtime, or compile a model.
_LOADING = {"available", "identify", "build", "open", "predict", "throughput", "profile"}
_EXIT_S = 5.0
_LOCK = "machine"
_KINDS: tuple[type[EdlabError], ...] = (StorageError, BusyError)  # of the agent's errors, other than `AgentError`
_LONGEST_MESSAGE, _LONGEST_LINE = 1 << 24, 1 << 12  # bytes: a line that never ends must not fill the memory
_TAIL_LINES = 40
_PLAIN = OutputReader()
_PROBES = Path(int8.__file__).parent / "probes"


class AgentSession:
    """Communicates with the agent by a process's stdin and stdout; as a context manager it ends the agent.

    This class is for an agent that can read the host's files. A remote device overrides `put`, `get` and `outbox`.
    """

    def __init__(self, process: subprocess.Popen[bytes], device: DeviceConfig) -> None:
        """`process` runs the agent, with pipes, in its own session, so that Ctrl-C reaches only the host."""
        self.process = process
        self._device = device
        self._writing = threading.Lock()
        self._ids = itertools.count(1)
        self._inbox: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._stderr: deque[str] = deque(maxlen=_TAIL_LINES)
        self._last_heard = time.monotonic()
        self._agent_pid: int | None = None  # on the target
        assert process.stdout is not None
        assert process.stderr is not None
        self._threads = [
            threading.Thread(target=self._read, args=(process.stdout,), daemon=True),
            threading.Thread(target=self._read_stderr, args=(process.stderr,), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(grace_s=_EXIT_S if kind is None else 0.0)

    @property
    def log(self) -> str:
        """The last lines that the agent and its libraries wrote to stderr, and other output between its replies."""
        return "\n".join(self._stderr)

    def call(
        self,
        method: Method[Q, R],
        request: Q,
        on_progress: OnProgress | None = None,
        *,
        phase: str = "",
        timeout_s: float = STALL_S,
        silence_s: float | None = None,
    ) -> R:
        """The reply of one of the agent's methods; `on_progress` is called with `phase`, else with the method's name.

        Raises `AgentError` with the agent's message if the method failed, `StorageError` if the target's disk is full
        or read-only; `DeviceError` if the agent has ended, was silent for `silence_s` without even a heartbeat (None:
        the default for the method), sent neither progress nor a reply for `timeout_s`, or sent an invalid reply. After
        a `DeviceError` the agent is gone.
        """
        identity, name = next(self._ids), method.name
        if silence_s is None:
            silence_s = LOADING_SILENCE_S if name in _LOADING else SILENCE_S
        self._send({"id": identity, "method": name, "params": encode(request)})
        moved = self._last_heard = time.monotonic()
        while True:
            try:
                message = self._inbox.get(timeout=0.5)
            except queue.Empty:
                self.check_alive(name, moved, timeout_s, silence_s)
                continue
            if message is None:
                raise self.lost(f"the agent on {self._device.name} exited during '{name}': {self._exit()}")
            if message.get("id") != identity:
                continue  # the rest of an abandoned call
            moved = time.monotonic()
            if "event" in message:
                if on_progress:
                    on_progress(phase or name, message["fraction"], message["message"])
            elif "error" in message:
                error = message["error"]
                kind = next((kind for kind in _KINDS if kind.__name__ == error["type"]), AgentError)
                raise kind(error["message"], hint=error["hint"], log=error["traceback"])
            else:
                return self._reply(method, message["result"])

    def _reply(self, method: Method[Q, R], result: Any) -> R:
        try:
            reply: R = _replies(method).validate_python(result)
            return reply
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the whole"
            raise self.lost(
                f"the reply to '{method.name}' from {self._device.name} is not valid: {where}: {first['msg']}",
                hint="host and agent must have the same version of edlab: remove the agent's folder on the target",
            ) from error

    def lock(self, on_progress: OnProgress | None = None) -> None:
        """Lock the target for this session until the agent ends, against any user and any folder.

        The lock is for the entire machine: every accelerator there shares its processor, memory and heat. `on_progress`
        shows which run it waits for. Raises `BusyError` with that after `device.lock_timeout`.
        """
        holder = f"{_user()}@{socket.gethostname()}"
        request = messages.Lock(_LOCK, holder, os.getpid(), self._device.lock_timeout)
        self.call(messages.LOCK, request, on_progress, phase="deploy")

    def put(self, files: Sequence[Path]) -> list[str]:
        """The paths on the target of files of this machine; there they are in one folder."""
        return [str(file.resolve()) for file in files]

    def outbox(self, path: Path) -> str:
        """Where the agent may write a file that `get` will copy to `path`."""
        return str(path.resolve())

    def get(self, remote: str, to: Path) -> None:
        """Copy a file that the agent wrote to `to`; it is already there if the agent can write the host's files."""

    def hello(self) -> Machine:
        """The agent that answers, and its machine."""
        return self.call(messages.HELLO, Nothing())

    def available(self, runtimes: Sequence[str] | None = None) -> dict[str, Availability]:
        """For each runtime whether it can run on this device, or why not. None: all runtimes."""
        options = {name: dict(each) for name, each in self._device.options.items()}
        request = messages.Available(None if runtimes is None else list(runtimes), options)
        return self.call(messages.AVAILABLE, request).found

    def sensors(self) -> Sensors:
        """The target's power sensors: the readable ones, the preferred one first, and the unusable ones."""
        return self.call(messages.SENSORS, Nothing())

    def clock(self) -> int:
        """The agent's clock now, ns, which the phases and the sensors use."""
        return self.call(messages.CLOCK, Nothing()).t_ns

    def record_start(self, sensor: str, interval_s: float) -> None:
        """Read a sensor of `sensors` about every `interval_s` from now on. Raises `AgentError` if it is unknown."""
        self.call(messages.RECORD_START, messages.RecordStart(sensor, interval_s))

    def record_stop(self, sensor: str) -> None:
        """Stop reading it."""
        self.call(messages.RECORD_STOP, messages.RecordStop(sensor))

    def record_series(self, sensor: str, start_ns: int, end_ns: int) -> Series:
        """The readings in a span of the agent's clock, and one sample beyond either end."""
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder, "samples.npy")
            request = messages.RecordSeries(sensor, start_ns, end_ns, str(out))
            readings = self.measure(messages.RECORD_SERIES, request)
            samples = read_array(out, 2)
        return Series(samples[:, 0].astype(np.int64), samples[:, 1], readings.failed, readings.error)

    def state(self) -> State:
        """Clocks, governor, temperatures, load and peak memory now."""
        return self.call(messages.STATE, Nothing())

    def set_knob(self, name: str, value: str) -> KnobSet:
        """Set a knob of the target until the agent ends, which restores the previous value.

        Raises `AgentError` if the target has no such knob, or cannot set it to that value now.
        """
        return self.call(messages.SET_KNOB, messages.SetKnob(name, value))

    def open(
        self,
        artifact: Artifact,
        preprocessing: Preprocessing | ArrayInput,
        device: DeviceConfig,
        task: str = "classification",
        reader: OutputReader = _PLAIN,
    ) -> Opened:
        """Load and compile an artifact with the runtime of `device` for its format, on all of the agent's cores.

        The agent's `task` reads its outputs. Raises `UnsupportedError` if the device has no runtime for it.
        """
        if artifact.format not in device.runtimes:
            raise UnsupportedError(
                f"{device.name} has no runtime for {artifact.format} files",
                hint=f"it supports {', '.join(device.runtimes)}",
            )
        runtime = device.runtimes[artifact.format]
        request = messages.Open(
            runtime=runtime,
            files=self.put(artifact.files),
            options=dict(device.options.get(runtime, {})),
            threads=len(self.hello().cpus),
            layout=artifact.layout,
            **normalisation(preprocessing),
            task=task,
            task_options=reader.options,
            task_files=dict(zip(reader.files, self.put(list(reader.files.values())), strict=True)),
        )
        if artifact.precision.startswith("int8") and artifact.format in int8.FILES:
            name, layout = int8.FILES[artifact.format]
            request = request._replace(int8_probe=self.put([_PROBES / name])[0], int8_probe_layout=layout)
        return self.call(messages.OPEN, request)

    def identity(self, toolchain: str, options: Mapping[str, Any]) -> dict[str, str]:
        """What a file that `build` makes there depends on besides its input: versions, the processor, the board."""
        return self.call(messages.IDENTIFY, messages.Identify(toolchain, dict(options))).versions

    def build(
        self,
        toolchain: str,
        files: Sequence[Path],
        out: Path,
        *,
        options: Mapping[str, Any],
        calibration: Calibration | None = None,
        timeout_s: float = BUILD_S,
        on_progress: OnProgress | None = None,
    ) -> float:
        """Build `out` from these files with a toolchain of the agent, and fetch it.

        `calibration` names an npy file on this machine. Returns the seconds that it took. Raises `DeviceError` after
        `timeout_s` without a result or, while it calibrates, without progress.
        """
        if calibration is not None:
            calibration = calibration._replace(images=self.put([Path(calibration.images)])[0])
        request = messages.Build(toolchain, self.put(files), self.outbox(out), dict(options), calibration)
        built = self.call(messages.BUILD, request, on_progress, timeout_s=timeout_s)
        self.get(request.out, out)
        return built.seconds

    def predict(self, pool: Pool, out: Path, on_progress: OnProgress | None = None) -> PredictReport:
        """Write the task's results for the pool's images to `out` (npy), float32 (N, ...), in order."""
        return self.measure(messages.PREDICT, messages.Predict(pool, str(out)), on_progress)

    def measure(self, method: Method[Q, R], request: Q, on_progress: OnProgress | None = None) -> R:
        """`call` with paths of this machine: the images of a `pool` are sent, and `out` is fetched."""
        sent: Any = request
        pool: Pool | None = getattr(request, "pool", None)
        if pool is not None:
            sent = sent._replace(pool=Pool(self.put([Path(pool.images)])[0], list(pool.indices)))
        out: str | None = getattr(request, "out", None)
        if out is None:
            return self.call(method, sent, on_progress)
        remote = self.outbox(Path(out))
        reply = self.call(method, sent._replace(out=remote), on_progress)
        self.get(remote, Path(out))
        return reply

    def close(self, grace_s: float = _EXIT_S) -> None:
        """Let the agent end by itself within `grace_s`, then end its process group."""
        assert self.process.stdin is not None
        with self._writing, contextlib.suppress(BrokenPipeError):  # it has already ended, with unsent data
            self.process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=grace_s)
        self._kill()
        for thread in self._threads:
            thread.join(timeout=_EXIT_S)

    def _send(self, request: dict[str, Any]) -> None:
        try:
            self._write(request)
        except (BrokenPipeError, ValueError):  # ValueError: this side is closed
            raise self.lost(f"the agent on {self._device.name} has exited: {self._exit()}") from None

    def _write(self, message: dict[str, Any]) -> None:
        """Write one line, from any thread. Raises `ValueError` once the session is closed."""
        assert self.process.stdin is not None
        with self._writing:
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            self.process.stdin.flush()

    def check_alive(self, method: str, moved: float, timeout_s: float, silence_s: float) -> None:
        """Raise `DeviceError`, and end the agent, if it must be considered dead; called twice a second in a call."""
        now = time.monotonic()
        if now - self._last_heard > silence_s:
            raise self.lost(f"the agent on {self._device.name} has been silent for {silence_s:g} s in '{method}'")
        if now - moved > timeout_s:
            raise self.lost(f"'{method}' on {self._device.name} made no progress for {timeout_s:g} s")

    def lost(self, message: str, hint: str = "the end of its log shows what it did last") -> DeviceError:
        """End the agent, and return the error to raise, with its last output."""
        self._kill()
        for thread in self._threads:
            thread.join(timeout=_EXIT_S)
        return DeviceError(message, hint=hint, log=self.log)

    def _exit(self) -> str:
        try:
            return describe_exit(self.process.wait(timeout=_EXIT_S))
        except subprocess.TimeoutExpired:
            return "its output closed"

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def _read(self, stream: IO[bytes]) -> None:
        for line in iter(lambda: stream.readline(_LONGEST_MESSAGE), b""):
            message = _message(line)
            if message is None:  # the greeting of a login shell
                self._stderr.append("(stdout) " + line[:_LONGEST_LINE].decode(errors="replace").rstrip())
                continue
            self._last_heard = time.monotonic()
            if message.get("event") == "heartbeat":
                self._agent_pid = message["pid"]
            else:
                self._inbox.put(message)
        self._inbox.put(None)

    def _read_stderr(self, stream: IO[bytes]) -> None:
        for line in iter(lambda: stream.readline(_LONGEST_LINE), b""):
            self._stderr.append(line.decode(errors="replace").rstrip())


def _message(line: bytes) -> dict[str, Any] | None:
    """The agent's message in a line of its stdout; None if the line is other output."""
    try:
        message = json.loads(line)
    except ValueError:
        return None
    return message if isinstance(message, dict) and _is_complete(message) else None


def _is_complete(message: dict[str, Any]) -> bool:
    """Whether it has all fields that `AgentSession` reads in a message of its kind: see agent/protocol.py."""
    if message.get("event") == "heartbeat":
        return isinstance(message.get("pid"), int)
    if "event" in message:
        return message.keys() >= {"fraction", "message"}
    if "error" in message:
        error = message["error"]
        return isinstance(error, dict) and error.keys() >= {"type", "message", "hint", "traceback"}
    return isinstance(message.get("result"), dict)


@functools.cache
def _replies(method: Method[Any, R]) -> TypeAdapter[R]:
    """The validator for the replies of a method, cached: creating one takes longer than a call of an agent."""
    return TypeAdapter(method.reply)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # the user of a container may have no name
        return str(os.getuid())
