"""Agents over the real OpenSSH client and a real sshd on loopback, and what goes wrong on such a link."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from relay import Relay
from test_session import gone, wait_until
from workplace import Workplace

from edlab import devices
from edlab.agent import messages
from edlab.agent.locks import FOLDER_VARIABLE
from edlab.agent.messages import Availability, Method, Q, R
from edlab.cache import Cache
from edlab.config import DeviceConfig
from edlab.devices import AgentSession, ssh
from edlab.errors import AgentError, ConfigError, DeviceError, EdlabError, StorageError
from edlab.openssh import CONFIG_VARIABLE, Link
from edlab.power import BoardSensor
from edlab.testing import sshd
from edlab.testing.sshd import LoopbackBoard

pytestmark = pytest.mark.skipif(bool(sshd.missing()), reason=f"not installed: {sshd.missing()}")

HOSTILE = "a b;$(touch pwned)`touch pwned`'\"&|\\ü"


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackBoard]:
    """A board that runs; nothing of edlab may be left on it."""
    with LoopbackBoard(tmp_path / "board") as board:
        monkeypatch.setenv(CONFIG_VARIABLE, str(board.config))
        yield board
        wait_until(lambda: not board.processes())


@pytest.fixture
def device(board: LoopbackBoard) -> DeviceConfig:
    return DeviceConfig(name="jetson", kind="ssh", address=board.host, python=sys.executable)


@pytest.fixture
def session(device: DeviceConfig, cache: Cache) -> Iterator[AgentSession]:
    with devices.connect(device, cache) as session:
        yield session


@pytest.fixture(params=["rsync", "pipe"])
def way(request: pytest.FixtureRequest, board: LoopbackBoard) -> str:
    """Each of the two ways that files go: the board has rsync, or it has next to nothing."""
    if request.param == "pipe":
        few = board.folder / "bin"
        few.mkdir()
        for name in ("env", "cat"):
            (few / name).symlink_to(str(shutil.which(name)))
        board.write_shell(path=str(few))
    elif not shutil.which("rsync"):
        pytest.skip("not installed: rsync")
    return str(request.param)


def file(path: Path, size: int, seed: int = 0) -> Path:
    path.write_bytes(np.random.default_rng(seed).bytes(size))
    return path


def refused(device: DeviceConfig, cache: Cache, kind: type[EdlabError] = DeviceError) -> EdlabError:
    """The error of a connection that must not come about."""
    with pytest.raises(kind) as caught, devices.connect(device, cache) as session:
        session.hello()
    return caught.value


# --- what a board must have, and what is said where it has not ---


def test_a_board_that_nobody_configured_says_what_to_set(cache: Cache) -> None:
    error = refused(DeviceConfig(name="jetson", kind="ssh"), cache)
    assert "not configured" in error.message
    assert "device.address=" in error.hint


def test_an_unknown_host_key_is_never_accepted(board: LoopbackBoard, device: DeviceConfig, cache: Cache) -> None:
    board.known_hosts.write_text("")
    error = refused(device, cache)
    assert "host key of board is unknown" in error.message
    assert f"`ssh -F {board.config} board`" in error.hint
    assert board.known_hosts.read_text() == ""


def test_a_changed_host_key_comes_with_the_command_that_forgets_it(
    tmp_path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = LoopbackBoard(tmp_path / "board")
    board.new_key("host_key")
    monkeypatch.setenv(CONFIG_VARIABLE, str(board.config))
    device = DeviceConfig(name="jetson", address=board.host)
    with board:
        error = refused(device, cache)
        assert "host key of board has changed" in error.message
        command = re.search("`(ssh-keygen.*?)`", error.hint)
        assert command
        subprocess.run(command.group(1), shell=True, check=True, capture_output=True)
        assert "is unknown" in refused(device, cache).message


def test_a_key_that_the_board_does_not_accept(board: LoopbackBoard, device: DeviceConfig, cache: Cache) -> None:
    (board.folder / "authorized_keys").write_text("")
    error = refused(device, cache)
    assert "rejects all of your keys" in error.message
    assert f"`ssh-copy-id -F {board.config} board`" in error.hint


def test_a_board_without_sshd(board: LoopbackBoard, device: DeviceConfig, cache: Cache) -> None:
    board.stop()
    assert "board refuses the connection" in refused(device, cache).message
    board.start()


def test_a_name_that_nobody_knows(device: DeviceConfig, cache: Cache) -> None:
    error = refused(dataclasses.replace(device, address="board.invalid"), cache)
    assert "the host board.invalid is not found" in error.message
    assert "~/.ssh/config" in error.hint


@pytest.mark.parametrize(
    ("said", "meaning"),
    [
        ("ssh: connect to host 10.0.0.9 port 22: Connection timed out", "does not answer"),
        ("ssh: connect to host 10.0.0.9 port 22: No route to host", "does not answer"),
        ("Connection closed by 10.0.0.9 port 22", "ssh to nano failed: Connection closed by"),
        ("", "ssh to nano failed"),
    ],
)
def test_what_else_ssh_says(said: str, meaning: str) -> None:
    error = Link("nano").failure(said)
    assert meaning in error.message
    assert "`ssh nano" in error.hint


@pytest.mark.parametrize("host", ["-oProxyCommand=touch pwned", "a b", "$(touch pwned)", "a;b", "a'b", "a\nb", "`b`"])
def test_a_host_that_ssh_or_a_shell_would_misread_is_refused(host: str, device: DeviceConfig, cache: Cache) -> None:
    assert "is not a valid host name" in refused(dataclasses.replace(device, address=host), cache, ConfigError).message


def test_a_board_without_python(device: DeviceConfig, cache: Cache) -> None:
    error = refused(dataclasses.replace(device, python="python3.99"), cache)
    assert "python3.99 is not found on board" in error.message
    assert "device.python" in error.hint


def test_a_python_that_is_too_old(device: DeviceConfig, cache: Cache) -> None:
    old = sorted(Path("~/.pyenv/versions").expanduser().glob("[23].[0-7].*/bin/python"))
    old = [path for path in old if re.match(r"(2\.|3\.[0-6]\.)", path.parts[-3])]
    if not old:
        pytest.skip("there is no Python older than 3.7")
    for python in old:
        error = refused(dataclasses.replace(device, python=str(python)), cache)
        assert f"is Python {python.parts[-3]}: the agent needs 3.7 or later" in error.message


def test_a_python_without_numpy(tmp_path: Path, device: DeviceConfig, cache: Cache) -> None:
    bare = tmp_path / "a bare one's"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True)
    error = refused(dataclasses.replace(device, python=str(bare / "bin" / "python")), cache)
    assert "cannot import numpy: ModuleNotFoundError" in error.message
    told = subprocess.run(error.hint, shell=True, capture_output=True, text=True)
    assert f"{bare / 'bin' / 'python'}: No module named pip" in told.stderr  # it is the right Python that was asked


def test_a_work_directory_that_cannot_be_made(device: DeviceConfig, cache: Cache) -> None:
    error = refused(dataclasses.replace(device, workdir="/proc/edlab"), cache, StorageError)
    assert "cannot write /proc" in error.message
    assert "device.workdir" in error.hint


def test_more_threads_than_the_board_has_cores(device: DeviceConfig, cache: Cache) -> None:
    assert "device.threads=999" in refused(dataclasses.replace(device, threads=999), cache, ConfigError).message
    with devices.connect(dataclasses.replace(device, threads=1), cache) as session:
        assert len(session.hello().cpus) == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]
    if subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("a tmpfs cannot be mounted here: it takes root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_a_storage_error(small_disk: Path, tmp_path: Path, device: DeviceConfig, cache: Cache) -> None:
    device = dataclasses.replace(device, workdir=str(small_disk / "edlab"))
    with devices.connect(device, cache) as session:
        with pytest.raises(StorageError, match=r"cannot write .*: 6\.0 MB are needed, [\d.]+ MB are free"):
            session.put([file(tmp_path / "model", 6_000_000)])
        assert session.hello().pid
        with pytest.raises(OSError, match="No space left"), open(small_disk / "other", "wb") as other:
            other.write(bytes(5_000_000))
    error = refused(device, cache, StorageError)
    assert "No space left on device" in error.message
    assert "free space" in error.hint


def test_a_disk_that_fills_while_a_file_is_sent(
    way: str, small_disk: Path, tmp_path: Path, device: DeviceConfig, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    with devices.connect(dataclasses.replace(device, workdir=str(small_disk)), cache) as session:
        sent, call = file(tmp_path / "model", 3_000_000), session.call

        def fill(method: Method[Q, R], request: Q) -> R:
            reply = call(method, request)
            if method is messages.EXPECT:
                (small_disk / "other").write_bytes(bytes(2_000_000))
            return reply

        monkeypatch.setattr(session._files, "_call", fill)
        with pytest.raises(StorageError, match=r"cannot (send|write) .*(No space left on device|MB are free)"):
            session.put([sent])


# --- the agent there ---


def test_the_agent_answers_from_its_work_directory(board: LoopbackBoard, session: AgentSession, tmp_path: Path) -> None:
    agent = psutil.Process(session.hello().pid)
    assert agent.cwd() == str(board.home / ".cache" / "edlab-agent")
    assert agent in board.processes()


def test_a_shell_that_prints_does_no_harm(
    board: LoopbackBoard, device: DeviceConfig, cache: Cache, tmp_path: Path
) -> None:
    board.write_shell(prints='Welcome!\n{"id": 1, "no": "reply"}\n[7]\n\xff no newline at the end: ')
    sent = file(tmp_path / "model", 1000)
    with devices.connect(device, cache) as session:
        there = Path(session.put([sent])[0])
        assert there.read_bytes() == sent.read_bytes()
        session.get(str(there), tmp_path / "back")
        assert "Welcome!" in session.log
    assert (tmp_path / "back").read_bytes() == sent.read_bytes()


@pytest.mark.parametrize("reached", ["local", "ssh"])
def test_the_environment_of_the_device_reaches_the_agent(
    reached: str, tmp_path: Path, device: DeviceConfig, cache: Cache
) -> None:
    package = tmp_path / HOSTILE / "onnxruntime"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        "import os\n__version__ = os.environ['FLAVOUR']\nget_available_providers = lambda: ['CPUExecutionProvider']\n"
    )
    env = {"PYTHONPATH": str(package.parent), "FLAVOUR": HOSTILE}
    device = dataclasses.replace(device, env=env)
    if reached == "local":
        device = dataclasses.replace(device, kind="local", address=None)
    with devices.connect(device, cache) as session:
        assert session.available(["onnxruntime"]) == {"onnxruntime": Availability(version=HOSTILE)}


def test_a_variable_without_a_proper_name_is_refused(device: DeviceConfig, cache: Cache) -> None:
    assert "A;B" in refused(dataclasses.replace(device, env={"A;B": "1"}), cache, ConfigError).message


@pytest.mark.parametrize("folder", ["x" * 100, HOSTILE.replace("/", "") + " 100%h"])
def test_the_shared_connection_has_a_place_wherever_the_users_runtime_folder_is(
    folder: str, tmp_path: Path, device: DeviceConfig, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = Path("/tmp", f"edlab-test-{os.getpid()}", folder)
    runtime.mkdir(parents=True)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    try:
        with devices.connect(device, cache) as session:
            assert session.hello().pid
            assert session._link.is_up()
    finally:
        shutil.rmtree(runtime.parent)


# --- files ---


def test_hostile_names_do_no_harm(
    way: str, board: LoopbackBoard, device: DeviceConfig, cache: Cache, tmp_path: Path
) -> None:
    python = board.home / HOSTILE / "python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    sent = [file(tmp_path / f"{HOSTILE}.{suffix}", 10_000, seed) for seed, suffix in enumerate(("xml", "bin"))]
    device = dataclasses.replace(device, python=f"~/{HOSTILE}/python", workdir=f"~/{HOSTILE}/work")
    with devices.connect(device, cache) as session:
        there = [Path(path) for path in session.put(sent)]
        assert [path.read_bytes() for path in there] == [path.read_bytes() for path in sent]
        assert [path.name for path in there] == [path.name for path in sent]
        assert there[0].parent == there[1].parent
        assert there[0].is_relative_to(board.home / HOSTILE / "work")
        remote = session.outbox(tmp_path / "back;$(touch pwned)")
        shutil.copy(there[0], remote)
        session.get(remote, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == sent[0].read_bytes()
    assert not [path for root in (tmp_path, Path.cwd()) for path in root.rglob("pwned")]


def test_a_file_travels_once(way: str, device: DeviceConfig, cache: Cache, tmp_path: Path) -> None:
    sent = file(tmp_path / "model", 100_000)
    with devices.connect(device, cache) as session:
        first = Path(session.put([sent])[0])
        before = first.stat()
    with devices.connect(device, cache) as session:
        assert session.put([sent]) == [str(first)]
        after = first.stat()
        assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
        other = file(tmp_path / "model", 100_000, seed=1)
        assert session.put([other]) != [str(first)]


def test_files_that_lost_their_end_with_the_boards_power_are_sent_again(
    board: LoopbackBoard, device: DeviceConfig, cache: Cache, tmp_path: Path
) -> None:
    sent = file(tmp_path / "model", 100_000)
    with devices.connect(device, cache) as session:
        there = Path(session.put([sent])[0])
    (agent,) = board.home.glob(".cache/edlab-agent/files/*/agent.zip")
    for path in (there, agent):
        os.truncate(path, 0)
    with devices.connect(device, cache) as session:
        assert Path(session.put([sent])[0]).read_bytes() == sent.read_bytes()


def test_files_whose_content_the_disk_lost_are_sent_again(device: DeviceConfig, cache: Cache, tmp_path: Path) -> None:
    sent = file(tmp_path / "model", 100_000)
    with devices.connect(device, cache) as session:
        there = Path(session.put([sent])[0])
    there.write_bytes(bytes(100_000))
    with devices.connect(device, cache) as session:
        assert Path(session.put([sent])[0]).read_bytes() == sent.read_bytes()


def test_a_broken_transfer_goes_on_where_it_left_off(
    way: str, board: LoopbackBoard, device: DeviceConfig, cache: Cache, tmp_path: Path
) -> None:
    sent = file(tmp_path / "images.npy", 30_000_000)
    with Relay(board.port, bytes_per_s=8e6) as relay:
        board.write_config(relay.port)
        board.trust(relay.port)

        def part() -> Path | None:
            found = list(board.home.glob(".cache/edlab-agent/files/*.part/images.npy"))
            return found[0] if found and found[0].stat().st_size > 1_000_000 else None

        def cut() -> None:
            wait_until(lambda: part() is not None)
            relay.cut()

        threading.Thread(target=cut).start()
        with pytest.raises(DeviceError), devices.connect(device, cache) as session:
            session.put([sent])
    broken = part()
    assert broken is not None
    before = broken.stat()
    assert before.st_size < 30_000_000
    board.write_config(board.port)
    board.trust()
    with devices.connect(device, cache) as session:
        there = Path(session.put([sent])[0])
    assert there.stat().st_ino == before.st_ino  # the same file, made longer
    assert there.read_bytes() == sent.read_bytes()


def test_what_lies_damaged_on_the_board_is_sent_anew(
    way: str, board: LoopbackBoard, device: DeviceConfig, cache: Cache, tmp_path: Path
) -> None:
    sent = file(tmp_path / "model", 100_000)
    with devices.connect(device, cache) as session:
        there = Path(session.put([sent])[0])
    there.parent.rename(there.parent.with_name(there.parent.name + ".part"))
    part = there.parent.with_name(there.parent.name + ".part") / "model"
    part.write_bytes(b"garbage" + bytes(40_000))
    with devices.connect(device, cache) as session:
        assert Path(session.put([sent])[0]).read_bytes() == sent.read_bytes()


def test_a_slow_link_is_only_slow(board: LoopbackBoard, device: DeviceConfig, cache: Cache, tmp_path: Path) -> None:
    sent = file(tmp_path / "model", 2_000_000)
    with Relay(board.port, bytes_per_s=500_000) as relay:
        board.write_config(relay.port)
        board.trust(relay.port)
        with devices.connect(device, cache) as session:
            there = session.put([sent])[0]
            session.get(there, tmp_path / "back")
            session.call(messages.IDLE, messages.Idle(0.5))
    assert (tmp_path / "back").read_bytes() == sent.read_bytes()


def test_the_oldest_files_make_room_and_those_in_use_do_not(device: DeviceConfig, cache: Cache, tmp_path: Path) -> None:
    device = dataclasses.replace(device, workdir_limit_gb=0.0025)
    sent = [file(tmp_path / f"model{seed}", 1_000_000, seed) for seed in range(5)]
    with devices.connect(device, cache) as session:
        first, second = (Path(session.put([one])[0]) for one in sent[:2])
    os.utime(second.parent, (1, 1))  # the board's clock was wrong then
    with devices.connect(device, cache) as session:
        third = Path(session.put([sent[2]])[0])
        assert (first.exists(), second.exists(), third.exists()) == (True, False, True)
        fourth = Path(session.put([sent[3]])[0])
        assert (first.exists(), third.exists(), fourth.exists()) == (False, True, True)
        with pytest.raises(AgentError, match=r"more than device\.workdir_limit_gb=0\.0025"):
            session.put([sent[4]])
        assert third.exists()
        assert fourth.exists()


def test_what_an_agent_wrote_is_gone_with_it(board: LoopbackBoard, device: DeviceConfig, cache: Cache) -> None:
    scratches = board.home / ".cache" / "edlab-agent" / "scratch"
    with devices.connect(device, cache) as killed:
        Path(killed.outbox(Path("a"))).write_text("left behind")
        os.kill(killed.hello().pid, signal.SIGKILL)
    assert len(list(scratches.iterdir())) == 1
    with devices.connect(device, cache) as one, devices.connect(device, cache) as other:
        kept = Path(one.outbox(Path("a")))
        kept.write_text("in use")
        other.outbox(Path("a"))
        assert kept.exists()
        assert len(list(scratches.iterdir())) == 2
    wait_until(lambda: not list(scratches.iterdir()))


def test_a_file_that_is_not_there_cannot_be_fetched(session: AgentSession, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"cannot fetch .*nothing: .*No such file"):
        session.get(str(tmp_path / "nothing"), tmp_path / "back")
    assert not (tmp_path / "back").exists()


# --- the end of a run that did not end well: the `board` fixture waits until no process is left there ---


def client_of(session: AgentSession) -> int:
    """The ssh process that the agent of this session is behind."""
    return session.process.pid


DISASTERS: dict[str, Callable[[LoopbackBoard, AgentSession, int], object]] = {
    "the ssh process is killed": lambda board, session, agent: os.kill(client_of(session), signal.SIGKILL),
    "the sshd process is killed": lambda board, session, agent: [sshd.kill(p) for p in board.connections()],
    "the agent is killed": lambda board, session, agent: os.kill(agent, signal.SIGKILL),
    "the agent is stopped": lambda board, session, agent: os.kill(agent, signal.SIGSTOP),
}


@pytest.mark.parametrize("disaster", DISASTERS)
def test_a_link_or_an_agent_that_dies_in_a_phase_is_a_device_error(
    disaster: str, board: LoopbackBoard, session: AgentSession
) -> None:
    agent = session.hello().pid
    threading.Timer(1, DISASTERS[disaster], (board, session, agent)).start()
    start = time.monotonic()
    with pytest.raises(DeviceError, match=r"the agent on jetson .*'idle'") as caught:
        session.call(messages.IDLE, messages.Idle(seconds=60), silence_s=5)
    assert time.monotonic() - start < 30
    expected = {
        "the sshd process is killed": "the link to it",
        "the agent is killed": "killed there",
        "the agent is stopped": "silent for 5 s",
    }
    assert expected.get(disaster, "signal SIGKILL") in caught.value.message


def test_a_link_that_breaks_without_a_word_leaves_no_agent(
    board: LoopbackBoard, device: DeviceConfig, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh, "HOST_SILENCE_S", 5.0)
    with Relay(board.port) as relay:
        board.write_config(relay.port)
        board.trust(relay.port)
        with devices.connect(device, cache) as session:
            agent = session.hello().pid
            threading.Timer(1, relay.hold).start()
            with pytest.raises(DeviceError, match="silent for 5 s in 'idle'"):
                session.call(messages.IDLE, messages.Idle(seconds=60), silence_s=5)
        wait_until(lambda: gone([agent]))  # though its connection still stands


def test_a_host_that_is_killed_takes_the_agent_on_the_board_along(board: LoopbackBoard, tmp_path: Path) -> None:
    host = textwrap.dedent(f"""
        from pathlib import Path
        from edlab import devices
        from edlab.agent import messages
        from edlab.cache import Cache
        from edlab.config import DeviceConfig
        device = DeviceConfig(name="jetson", address={board.host!r}, python={sys.executable!r})
        with devices.connect(device, Cache(Path({str(tmp_path / "cache")!r}))) as session:
            print(session.hello().pid, flush=True)
            session.call(messages.IDLE, messages.Idle(600))
    """)
    process = subprocess.Popen([sys.executable, "-c", host], stdout=subprocess.PIPE)
    assert process.stdout is not None
    agent = int(process.stdout.readline())
    assert not gone([agent])
    process.kill()
    process.wait()
    wait_until(lambda: gone([agent]))


def test_a_sensor_of_the_board_is_read_there(device: DeviceConfig, cache: Cache, tmp_path: Path) -> None:
    chip = tmp_path / "sys/class/hwmon/hwmon0"
    chip.mkdir(parents=True)
    (chip / "name").write_text("power_meter\n")
    (chip / "power1_average").write_text("30000000\n")
    device = dataclasses.replace(device, env={"EDLAB_SYSFS": str(tmp_path / "sys")})
    with devices.connect(device, cache) as session:
        (sensor,) = session.sensors().sensors
        source = BoardSensor(session, sensor, interval_s=0.02)
        with source:
            span = session.call(messages.IDLE, messages.Idle(0.5))
        series = source.series(span.start_ns, span.end_ns)
    assert len(series.t_ns) >= 5
    assert (series.watts == 30).all()
    assert span.start_ns <= series.t_ns[1] <= series.t_ns[-2] <= span.end_ns
    assert (series.failed, series.error, series.clock_error_ns) == (0, "", 0)


# --- one run at a time ---


def two_on_one(device: DeviceConfig, cache: Cache, other: DeviceConfig, other_cache: Cache) -> None:
    """The second waits, says for whom, gives up in time, and has its turn when the first is killed."""
    said: list[str] = []
    with devices.connect(device, cache) as holder:
        holder.lock()
        with devices.connect(dataclasses.replace(other, lock_timeout=1.0), other_cache) as hasty:
            with pytest.raises(
                AgentError, match=rf"in use by .+@.+ \(pid {os.getpid()}\) since \d{{4}}-.+; waited 1 s"
            ) as caught:
                hasty.lock(lambda phase, fraction, message: said.append(message))
            assert "device.lock_timeout" in caught.value.hint
        assert re.match(rf"waiting for .+@.+ \(pid {os.getpid()}\) since \d{{4}}-", said[0])
        with devices.connect(other, other_cache) as patient:
            agent = holder.hello().pid
            threading.Timer(1, os.kill, (agent, signal.SIGKILL)).start()
            patient.lock()
            assert gone([agent])


def test_a_board_serves_one_run_at_a_time(device: DeviceConfig, cache: Cache) -> None:
    two_on_one(device, cache, device, cache)


def test_another_work_directory_is_no_other_board(device: DeviceConfig, cache: Cache) -> None:
    two_on_one(device, cache, dataclasses.replace(device, name="nano", workdir="elsewhere"), cache)


@pytest.fixture
def own_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of this test, in place of this machine's."""
    (tmp_path / "locks").mkdir()
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "locks"))


def test_this_machine_serves_one_run_at_a_time_whatever_it_runs_on(
    cache: Cache, own_locks: None, tmp_path: Path
) -> None:
    coral = DeviceConfig(name="coral", runtimes={"edgetpu": "edgetpu"}, target="usb/0")
    two_on_one(DeviceConfig(name="cpu", threads=1), cache, coral, Cache(tmp_path / "other cache"))


# --- whole runs ---


@pytest.fixture
def on_board(board: LoopbackBoard, workplace: Workplace) -> list[str]:
    """The words that send a run of the workplace to the board."""
    workplace.environment[CONFIG_VARIABLE] = str(board.config)
    return ["device=cpu", f"device.address={board.host}", f"device.python={sys.executable}"]


def test_a_run_over_ssh_equals_the_same_run_here(on_board: list[str], workplace: Workplace) -> None:
    accuracies = []
    for words in ([], on_board):
        done = workplace.run(*words)
        assert done.returncode == 0, done.stdout + done.stderr
        (record,) = workplace.records()
        accuracies.append(record.metrics["accuracy_top1"])
        assert record.metrics["latency_ms"] > 0
    assert accuracies[0] == accuracies[1]


def test_an_agent_that_is_killed_is_one_failed_row_and_the_sweep_goes_on(
    board: LoopbackBoard, on_board: list[str], workplace: Workplace
) -> None:
    def kill_the_first() -> None:
        scratches = board.home / ".cache" / "edlab-agent" / "scratch"  # a run has one, the preflight none
        wait_until(lambda: any(scratches.glob("*")), seconds=120)
        for process in board.processes():
            sshd.kill(process)

    killer = threading.Thread(target=kill_the_first)
    killer.start()
    done = workplace.run("-m", "protocol.seconds=5", "quantization=fp32,int8", *on_board)
    killer.join()
    assert done.returncode != 0
    first, second = workplace.records()
    assert (first.status, second.status) == ("failed", "ok")
    assert "killed there" in first.reason
