"""The agent under the oldest interpreter that can be had: it must run wherever a board has Python 3.7 and numpy."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from edlab import devices
from edlab.agent import messages
from edlab.agent.messages import Setting
from edlab.cache import Cache
from edlab.config import DeviceConfig
from edlab.devices import Pool, agent_zip
from edlab.openssh import CONFIG_VARIABLE
from edlab.testing import sshd

_OLDEST = (3, 7)

RUNTIME = """
from . import base

class Mean(base.Request):
    def set_input(self, tensor):
        self.tensor = tensor

    def execute(self):
        self.result = self.tensor.mean(axis=(2, 3))

    def get_outputs(self):
        return [self.result]

class Runtime(base.Runtime):
    @staticmethod
    def version():
        return "0.1"

    def load(self):
        pass

    def compile(self, in_flight, batch):
        image = base.TensorSpec("image", (None, 3, 2, 2), "float32")
        mean = base.TensorSpec("mean", (None, 3), "float32")
        return base.Compiled([Mean() for _ in range(in_flight)], [image], [mean], {})
"""


def interpreters() -> list[tuple[tuple[int, int], str]]:
    """(version, path) of what is on PATH and in pyenv, oldest first, from the oldest that the agent supports."""
    folders = [*map(Path, os.environ["PATH"].split(os.pathsep)), *Path("~/.pyenv/versions").expanduser().glob("*/bin")]
    found = {}
    for path in (path for folder in folders if folder.is_dir() for path in folder.glob("python3.*")):
        if named := re.fullmatch(r"python3\.(\d+)", path.name):
            version = (3, int(named.group(1)))
            if version >= _OLDEST and _runs(path, "import ssl"):
                found.setdefault(version, str(path))
    return sorted(found.items())


def _runs(python: Path | str, code: str) -> bool:
    return subprocess.run([str(python), "-c", code], capture_output=True).returncode == 0


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The oldest with numpy, which is installed into an environment of its own where it is not there."""
    for _, candidate in interpreters():
        if _runs(candidate, "import numpy"):
            return candidate
        folder = tmp_path_factory.mktemp("oldest") / "venv"
        installed = str(folder / "bin" / "python")
        pip = [installed, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary=:all:"]
        commands = [[candidate, "-m", "venv", str(folder)], [*pip, "numpy"]]
        if all(subprocess.run(command, capture_output=True).returncode == 0 for command in commands):
            return installed
    pytest.skip("there is no Python with numpy, nor one that numpy can be installed for")


@pytest.fixture
def device(python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DeviceConfig:
    """This machine by that interpreter, with a runtime that needs numpy alone."""
    own_sources = agent_zip._own_sources
    extra = {"edlab/agent/runtimes/mean.py": RUNTIME.encode()}
    monkeypatch.setattr(agent_zip, "_own_sources", lambda: {**own_sources(), **extra})
    return DeviceConfig(name="old", python=python)


def test_the_agent_measures_under_the_oldest_python(
    python: str, device: DeviceConfig, cache: Cache, tmp_path: Path
) -> None:
    images = tmp_path / "images.npy"
    np.save(images, np.arange(8 * 2 * 2 * 3, dtype=np.uint8).reshape(8, 2, 2, 3))
    pool = Pool(str(images), list(range(8)))
    with devices.connect(device, cache) as session:
        ran = subprocess.run(
            [python, "-c", "import platform; print(platform.python_version())"], capture_output=True, text=True
        )
        assert session.hello().python == ran.stdout.strip()
        session.available()
        session.sensors()
        session.state()
        session.call(messages.OPEN, messages.Open("mean", [str(images)], {}, 1, [0, 0, 0], [1, 1, 1], "NCHW"))
        latency = messages.Latency(pool, 20, 0.1, 5, windows=10, max_interval=1.0, out=str(tmp_path / "ns.npy"))
        session.measure(messages.LATENCY, latency)
        session.measure(messages.HOST_WORK, messages.HostWork(pool))
        search = messages.Throughput(
            pool, seconds=0.1, max_seconds=20, max_batch=64, max_in_flight=16, gain=0.03, trial_seconds=0.05
        )
        report = session.measure(messages.THROUGHPUT, search)
        best = Setting(report.batch, report.in_flight)
        assert session.measure(messages.THROUGHPUT, search._replace(setting=best)).batch == best.batch
        session.predict(pool, tmp_path / "means.npy")
    assert np.load(tmp_path / "ns.npy").shape[1] == 3
    np.testing.assert_allclose(np.load(tmp_path / "means.npy"), np.load(images).mean(axis=(1, 2)) / 255, rtol=1e-5)


@pytest.mark.skipif(bool(sshd.missing()), reason=f"not installed: {sshd.missing()}")
def test_a_board_with_the_oldest_python_keeps_files(
    python: str, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = tmp_path / "model"
    sent.write_bytes(bytes(100_000))
    with sshd.LoopbackBoard(tmp_path / "board") as board:
        monkeypatch.setenv(CONFIG_VARIABLE, str(board.config))
        with devices.connect(DeviceConfig(name="old", address=board.host, python=python), cache) as session:
            session.lock()
            session.get(session.put([sent])[0], tmp_path / "back")
            assert session.outbox(tmp_path / "back").startswith(str(board.home))
    assert (tmp_path / "back").read_bytes() == sent.read_bytes()
