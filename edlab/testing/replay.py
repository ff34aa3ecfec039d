"""A device that answers from a recording, so that a whole sweep can be tested without its hardware.

Record a run, with the real device behind it:

    edlab run device=jetson device.address=nano device.kind=record device.env.EDLAB_RECORDING=nano.rec

Then, anywhere, without it:

    edlab run device=jetson device.kind=replay device.env.EDLAB_RECORDING=nano.rec

All answers of the device are replayed: metrics, outputs, sensor readings and its clock. The device's own runtime is not
needed, and is not imported. The metrics are `emulated_*`, because they are not measured now. To record a kind of device
from another package, wrap the session that its `connect` returns: `recorded(session, folder)`.

A recording is a folder with one folder for each agent that was started. Its calls.jsonl has a line for each request in
order: method, params, and reply or error; files that the agent wrote are next to it. In params a file that was sent is
"file:<sha256>/<name>", one that was written is "out:<name>".
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from edlab import devices
from edlab.agent.errors import AgentError as RefusedError
from edlab.agent.messages import Machine, Method, Q, R, Sensors, encode
from edlab.agent.protocol import serve
from edlab.cache import sha256_files
from edlab.config import DeviceConfig
from edlab.devices import AgentSession, Device
from edlab.devices.session import OnProgress
from edlab.errors import AgentError, ConfigError, StorageError

VARIABLE = "EDLAB_RECORDING"  # in device.env: the folder
_CALLS = "calls.jsonl"
_FILE, _OUT = "file:", "out:"
_USED = "replayed "
_EXIT_S = 5.0

Call = dict[str, Any]  # a line of calls.jsonl
Key = Callable[[dict[str, Any]], str]  # what two requests with the same answer have in common


_replayed: defaultdict[Path, list[str]] = defaultdict(list)  # in this process, by recording: the agents that were used


class RecordingDevice(Device):
    """The device itself, local or by ssh, whose answers are recorded."""

    def connect(self) -> contextlib.AbstractContextManager[AgentSession]:
        folder = _folder(self.config)
        env = {name: value for name, value in self.config.env.items() if name != VARIABLE}
        inner = devices.get(replace(self.config, kind="local", env=env), self.cache, self.modules)
        return self._recorded(inner, folder)

    @contextlib.contextmanager
    def _recorded(self, inner: Device, folder: Path) -> Iterator[AgentSession]:
        with inner.connect() as session:
            yield recorded(session, folder)


class ReplayDevice(Device):
    """A process on this machine instead of the agent: it reads the recording, and has no runtime."""

    def connect(self) -> AgentSession:
        folder = _folder(self.config)
        if not _sessions(folder):
            raise ConfigError(
                f"no recording of a device is found in {folder}",
                hint=f"record one with device.kind=record device.env.{VARIABLE}=FOLDER",
            )
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(folder), *_replayed[folder]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        return _ReplaySession(process, self.config)


def recorded(session: AgentSession, folder: Path) -> AgentSession:
    """The same session, which records in `folder` all requests and answers from now on."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(len(_sessions(folder)) + 1):
        with contextlib.suppress(FileExistsError):  # another process also records there
            place = folder / f"{number:04d}"
            place.mkdir()
            break
    session.__class__ = type("_Recorded", (_Recording, type(session)), {})  # for any kind of session
    assert isinstance(session, _Recording)
    session.start_recording(place)
    return session


class _Recording(AgentSession):
    """Forwards to a session, and records its requests and answers."""

    def start_recording(self, folder: Path) -> None:
        self._folder = folder
        self._names: dict[str, str] = {}  # paths on the target -> their names in the recording

    def put(self, files: Sequence[Path]) -> list[str]:
        paths = super().put(files)
        self._names |= dict(zip(paths, map(_name_of, files), strict=True))
        return paths

    def outbox(self, path: Path) -> str:
        remote = super().outbox(path)
        self._names[remote] = _OUT + path.name
        return remote

    def get(self, remote: str, to: Path) -> None:
        super().get(remote, to)
        if to.exists():
            kept = self._folder / f"{len(list(self._folder.iterdir())):04d}-{to.name}"
            shutil.copyfile(to, kept)
            self._note({"written": self._names[remote], "file": kept.name})

    def call(self, method: Method[Q, R], request: Q, *args: Any, **options: Any) -> R:
        call: Call = {"method": method.name, "params": _renamed(encode(request), self._names)}
        try:
            reply = super().call(method, request, *args, **options)
        except (AgentError, StorageError) as error:
            self._note({**call, "error": [error.message, error.hint]})
            raise
        self._note({**call, "reply": encode(reply)})
        return reply

    def _note(self, line: Call) -> None:
        with open(self._folder / _CALLS, "a") as file:
            file.write(json.dumps(line, default=lambda value: value.tolist()) + "\n")


class _ReplaySession(AgentSession):
    """Names files by their content, as in the recording: the replaying process does not need the files."""

    def put(self, files: Sequence[Path]) -> list[str]:
        return [_name_of(file) for file in files]

    def outbox(self, path: Path) -> str:
        return f"{_OUT}{path.resolve()}"

    def hello(self) -> Machine:
        machine = super().hello()
        real = f", of {machine.stand_in}" if machine.stand_in else ""
        return machine._replace(stand_in=f"a recording, {_folder(self._device).name}{real}")

    def sensors(self) -> Sensors:
        """The device's sensors, marked as from this recording, so that power/ treats them as those of the device."""
        found, stand_in = super().sensors(), self.hello().stand_in or ""
        named = [f"{stand_in}, of {each.stand_in}" if each.stand_in else stand_in for each in found.sensors]
        return found._replace(
            sensors=[each._replace(stand_in=name) for each, name in zip(found.sensors, named, strict=True)]
        )

    def lock(self, on_progress: OnProgress | None = None) -> None:
        """A recording has no machine that other runs could disturb."""

    def close(self, grace_s: float = _EXIT_S) -> None:
        super().close(grace_s)
        _replayed[_folder(self._device)] += re.findall(f"^{_USED}(.*)$", self.log, re.MULTILINE)


class _Replay:
    """Has each method of an agent that is in the recording; see `edlab.agent.protocol.serve`."""

    def __init__(self, folder: Path, used: Sequence[str]) -> None:
        """Agents of the recording that were not `used` yet are first: each repeat of a row is a different agent."""
        times = Counter(used)
        self._sessions = sorted(map(_Session, _sessions(folder)), key=lambda session: times[session.name])
        self._folder = folder
        self._outs: dict[str, Path] = {}  # where the host expects written files, by their name in the recording

    def __getattr__(self, method: str) -> Callable[[object, Any], Any]:
        return lambda progress, request: self._answer(method, encode(request))

    def close(self, progress: object, request: Any) -> dict[str, Any]:
        """Report which agent of the recording was used."""
        sys.stderr.write(f"{_USED}{self._sessions[0].name}\n")
        return {}

    def _answer(self, method: str, params: dict[str, Any]) -> Any:
        self._outs |= {f"{_OUT}{Path(text).name}": Path(text) for text in _texts(params, _OUT)}
        wanted = _renamed(params, {f"{_OUT}{path}": name for name, path in self._outs.items()})
        for key in (_exactly, _but_for_content):
            able = [session for session in self._sessions if session.has(method, wanted, key)]
            if able and (key is _exactly or len({_content(each.find(method, wanted, key)) for each in able}) == 1):
                self._sessions = able  # the following answers are from the same agent, if it is known
                return able[0].reply(method, wanted, key, self._outs)
        raise RefusedError(*self._refusal(method, wanted))

    def _refusal(self, method: str, wanted: dict[str, Any]) -> tuple[str, str]:
        calls = [call for session in self._sessions for call in session.calls(method)]
        if not calls:
            return (
                f"the recording {self._folder} has no '{method}'",
                "record again with this version of edlab, and the same overrides",
            )
        known = calls[0]["params"]
        other = [name for name, value in wanted.items() if known.get(name) != value]
        shown = ", ".join(f"{name}={json.dumps(wanted[name])[:200]}" for name in other) or "another of its files"
        first = ", ".join(f"{name}={json.dumps(known.get(name))[:200]}" for name in other)
        return (
            f"the recording {self._folder} has no '{method}' with {shown}",
            f"it has {first}: set the overrides that it was recorded with, or record again",
        )


class _Session:
    """The answers of one agent."""

    def __init__(self, place: Path) -> None:
        self.name = place.name
        self._place = place
        self._calls: list[Call] = []
        for line in (place / _CALLS).read_text().splitlines():
            entry = json.loads(line)
            if "method" in entry:
                self._calls.append({**entry, "written": {}})
            else:
                self._calls[-1]["written"][entry["written"]] = entry["file"]
        self._given: Counter[str] = Counter()  # how often each request was answered

    def calls(self, method: str) -> list[Call]:
        return [call for call in self._calls if call["method"] == method]

    def has(self, method: str, wanted: dict[str, Any], key: Key) -> bool:
        return any(key(call["params"]) == key(wanted) for call in self.calls(method))

    def find(self, method: str, wanted: dict[str, Any], key: Key) -> Call:
        """The next answer: those to this request in turn, and then the last one again."""
        same = [call for call in self.calls(method) if key(call["params"]) == key(wanted)]
        return same[min(self._given[f"{method} {key(wanted)}"], len(same) - 1)]

    def reply(self, method: str, wanted: dict[str, Any], key: Key, outs: dict[str, Path]) -> Any:
        """Return the answer, and write the files that were written with it."""
        call = self.find(method, wanted, key)
        self._given[f"{method} {key(wanted)}"] += 1
        if "error" in call:
            raise RefusedError(*call["error"])
        for name, file in call["written"].items():
            shutil.copyfile(self._place / file, outs[name])
        return call["reply"]


def _exactly(params: dict[str, Any]) -> str:
    return json.dumps(params, sort_keys=True)


def _but_for_content(params: dict[str, Any]) -> str:
    """A conversion on another processor may write other bytes to a file of the same name."""
    names = {_FILE + text: _FILE + text.rpartition("/")[2] for text in _texts(params, _FILE)}
    return _exactly(_renamed(params, names))


def _content(call: Call) -> str:
    return json.dumps(sorted(_texts(call["params"], _FILE)))


def _texts(value: Any, beginning: str) -> list[str]:
    """The texts in a message that begin with `beginning`, without it."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [text for item in value for text in _texts(item, beginning)]
    return [value.removeprefix(beginning)] if isinstance(value, str) and value.startswith(beginning) else []


def _renamed(value: Any, names: dict[str, str]) -> Any:
    """A message with the names of its files replaced."""
    if isinstance(value, dict):
        return {key: _renamed(item, names) for key, item in value.items()}
    if isinstance(value, list):
        return [_renamed(item, names) for item in value]
    return names.get(value, value) if isinstance(value, str) else value


def _name_of(file: Path) -> str:
    status = file.stat()
    return f"{_FILE}{_sha256(file, status.st_size, status.st_mtime_ns)}/{file.name}"


@cache
def _sha256(file: Path, size: int, changed_ns: int) -> str:
    """Read once per process: every phase names the images."""
    return sha256_files([file])


def _sessions(folder: Path) -> list[Path]:
    return sorted(calls.parent for calls in folder.glob(f"*/{_CALLS}"))


def _folder(device: DeviceConfig) -> Path:
    if not device.env.get(VARIABLE):
        raise ConfigError(
            f"device.kind={device.kind} needs the folder of a recording", hint=f"set device.env.{VARIABLE}=FOLDER"
        )
    return Path(device.env[VARIABLE]).expanduser().absolute()


if __name__ == "__main__":
    serve(lambda: _Replay(Path(sys.argv[1]), sys.argv[2:]), 0, 1)
