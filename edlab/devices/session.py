"""One conversation with an agent: requests out, replies and events in, and an end to it whatever happens."""

from __future__ import annotations

import contextlib
import dataclasses
import getpass
import itertools
import json
import os
import queue
import signal
import socket
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from edlab.agent import int8
from edlab.artifact import Artifact
from edlab.config import DeviceConfig, ThroughputConfig, WarmupConfig
from edlab.errors import AgentError, DeviceError, StorageError, UnsupportedError
from edlab.isolation import describe_exit
from edlab.source import Preprocessing

OnProgress = Callable[[str, float | None, str], None]  # (phase, fraction 0..1 or None where unknown, message)

SILENCE_S = 45.0  # a query may hold Python's lock in native code for half a minute, and with it the heartbeats
LOADING_SILENCE_S = 120.0  # importing and compiling may hold Python's lock, and so the heartbeats, in native code
STALL_S = 600.0
# TensorRT tries kernels for many minutes on a small board, and says nothing. Heartbeats go on meanwhile: its Python
# bindings let go of Python's lock (NVIDIA/TensorRT, python/src/infer/pyCore.cpp, build_serialized_network).
BUILD_S = 3600.0
_EXIT_S = 5.0
_LOCK = "machine"
_LONGEST_MESSAGE, _LONGEST_LINE = 1 << 24, 1 << 12  # bytes: what never ends its line must not fill the memory
_TAIL_LINES = 40
_PROBES = Path(int8.__file__).parent / "probes"


@dataclasses.dataclass(frozen=True)
class Pool:
    """The images that the queries of a measurement rotate over: rows of a uint8 npy file (N, H, W, 3)."""

    images: Path
    indices: Sequence[int]


@dataclasses.dataclass(frozen=True)
class Probe:
    """A power sensor of the target to read beside a phase: its name in `AgentSession.sensors`."""

    sensor: str
    interval_s: float
    samples_out: Path  # npy float64 (n, 2): t_ns and watts over the window, and one sample beyond either end


class AgentSession:
    """Speaks with the agent behind a process's stdin and stdout; as a context manager it ends the agent.

    This class is for an agent that sees the host's files. A device elsewhere overrides `put`, `get` and `outbox`.
    """

    def __init__(self, process: subprocess.Popen[bytes], device: DeviceConfig) -> None:
        """`process` runs the agent, with pipes, in a session of its own so that Ctrl-C reaches the host only."""
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
        """The last lines that the agent and its libraries wrote to stderr, and what else came with its replies."""
        return "\n".join(self._stderr)

    def call(
        self,
        method: str,
        params: Mapping[str, Any] | None = None,
        on_progress: OnProgress | None = None,
        timeout_s: float = STALL_S,
        silence_s: float = SILENCE_S,
    ) -> dict[str, Any]:
        """The result of one of the agent's methods.

        Raises `AgentError` with the agent's message where the method failed, `StorageError` where the target's disk
        takes no more; `DeviceError` where the agent has ended, gave not even a heartbeat for `silence_s`, or neither
        progress nor a result for `timeout_s`. After a `DeviceError` of these the agent is gone.
        """
        identity = next(self._ids)
        self._send({"id": identity, "method": method, "params": dict(params or {})})
        moved = self._last_heard = time.monotonic()
        while True:
            try:
                message = self._inbox.get(timeout=0.5)
            except queue.Empty:
                self.check_alive(method, moved, timeout_s, silence_s)
                continue
            if message is None:
                raise self.lost(f"the agent on {self._device.name} ended in '{method}' with {self._exit()}")
            if message.get("id") != identity:
                continue  # the rest of a call that the caller gave up
            moved = time.monotonic()
            if "event" in message:
                if on_progress:
                    on_progress(message["phase"], message["fraction"], message["message"])
            elif "error" in message:
                error = message["error"]
                kind = StorageError if error["type"] == StorageError.__name__ else AgentError
                raise kind(error["message"], hint=error["hint"], log=error["traceback"])
            else:
                result: dict[str, Any] = message["result"]
                return result

    def lock(self, on_progress: OnProgress | None = None) -> None:
        """Have the target for this session alone until the agent ends, whoever asks and from whichever folder.

        All of the machine: its processor, memory and heat serve every accelerator there. `on_progress` is told whom it
        waits for. Raises `AgentError` with that after `device.lock_timeout`.
        """
        who = {"holder": f"{_user()}@{socket.gethostname()}", "pid": os.getpid()}
        self.call("lock", {"name": _LOCK, **who, "timeout_s": self._device.lock_timeout}, on_progress)

    def put(self, files: Sequence[Path]) -> list[str]:
        """The paths on the target of files that lie here; there they lie beside one another."""
        return [str(file.resolve()) for file in files]

    def outbox(self, path: Path) -> str:
        """Where the agent may write what `get` will bring to `path`."""
        return str(path.resolve())

    def get(self, remote: str, to: Path) -> None:
        """Bring a file that the agent wrote to `to`; there already, where the agent sees the host's files."""

    def hello(self) -> dict[str, Any]:
        """Who answers, and on what: versions, processor, board, cores, memory."""
        return self.call("hello")

    def probe(self, runtimes: Sequence[str] | None = None) -> dict[str, dict[str, str]]:
        """By runtime its {"version"}, or the {"reason", "hint"} why it cannot run on this device. None: all."""
        params = {"wanted": None if runtimes is None else list(runtimes), "options": dict(self._device.options)}
        return self.call("probe", params, silence_s=LOADING_SILENCE_S)

    def sensors(self) -> list[dict[str, Any]]:
        """The power sensors that can be read, the one to prefer first: name, kind, boundary, lag_s, stand_in.

        See `edlab.agent.sensors.describe`.
        """
        found: list[dict[str, Any]] = self.call("sensors")["sensors"]
        return found

    def unusable_sensors(self) -> list[dict[str, str]]:
        """The power sensors that the target has and that cannot be read: name, kind, reason, hint."""
        found: list[dict[str, str]] = self.call("sensors")["unusable"]
        return found

    def state(self) -> dict[str, Any]:
        """Clocks, governor, temperatures, load and peak memory now (`edlab.agent.system.state`)."""
        return self.call("state")

    def set_power_mode(self, mode: str) -> dict[str, Any]:
        """Put a Jetson into a power mode, by name or number, until the agent ends; what was before is then restored.

        Gives `edlab.agent.jetson.state`. Raises `AgentError` where the board refuses it, or would reboot for it.
        """
        return self.call("set_power_mode", {"mode": mode})

    def open(self, artifact: Artifact, preprocessing: Preprocessing, device: DeviceConfig) -> dict[str, Any]:
        """Load and compile an artifact with the runtime that `device` has for its format, on all of the agent's cores.

        Gives runtime, version, load_ms, compile_ms, inputs and outputs (as `TensorSpec`), the options in force, and
        for an int8 artifact `int8`, what is known of the kernels that run it (`edlab.agent.int8.choose`), else None.
        Raises `UnsupportedError` where the device has no runtime for it.
        """
        if artifact.format not in device.runtimes:
            raise UnsupportedError(
                f"{device.name} has no runtime for {artifact.format} files",
                hint=f"it runs {', '.join(device.runtimes)}",
            )
        runtime = device.runtimes[artifact.format]
        params = {
            "runtime": runtime,
            "files": self.put(artifact.files),
            "options": dict(device.options.get(runtime, {})),
            "threads": len(self.hello()["cpus"]),
            "mean": list(preprocessing.mean),
            "std": list(preprocessing.std),
            "layout": artifact.layout,
            "channels": preprocessing.channels,
        }
        if artifact.precision.startswith("int8") and artifact.format in int8.FILES:
            name, layout = int8.FILES[artifact.format]
            params |= {"int8_probe": self.put([_PROBES / name])[0], "int8_probe_layout": layout}
        return self.call("open", params, silence_s=LOADING_SILENCE_S)

    def identity(self, runtime: str, options: Mapping[str, Any]) -> dict[str, str]:
        """What a file that `build` makes here depends on beside its input: versions, the processor, the board."""
        return self.call("identity", {"runtime": runtime, "options": dict(options)}, silence_s=LOADING_SILENCE_S)

    def build(
        self,
        runtime: str,
        files: Sequence[Path],
        out: Path,
        *,
        options: Mapping[str, Any],
        calibration: Mapping[str, Any] | None = None,
        timeout_s: float = BUILD_S,
        on_progress: OnProgress | None = None,
    ) -> dict[str, Any]:
        """Have the target's own tool make of a portable model what `runtime` opens, and bring it to `out`.

        `calibration` is what `CalibrationData.describe` gives: `images` is a path here. Gives seconds. Raises
        `DeviceError` after `timeout_s` without a result or, while it calibrates, progress.
        """
        if calibration is not None:
            calibration = {**calibration, "images": self.put([Path(calibration["images"])])[0]}
        remote = self.outbox(out)
        params = {
            "runtime": runtime,
            "files": self.put(files),
            "out": remote,
            "options": dict(options),
            "calibration": calibration,
        }
        result = self.call("build", params, on_progress, timeout_s=timeout_s, silence_s=LOADING_SILENCE_S)
        self.get(remote, out)
        return result

    def predict(
        self,
        images: Path,
        indices: Sequence[int],
        out: Path,
        *,
        on_progress: OnProgress | None = None,
    ) -> dict[str, Any]:
        """Write to `out` (npy) the float32 logits (N, classes) of images[indices].

        Gives images, seconds, in_flight, activity and the options in force.
        """
        params = {**self._pool(Pool(images, indices)), "out": self.outbox(out)}
        result = self.call("predict", params, on_progress, silence_s=LOADING_SILENCE_S)
        self.get(params["out"], out)
        return result

    def warmup(self, pool: Pool, config: WarmupConfig, on_progress: OnProgress | None = None) -> dict[str, Any]:
        """Gives first_inference_ms, queries, seconds, settled and activity."""
        return self.call("warmup", {**self._pool(pool), **dataclasses.asdict(config)}, on_progress)

    def latency(
        self,
        pool: Pool,
        out: Path,
        *,
        queries: int,
        seconds: float,
        max_seconds: float,
        windows: int = 10,
        max_interval: float = 1.0,
        on_progress: OnProgress | None = None,
    ) -> dict[str, Any]:
        """Write to `out` (npy) int64 ns (N, 3): input copy, execute, output copy; a row's sum is the query's latency.

        Goes on until both minima hold and the mean's interval over `windows` is at most `max_interval` of it wide.
        Gives queries, seconds, truncated (`max_seconds` came before the two minima), activity
        (`edlab.agent.observer.Activity`), and the agent's peak_memory_mb so far.
        """
        params = {**self._pool(pool), "queries": queries, "seconds": seconds, "max_seconds": max_seconds}
        params |= {"windows": windows, "max_interval": max_interval, "out": self.outbox(out)}
        result = self.call("latency", params, on_progress)
        self.get(params["out"], out)
        return result

    def stages(self, pool: Pool, on_progress: OnProgress | None = None) -> dict[str, Any]:
        """Gives preprocess_ms and postprocess_ms, means over `queries`."""
        return self.call("stages", self._pool(pool), on_progress)

    def throughput(
        self,
        pool: Pool,
        config: ThroughputConfig,
        *,
        seconds: float,
        max_seconds: float,
        setting: tuple[int, int] | None = None,
        probe: Probe | None = None,
        on_progress: OnProgress | None = None,
    ) -> dict[str, Any]:
        """Search for the best setting and measure it over `seconds`, both within `max_seconds`.

        With `setting`, (batch, in flight), that one is measured and nothing is searched.
        Gives throughput_ips, batch1_ips (None where it was not measured: batch1_note says why), driver_limit_ips
        (None where completions are too few for it to matter), batch, in_flight, completed, ips_by_second, seconds,
        truncated (`max_seconds` cut the window short), search_truncated (it ended the search or cut a trial short),
        activity (of the window), search_activity (None: nothing was searched), start_ns, end_ns, search (the trials),
        options, and of a probe its readings: failed, error.
        """
        limits = {"seconds": seconds, "max_seconds": max_seconds, "setting": setting}
        params = {**self._pool(pool), **dataclasses.asdict(config), **limits, **self._probe(probe)}
        result = self.call("throughput", params, on_progress, silence_s=LOADING_SILENCE_S)
        self._get_samples(params, probe)
        return result

    def idle(
        self, *, seconds: float, probe: Probe | None = None, on_progress: OnProgress | None = None
    ) -> dict[str, Any]:
        """Gives start_ns, end_ns, activity (how busy the cores were with something else), and readings of a probe."""
        params = {"seconds": seconds, **self._probe(probe)}
        result = self.call("idle", params, on_progress)
        self._get_samples(params, probe)
        return result

    def close(self, grace_s: float = _EXIT_S) -> None:
        """Let the agent end by itself within `grace_s`, then end its process group."""
        assert self.process.stdin is not None
        with self._writing, contextlib.suppress(BrokenPipeError):  # it has ended already, with something unsent
            self.process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=grace_s)
        self._kill()
        for thread in self._threads:
            thread.join(timeout=_EXIT_S)

    def _pool(self, pool: Pool) -> dict[str, Any]:
        return {"images": self.put([pool.images])[0], "indices": [int(index) for index in pool.indices]}

    def _probe(self, probe: Probe | None) -> dict[str, Any]:
        if probe is None:
            return {}
        samples = self.outbox(probe.samples_out)
        return {"sensor": probe.sensor, "interval_s": probe.interval_s, "samples_out": samples}

    def _get_samples(self, params: Mapping[str, Any], probe: Probe | None) -> None:
        if probe is not None:
            self.get(params["samples_out"], probe.samples_out)

    def _send(self, request: dict[str, Any]) -> None:
        try:
            self._write(request)
        except (BrokenPipeError, ValueError):  # ValueError: closed on this side
            raise self.lost(f"the agent on {self._device.name} has ended with {self._exit()}") from None

    def _write(self, message: dict[str, Any]) -> None:
        """Write one line, whichever thread it comes from. Raises `ValueError` once the session is closed."""
        assert self.process.stdin is not None
        with self._writing:
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            self.process.stdin.flush()

    def check_alive(self, method: str, moved: float, timeout_s: float, silence_s: float) -> None:
        """Raise `DeviceError`, and end the agent, where it must be taken for dead; called twice a second in a call."""
        now = time.monotonic()
        if now - self._last_heard > silence_s:
            raise self.lost(f"the agent on {self._device.name} has been silent for {silence_s:g} s in '{method}'")
        if now - moved > timeout_s:
            raise self.lost(f"'{method}' on {self._device.name} made no progress for {timeout_s:g} s")

    def lost(self, message: str, hint: str = "its log's tail says what it did last") -> DeviceError:
        """End the agent; the error to raise, with what it said last."""
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
            if message is None:  # a login shell that greets
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
    """The agent's message in a line of its stdout; None where the line is someone else's."""
    try:
        message = json.loads(line)
    except ValueError:
        return None
    return message if isinstance(message, dict) and _is_complete(message) else None


def _is_complete(message: dict[str, Any]) -> bool:
    """Whether it has all that `AgentSession` reads of a message of its kind: see agent/protocol.py."""
    if message.get("event") == "heartbeat":
        return isinstance(message.get("pid"), int)
    if "event" in message:
        return message.keys() >= {"phase", "fraction", "message"}
    if "error" in message:
        error = message["error"]
        return isinstance(error, dict) and error.keys() >= {"type", "message", "hint", "traceback"}
    return isinstance(message.get("result"), dict)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return str(os.getuid())
