"""The host's side against real agents, also such as crash, hang, fall silent or print over everything."""

from __future__ import annotations

import _thread
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import psutil
import pytest

import edlab.devices.session
from edlab import devices
from edlab.agent import messages
from edlab.agent.messages import (
    Activity,
    Availability,
    Folder,
    IdleReport,
    Latency,
    Method,
    Nothing,
    Pool,
    Throughput,
    ThroughputReport,
    encode,
)
from edlab.cache import Cache
from edlab.config import DeviceConfig, PowerConfig
from edlab.devices import AgentSession, agent_zip
from edlab.devices.session import SILENCE_S
from edlab.errors import AgentError, ConfigError, DeviceError, StorageError
from edlab.power import BoardSensor, compare_clocks

ODD_RUNTIME = """
import ctypes, errno, os, signal, subprocess, sys, time
from edlab.agent.runtimes import base

class Mean(base.Request):
    def set_input(self, tensor):
        self.tensor = tensor

    def execute(self):
        time.sleep(0.01)

    def get_outputs(self):
        return [self.tensor.mean(axis=(2, 3))]

class Runtime(base.Runtime):
    options = {"behaviour": "", "pid_file": ""}

    @staticmethod
    def version():
        return "0.1"

    def load(self):
        getattr(self, self.options["behaviour"])()

    def compile(self, in_flight, batch):
        if self.options["behaviour"] != "work":
            raise ValueError("this network has no weights")
        image = base.TensorSpec("image", (None, 3, 2, 2), "float32")
        mean = base.TensorSpec("mean", (None, 3), "float32")
        return base.Compiled([Mean() for _ in range(in_flight)], [image], [mean], {})

    def work(self):
        pass

    def chat(self):
        os.write(1, b'{"id": 1, "result": "nonsense"}' + bytes(range(128, 160)))
        subprocess.run(["sh", "-c", "cat; echo printed by a child"], check=True)
        print("hello from the vendor", flush=True)

    def fill(self):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/var/lib/vendor")

    def crash(self):
        print("about to crash", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGSEGV)

    def hang(self):
        child = subprocess.Popen(["sleep", "600"])
        with open(self.options["pid_file"], "w") as file:
            file.write("%d %d" % (os.getpid(), child.pid))
        time.sleep(600)

    def daemon(self):
        child = subprocess.Popen(["sleep", "600"], start_new_session=True)
        with open(self.options["pid_file"], "w") as file:
            file.write("%d %d" % (os.getpid(), child.pid))

    def hold_the_gil(self):
        ctypes.PyDLL(None).sleep(12)

    def stop(self):
        os.kill(os.getpid(), signal.SIGSTOP)

    def swell(self):
        held = []
        while True:
            held.append(bytearray(b"x" * 10_000_000))
            time.sleep(0.01)

    def rant(self):
        raise ValueError("x" * 10_000_000)

    def flood(self):
        os.write(1, b"x" * 100_000_000)
"""

ODD_TOOLCHAIN = """
from edlab.agent.toolchains import base
from odd_runtimes import Runtime

class Toolchain(base.Toolchain):
    @staticmethod
    def version():
        return "0.1"

    @staticmethod
    def identity(options):
        return {"odd": "0.1"}

    @staticmethod
    def build(files, out, options, calibration, report):
        getattr(Runtime(files, 1, options), options["behaviour"])()
"""


def odd_plugins(group: str) -> dict[str, EntryPoint]:
    if group not in ("runtimes", "toolchains"):
        return {}
    return {"odd": EntryPoint(name="odd", value=f"odd_{group}", group=f"edlab.{group}")}


@pytest.fixture
def odd_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A runtime and a toolchain of an outside package, which misbehave as asked."""
    package = tmp_path / "outside"
    package.mkdir()
    (package / "odd_runtimes.py").write_text(ODD_RUNTIME)
    (package / "odd_toolchains.py").write_text(ODD_TOOLCHAIN)
    monkeypatch.syspath_prepend(package)
    monkeypatch.setattr(agent_zip, "plugins", odd_plugins)


@pytest.fixture
def session(cache: Cache, odd_runtime: None) -> Iterator[AgentSession]:
    with devices.connect(DeviceConfig(name="cpu"), cache) as session:
        yield session


def odd(behaviour: str, tmp_path: Path) -> messages.Open:
    (tmp_path / "model").touch()
    return messages.Open(
        runtime="odd",
        files=[str(tmp_path / "model")],
        options={"behaviour": behaviour, "pid_file": str(tmp_path / "pids")},
        threads=1,
        mean=[0, 0, 0],
        std=[1, 1, 1],
        layout="NCHW",
    )


def answering(result: object) -> AgentSession:
    """With a process that is no agent: it prints something, and answers whatever it is asked with `result`."""
    code = textwrap.dedent(f"""
        import json, sys
        for line in sys.stdin:
            print("cron: disk is warm", flush=True)
            print(json.dumps({{"id": json.loads(line)["id"], "result": {result!r}}}), flush=True)
    """)
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", code]
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)
    return AgentSession(process, DeviceConfig(name="odd"))


def pids(tmp_path: Path) -> list[int]:
    """Those of the hanging agent and its child, once they run."""
    wait_until(lambda: (tmp_path / "pids").exists() and len((tmp_path / "pids").read_text().split()) == 2)
    return [int(pid) for pid in (tmp_path / "pids").read_text().split()]


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def gone(processes: list[int]) -> bool:
    """Whether they have ended; one that nobody has waited for yet counts as such."""
    return not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in processes)


def test_the_agent_says_who_it_is(session: AgentSession) -> None:
    hello = session.hello()
    assert hello.pid != os.getpid()
    assert hello.python == ".".join(map(str, sys.version_info[:3]))
    assert hello.cpus == sorted(os.sched_getaffinity(0))


def test_threads_pin_the_agent_and_too_many_are_refused(cache: Cache) -> None:
    with devices.connect(DeviceConfig(name="cpu", threads=1), cache) as session:
        assert session.hello().cpus == sorted(os.sched_getaffinity(0))[:1]
    with pytest.raises(ConfigError, match=r"device\.threads=10000"):
        devices.connect(DeviceConfig(name="cpu", threads=10_000), cache)


def test_what_vendor_code_prints_cannot_touch_the_protocol(session: AgentSession, tmp_path: Path) -> None:
    with pytest.raises(AgentError, match=r"odd cannot open .*: ValueError: this network has no weights"):
        session.call(messages.OPEN, odd("chat", tmp_path))
    assert session.hello().pid
    wait_until(lambda: "hello from the vendor" in session.log)
    assert "printed by a child" in session.log


def test_errors_carry_message_mend_and_traceback(session: AgentSession, tmp_path: Path) -> None:
    with pytest.raises(AgentError, match="no runtime 'tpu'") as caught:
        session.call(messages.OPEN, odd("", tmp_path)._replace(runtime="tpu"))
    assert "onnxruntime" in caught.value.hint
    assert "Traceback" in caught.value.log
    with pytest.raises(AgentError, match="no method 'fly'"):
        session.call(Method("fly", Nothing, Nothing), Nothing())


def test_lines_among_the_replies_that_are_not_the_agents_go_to_the_log() -> None:
    with answering({"folder": "/somewhere"}) as session:
        assert session.call(messages.SCRATCH, Nothing()) == Folder("/somewhere")
        assert session.call(messages.SCRATCH, Nothing()) == Folder("/somewhere")
        assert "cron: disk is warm" in session.log


ACTIVITY = Activity(0.5, 0.1, None, None, 3, [2000.0], None)
SPAN = encode(IdleReport(start_ns=1, end_ns=2, activity=ACTIVITY))


def test_a_reply_becomes_the_message_that_it_is() -> None:
    with answering(SPAN) as session:
        assert session.call(messages.IDLE, messages.Idle(0.1)) == IdleReport(1, 2, ACTIVITY)


@pytest.mark.parametrize(
    ("reply", "where"),
    [
        ({**SPAN, "end_ns": "later"}, "end_ns"),
        ({**SPAN, "end_ns": None}, "end_ns"),
        ({**SPAN, "activity": {**SPAN["activity"], "clocks_mhz": [2000.0, "fast"]}}, r"activity\.clocks_mhz\.1"),
        ({**SPAN, "activity": {}}, r"activity\.seconds"),
        ({**SPAN, "middle_ns": 1}, "middle_ns"),
        ({}, "start_ns"),
    ],
)
def test_a_reply_of_another_form_is_an_error_that_names_the_method_and_the_field(
    reply: dict[str, object], where: str
) -> None:
    with answering(reply) as session:
        with pytest.raises(DeviceError, match=rf"the reply to 'idle' from odd is not valid: {where}: ") as caught:
            session.call(messages.IDLE, messages.Idle(0.1))
        assert not isinstance(caught.value, AgentError)
        assert "the same version of edlab" in caught.value.hint
        assert "cron: disk is warm" in caught.value.log
        assert gone([session.process.pid])


@pytest.mark.parametrize(("asked", "field"), [({"seconds": 1, "minutes": 0}, "minutes"), ({}, "seconds")])
def test_a_request_of_another_form_is_an_error_of_the_agent(
    session: AgentSession, asked: dict[str, object], field: str
) -> None:
    with pytest.raises(AgentError, match=field):
        session.call(Method("idle", dict, IdleReport), asked)
    assert session.hello().pid


@pytest.fixture
def images(session: AgentSession, tmp_path: Path) -> Path:
    """Two images for the working network of the odd runtime, which is open."""
    np.save(tmp_path / "images.npy", np.zeros((2, 2, 2, 3), np.uint8))
    session.call(messages.OPEN, odd("work", tmp_path))
    return tmp_path / "images.npy"


def test_a_target_whose_disk_is_full_is_a_storage_error_with_the_path(
    session: AgentSession, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "full.npy"
    out.symlink_to("/dev/full")
    with pytest.raises(StorageError, match=r"cannot write .*/full\.npy") as caught:
        session.call(messages.PREDICT, messages.Predict(messages.Pool(str(images), [0, 1]), str(out)))
    assert "free space" in caught.value.hint
    with pytest.raises(StorageError, match="cannot write /var/lib/vendor: No space left"):
        session.call(messages.OPEN, odd("fill", tmp_path))
    assert session.hello().pid


def test_the_memory_of_the_model_is_told_with_its_latency(session: AgentSession, images: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "ns.npy")
    request = Latency(Pool(str(images), [0, 1]), 2, seconds=0, max_seconds=5, windows=10, max_interval=1.0, out=out)
    report = session.measure(messages.LATENCY, request)
    now_mb = session.state().peak_memory_mb
    assert report.peak_memory_mb is not None
    assert now_mb is not None
    assert 0 < report.peak_memory_mb <= now_mb


def test_throughput_keeps_to_its_limit_and_says_so(session: AgentSession, images: Path) -> None:
    def throughput(max_seconds: float) -> ThroughputReport:
        request = Throughput(
            Pool(str(images), [0, 1]), 0.1, max_seconds, max_batch=2, max_in_flight=2, gain=0.0, trial_seconds=0.05
        )
        return session.measure(messages.THROUGHPUT, request)

    short = throughput(max_seconds=0.1)
    assert short.truncated
    assert short.search_truncated
    assert len(short.search) == 1
    whole = throughput(max_seconds=60)
    assert not whole.truncated
    assert not whole.search_truncated
    assert len(whole.search) > 1
    assert whole.activity.seconds >= 0.1


def test_a_crash_names_its_signal_and_shows_the_tail(session: AgentSession, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="'open': signal SIGSEGV") as caught:
        session.call(messages.OPEN, odd("crash", tmp_path))
    assert not isinstance(caught.value, AgentError)
    assert "about to crash" in caught.value.log
    with pytest.raises(DeviceError, match="has exited"):
        session.hello()


def test_silence_is_noticed_and_the_agent_ended(session: AgentSession, tmp_path: Path) -> None:
    agent = session.hello().pid
    with pytest.raises(DeviceError, match="silent for 4 s in 'open'"):
        session.call(messages.OPEN, odd("stop", tmp_path), silence_s=4)
    assert gone([agent])


def test_a_hang_without_progress_is_ended_with_its_children(session: AgentSession, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="'open' on cpu made no progress for 1 s"):
        session.call(messages.OPEN, odd("hang", tmp_path), timeout_s=1)
    wait_until(lambda: gone(pids(tmp_path)))


def test_native_code_that_holds_pythons_lock_is_not_taken_for_dead(session: AgentSession, tmp_path: Path) -> None:
    with pytest.raises(AgentError, match="no weights"):  # it came back, and went on
        session.call(messages.OPEN, odd("hold_the_gil", tmp_path), silence_s=SILENCE_S)


def test_a_daemon_of_a_runtime_ends_with_its_agent(cache: Cache, odd_runtime: None, tmp_path: Path) -> None:
    with devices.connect(DeviceConfig(name="cpu"), cache) as session, pytest.raises(AgentError, match="no weights"):
        session.call(messages.OPEN, odd("daemon", tmp_path))
    wait_until(lambda: gone(pids(tmp_path)))


def test_an_agent_that_eats_the_memory_is_ended_and_says_so(cache: Cache, odd_runtime: None, tmp_path: Path) -> None:
    device = DeviceConfig(name="cpu", memory_limit_gb=0.5)
    with devices.connect(device, cache) as session, pytest.raises(DeviceError, match=r"more than 0\.5 GB") as caught:
        session.call(messages.OPEN, odd("swell", tmp_path))
    assert "device.memory_limit_gb" in caught.value.hint


def test_an_error_of_ten_megabytes_comes_over_short(session: AgentSession, tmp_path: Path) -> None:
    with pytest.raises(AgentError) as caught:
        session.call(messages.OPEN, odd("rant", tmp_path))
    assert len(caught.value.message) + len(caught.value.log) < 100_000


def test_a_flood_without_a_line_does_not_fill_the_memory(session: AgentSession, tmp_path: Path) -> None:
    with pytest.raises(AgentError, match="no weights"):
        session.call(messages.OPEN, odd("flood", tmp_path))
    assert len(session.log) < 1_000_000


def build(session: AgentSession, behaviour: str, tmp_path: Path, **limits: float) -> None:
    options = odd(behaviour, tmp_path).options
    session.build("odd", [tmp_path / "model"], tmp_path / "built", options=options, **limits)


def test_a_build_on_the_target_has_the_time_that_it_is_given(session: AgentSession, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="'build' on cpu made no progress for 1 s"):
        build(session, "hang", tmp_path, timeout_s=1)
    wait_until(lambda: gone(pids(tmp_path)))


def test_an_agent_that_dies_in_a_build_is_not_waited_for_as_long_as_that(
    session: AgentSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edlab.devices.session, "LOADING_SILENCE_S", 4.0)
    with pytest.raises(DeviceError, match="silent for 4 s in 'build'"):
        build(session, "stop", tmp_path)


@pytest.mark.parametrize("line", [b"no json", b"[]"])
def test_an_agent_that_is_sent_nonsense_ends_and_says_so(session: AgentSession, line: bytes) -> None:
    session.hello()
    stdin = session.process.stdin
    assert stdin is not None
    stdin.write(line + b"\n")
    stdin.flush()
    with pytest.raises(DeviceError, match="the agent on cpu"):
        session.call(messages.IDLE, messages.Idle(60))
    assert "Traceback" in session.log


def test_ctrl_c_ends_a_hanging_agent_and_its_children(cache: Cache, odd_runtime: None, tmp_path: Path) -> None:
    def interrupt() -> None:
        pids(tmp_path)
        _thread.interrupt_main()

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt), devices.connect(DeviceConfig(name="cpu"), cache) as session:
        session.call(messages.OPEN, odd("hang", tmp_path))
    wait_until(lambda: gone(pids(tmp_path)))


def test_a_host_that_is_killed_takes_its_agent_along(tmp_path: Path) -> None:
    host = textwrap.dedent(f"""
        import sys
        sys.path[:0] = {[str(tmp_path / "outside"), *filter(None, sys.path), str(Path.cwd())]!r}
        from importlib.metadata import EntryPoint
        from pathlib import Path
        from edlab import devices
        from edlab.agent import messages
        from edlab.agent.messages import Open
        from edlab.cache import Cache
        from edlab.config import DeviceConfig
        from edlab.devices import agent_zip
        entry = EntryPoint(name="odd", value="odd_runtimes", group="edlab.runtimes")
        agent_zip.plugins = lambda group: {{"odd": entry}} if group == "runtimes" else {{}}
        with devices.connect(DeviceConfig(name="cpu"), Cache(Path({str(tmp_path / "cache")!r}))) as session:
            session.call(messages.OPEN, {odd("hang", tmp_path)!r})
    """)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "odd_runtimes.py").write_text(ODD_RUNTIME)
    process = subprocess.Popen([sys.executable, "-c", host])
    agent_and_child = pids(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until(lambda: gone(agent_and_child))


def test_leaving_the_context_ends_the_agent(cache: Cache) -> None:
    with devices.connect(DeviceConfig(name="cpu"), cache) as session:
        agent = session.hello().pid
    assert gone([agent])


def test_progress_reaches_the_caller(session: AgentSession) -> None:
    seen: list[tuple[str, float | None]] = []
    session.call(messages.IDLE, messages.Idle(2.5), lambda phase, fraction, message: seen.append((phase, fraction)))
    assert {phase for phase, _ in seen} == {"idle"}
    assert seen[0] == ("idle", 0.0)  # before anything runs
    assert 2 <= len(seen) <= 3  # then once a second
    assert sorted(seen) == seen


def test_a_sensor_that_the_target_lacks_is_an_error(session: AgentSession) -> None:
    with pytest.raises(AgentError, match="no power sensor 'rapl 9'"):
        session.record_start("rapl 9", 0.01)
    with pytest.raises(AgentError, match="the sensor 'rapl 9' was not recorded"):
        session.record_series("rapl 9", 0, 1)


def test_the_agents_clock_goes_on_as_the_hosts_does(session: AgentSession) -> None:
    before, start = session.clock(), time.perf_counter_ns()
    time.sleep(0.2)
    offset = compare_clocks(session.clock)
    assert session.clock() - before >= 0.2e9
    assert abs(offset.ns - (before - start)) < 0.2e9
    assert 0 < offset.error_ns < 0.1e9


def test_the_sensors_of_this_machine_can_be_sampled(session: AgentSession) -> None:
    found = session.sensors().sensors
    if not found:
        pytest.skip("this machine has no power sensor that may be read")
    with BoardSensor(session, found[0], PowerConfig.interval_s) as source:
        span = session.call(messages.IDLE, messages.Idle(1))
    series = source.series(span.start_ns, span.end_ns)
    assert len(series.t_ns) == len(series.watts) >= 3
    assert (series.watts > 0).all()


def test_an_interpreter_that_is_not_there_is_named(cache: Cache) -> None:
    with pytest.raises(DeviceError, match="no-such-python") as caught:
        devices.connect(DeviceConfig(name="cpu", python="no-such-python"), cache)
    assert "device.python" in caught.value.hint


def test_an_unknown_kind_of_device_is_answered_with_the_kinds(cache: Cache) -> None:
    with pytest.raises(ConfigError, match="unknown device kind 'carrier pigeon'") as caught:
        devices.connect(DeviceConfig(name="bird", kind="carrier pigeon"), cache)
    assert "local" in caught.value.hint


def test_the_same_sources_give_the_same_zip(tmp_path: Path) -> None:
    first = agent_zip.build(Cache(tmp_path / "a"))
    time.sleep(0.01)
    second = agent_zip.build(Cache(tmp_path / "b"))
    assert first.read_bytes() == second.read_bytes()
    assert first.parent.name == second.parent.name


def test_an_outside_runtime_travels_in_the_zip_under_its_name(
    cache: Cache, session: AgentSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert session.available(["odd"]) == {"odd": Availability(version="0.1")}
    monkeypatch.setattr(agent_zip, "plugins", lambda group: {})
    with devices.connect(DeviceConfig(name="cpu"), cache) as plain:
        assert "no runtime 'odd'" in plain.available(["odd"])["odd"].reason


def test_the_package_that_holds_a_module_travels_and_those_above_it_do_not(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {
        "vendor_x/__init__.py": "import no_such_sdk",
        "vendor_x/desktop.py": "",
        "vendor_x/edge/__init__.py": "from pathlib import Path",
        "vendor_x/edge/odd_runtime.py": "from .parts.net import Runtime",
        "vendor_x/edge/parts/net.py": ODD_RUNTIME,
        "vendor_x/edge/table.csv": "1,2",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    entry = EntryPoint(name="odd", value="vendor_x.edge.odd_runtime", group="edlab.runtimes")
    monkeypatch.setattr(agent_zip, "plugins", lambda group: {"odd": entry} if group == "runtimes" else {})
    with zipfile.ZipFile(agent_zip.build(cache)) as archive:
        travelled = {name for name in archive.namelist() if name.startswith("vendor_x/")}
        assert archive.read("vendor_x/__init__.py") == b""
    assert travelled == {name for name in files if "/edge/" in name} | {
        "vendor_x/__init__.py",
        "vendor_x/edge/parts/__init__.py",
    }
    with devices.connect(DeviceConfig(name="cpu"), cache) as session:
        assert session.available(["odd"])["odd"].version == "0.1"


def test_an_entry_point_to_nowhere_stays_behind_and_is_reported(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint(name="lost", value="no_such_package.runtime", group="edlab.runtimes")
    monkeypatch.setattr(agent_zip, "plugins", lambda group: {"lost": entry} if group == "runtimes" else {})
    with devices.connect(DeviceConfig(name="cpu"), cache) as session:
        assert "no runtime 'lost'" in session.available(["lost"])["lost"].reason
    assert "no_such_package.runtime" in agent_zip.lost()["runtime 'lost'"].message
    with pytest.raises(ConfigError, match=r"no_such_package\.runtime"):
        agent_zip.build(cache, ["no_such_package.runtime"])
