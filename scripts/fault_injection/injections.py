"""The faults: each starts a sweep, breaks something at a random moment, and waits for the sweep to end."""

from __future__ import annotations

import os
import pty
import random
import shlex
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psutil
from fault_injection.promises import check_server
from fault_injection.world import LONGEST_S, Command, World, command_line, environment_of

from edlab.testing import sshd

# A fault runs until the end of the sweep that it breaks, and returns what it did. The last argument is the usual length
# of the sweep.
Fault = Callable[[World, random.Random, float], str]
FAULTS: dict[str, Fault] = {}
ON_A_BOARD = ("broken_link", "full_board")  # always over ssh
_IO_ERROR = Path(__file__).with_name("io_error.c")


def unavailable() -> dict[str, str]:
    """The faults that are impossible on this machine, and why."""
    reasons: dict[str, str] = {}
    if os.geteuid() != 0:
        names = ("full_work", "full_cache", "full_tmp", "full_board")
        reasons |= dict.fromkeys(names, "a small disk needs root")
    if not shutil.which("cc"):
        reasons["io_error"] = "missing: cc"
    if missing := sshd.missing():
        reasons |= dict.fromkeys(ON_A_BOARD, f"missing: {missing}")
    return reasons


def fault(function: Fault) -> Fault:
    FAULTS[function.__name__] = function
    return function


def wait(command: Command) -> int:
    return command.wait(timeout=LONGEST_S)


# -- processes that are killed --------------------------------------------------------------------------------------


def kill_some(world: World, rng: random.Random, life_s: float, word: str, name: str) -> str:
    """kill -9 of one process with `word` in its command line, as soon as there is one after a random moment."""
    after = rng.uniform(0, life_s)
    sweep = world.start()
    time.sleep(after)
    while sweep.poll() is None:
        victims = [process for process in world.processes() if has_word(process, word)]
        if victims:
            victim = rng.choice(victims)
            with suppress(psutil.Error):
                victim.kill()
            wait(sweep)
            return f"kill -9 of {name} after {after:.2f} s"
        time.sleep(0.01)
    return f"no {name} after {after:.2f} s"


def has_word(process: psutil.Process, word: str) -> bool:
    try:
        return word in command_line(process)
    except psutil.Error:
        return False


@fault
def kill_parent(world: World, rng: random.Random, life_s: float) -> str:
    after = rng.uniform(0, life_s)
    sweep = world.start()
    time.sleep(after)
    sweep.send_signal(signal.SIGKILL)
    wait(sweep)
    return f"kill -9 of the parent after {after:.2f} s"


@fault
def kill_parent_at_first_start(world: World, rng: random.Random, life_s: float) -> str:
    """In the seconds in which the database is created."""
    shutil.rmtree(world.work / "mlruns")
    return kill_parent(world, rng, min(life_s, 4.0))


@fault
def kill_agent(world: World, rng: random.Random, life_s: float) -> str:
    return kill_some(world, rng, life_s, "agent.zip", "the agent")


@fault
def kill_converter(world: World, rng: random.Random, life_s: float) -> str:
    shutil.rmtree(world.folder / "cache" / "steps")
    return kill_some(world, rng, life_s, "edlab.isolation", "a converter")


@fault
def kill_all(world: World, rng: random.Random, life_s: float) -> str:
    """A power cut, except for data that the disk had not written."""
    after = rng.uniform(0, life_s)
    sweep = world.start()
    time.sleep(after)
    for process in world.processes():
        with suppress(psutil.Error):
            process.kill()
    wait(sweep)
    return f"kill -9 of all after {after:.2f} s"


@fault
def signals(world: World, rng: random.Random, life_s: float) -> str:
    number = rng.choice([signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    times, after = rng.choice([1, 3]), rng.uniform(0, life_s)
    sweep = world.start()
    time.sleep(after)
    for _ in range(times):
        if sweep.poll() is None:
            sweep.send_signal(number)
            time.sleep(rng.uniform(0.02, 0.2))
    wait(sweep)
    return f"{number.name} x{times} after {after:.2f} s"


@fault
def closed_terminal(world: World, rng: random.Random, life_s: float) -> str:
    after = rng.uniform(0, life_s)
    ours, theirs = pty.openpty()
    sweep = world.start(terminal=theirs)
    os.close(theirs)
    end = time.monotonic() + after
    os.set_blocking(ours, False)
    while time.monotonic() < end and sweep.poll() is None:
        with suppress(BlockingIOError, OSError):
            os.read(ours, 65536)
        time.sleep(0.01)
    os.close(ours)
    if sweep.poll() is None:
        sweep.send_signal(signal.SIGHUP)  # the shell's part: this sweep leads a session without a controlling terminal
    wait(sweep)
    return f"the terminal closed after {after:.2f} s"


@fault
def closed_pipe(world: World, rng: random.Random, life_s: float) -> str:
    lines = rng.randrange(0, 12)
    line = f"{shlex.join([sys.executable, '-m', 'edlab.cli', 'run', *world.words])} | head -{lines} >/dev/null"
    subprocess.run(["bash", "-c", line], cwd=world.work, env=world.environment, timeout=LONGEST_S)
    end = time.monotonic() + LONGEST_S
    while any(has_word(process, "edlab.cli") for process in world.processes()) and time.monotonic() < end:
        time.sleep(0.2)
    return f"the pipe closed after {lines} lines"


# -- files that are damaged between two sweeps ----------------------------------------------------------------------


@fault
def damaged_cache(world: World, rng: random.Random, life_s: float) -> str:
    files = sorted(
        path for path in (world.folder / "cache").rglob("*") if path.is_file() and path.suffix not in (".lock", ".log")
    )
    victim = rng.choice(files)
    how = rng.choice(["flipped", "truncated", "emptied", "deleted", "made a folder"])
    content = bytearray(victim.read_bytes())
    if how == "flipped" and content:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        victim.write_bytes(content)
    elif how == "truncated":
        os.truncate(victim, len(content) // 2)
    elif how == "emptied":
        victim.write_bytes(b"")
    elif how == "deleted":
        victim.unlink()
    elif how == "made a folder":
        victim.unlink()
        victim.mkdir()
    world.run()
    return f"{victim.relative_to(world.folder / 'cache')} {how}"


# -- disks without room ---------------------------------------------------------------------------------------------


def full_disk(world: World, rng: random.Random, life_s: float, place: Path, room_mb: int) -> str:
    """The folder is on a file system with little space, which fills at a random moment and is emptied afterwards."""
    kept = world.folder / "kept"
    shutil.copytree(place, kept)
    used = sum(path.stat().st_size for path in kept.rglob("*") if path.is_file())
    size = f"size={used // 1_000_000 + room_mb}m"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "none", str(place)], check=True)
    try:
        shutil.copytree(kept, place, dirs_exist_ok=True)
        after = rng.uniform(0, life_s)
        sweep = world.start()
        time.sleep(after)
        filler = place / ".filler"
        with suppress(OSError), open(filler, "wb", buffering=0) as file:
            while True:
                file.write(b"x" * 65536)
        wait(sweep)
        filler.unlink(missing_ok=True)
        shutil.rmtree(kept)
        shutil.copytree(place, kept)
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)
    shutil.rmtree(place)
    kept.rename(place)
    return f"{place.name} full after {after:.2f} s"


@fault
def full_work(world: World, rng: random.Random, life_s: float) -> str:
    return full_disk(world, rng, life_s, world.work, 32)


@fault
def full_cache(world: World, rng: random.Random, life_s: float) -> str:
    shutil.rmtree(world.folder / "cache" / "steps")
    return full_disk(world, rng, life_s, world.folder / "cache", 32)


@fault
def full_tmp(world: World, rng: random.Random, life_s: float) -> str:
    return full_disk(world, rng, life_s, world.folder / "tmp", 32)


@fault
def full_board(world: World, rng: random.Random, life_s: float) -> str:
    assert world.board
    return full_disk(world, rng, life_s, world.board.home, 32)


@fault
def io_error(world: World, rng: random.Random, life_s: float) -> str:
    """Every write below a folder fails with EIO, for a while or until the end."""
    library, switch = world.folder / "io_error.so", world.folder / "io_error"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(_IO_ERROR), "-ldl"], check=True)
    place = rng.choice([world.work, world.folder / "cache", world.folder / "tmp"])
    if place.name == "cache":
        shutil.rmtree(place / "steps")
    start_s = 4.0  # of an interpreter that imports everything
    after, lasts_s = rng.uniform(0, start_s + life_s), rng.choice([1.0, 5.0, LONGEST_S])
    sweep = world.execute(
        LD_PRELOAD=str(library), EDLAB_FAULT_FOLDER=str(place.resolve()), EDLAB_FAULT_SWITCH=str(switch)
    )
    time.sleep(after)
    switch.touch()
    with suppress(subprocess.TimeoutExpired):
        sweep.wait(timeout=lasts_s)
    switch.unlink()
    wait(sweep)
    return f"EIO below {place.name} after {after:.2f} s for {lasts_s:g} s"


# -- MLflow becomes unreachable -------------------------------------------------------------------------------------


@contextmanager
def server(world: World) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Starts a tracking server on one port, repeatedly; ends the last one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = world.folder / "server"
    folder.mkdir(exist_ok=True)
    started: list[subprocess.Popen[bytes]] = []
    environment = environment_of(world, MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false")

    def start() -> subprocess.Popen[bytes]:
        place = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
        stores = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", f"{folder}/files"]
        words = [sys.executable, "-m", "mlflow", "server", *place, *stores]
        with open(folder / "log", "ab") as log:
            process = subprocess.Popen(words, stdout=log, stderr=log, env=environment, start_new_session=True)
        started.append(process)
        end = time.monotonic() + 90
        while time.monotonic() < end:
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                return process
            time.sleep(0.1)
        raise RuntimeError("the MLflow server does not answer")

    world.environment["MLFLOW_TRACKING_URI"] = f"http://127.0.0.1:{port}"
    try:
        yield start
    finally:
        for process in started:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        del world.environment["MLFLOW_TRACKING_URI"]


def server_fault(world: World, rng: random.Random, life_s: float, number: signal.Signals, back_after_s: float) -> str:
    with server(world) as start:
        running = start()
        after = rng.uniform(0, life_s)
        before = world.sweeps()
        sweep = world.start()
        time.sleep(after)
        with suppress(ProcessLookupError):
            os.killpg(running.pid, number)
        time.sleep(back_after_s)
        if number is signal.SIGSTOP:
            os.killpg(running.pid, signal.SIGCONT)
        else:
            running.wait()
            start()
        code = wait(sweep)
        output = world.output.read_text(errors="replace")
        recorded = [folder for folder in world.sweeps() if folder not in before]
        assert recorded or (code == 2 and "cannot open it" in output), f"no sweep, exit code {code}: {output[-500:]}"
        code = world.run("sync")
        assert code == 0, f"edlab sync failed with exit code {code}: {world.output.read_text(errors='replace')[-500:]}"
        world.sent_away += recorded
        check_server(world, recorded)
    return f"the server got {number.name} after {after:.2f} s, for {back_after_s:g} s"


@fault
def dead_server(world: World, rng: random.Random, life_s: float) -> str:
    return server_fault(world, rng, life_s, signal.SIGKILL, back_after_s=rng.choice([0.0, 5.0, 20.0]))


@fault
def stopped_server(world: World, rng: random.Random, life_s: float) -> str:
    return server_fault(world, rng, life_s, signal.SIGSTOP, back_after_s=rng.choice([5.0, 15.0]))


@fault
def locked_database(world: World, rng: random.Random, life_s: float) -> str:
    """Another program locks the database for a while, like a backup or an SQLite browser."""
    after, held = rng.uniform(0, life_s), rng.choice([2.0, 30.0])
    sweep = world.start()
    time.sleep(after)
    with closing(sqlite3.connect(world.work / "mlruns" / "mlflow.db", timeout=10)) as connection:
        connection.isolation_level = None
        connection.execute("BEGIN EXCLUSIVE")
        time.sleep(held)
        connection.execute("ROLLBACK")
    wait(sweep)
    return f"the database locked for {held:g} s after {after:.2f} s"


# -- broken links -----------------------------------------------------------------------------------------------


@fault
def broken_link(world: World, rng: random.Random, life_s: float) -> str:
    """One side of the link is killed."""
    assert world.board
    after, side = rng.uniform(1, life_s), rng.choice(["sshd", "ssh"])
    sweep = world.start()
    time.sleep(after)
    if side == "sshd":
        victims = world.board.connections()
    else:
        victims = [process for process in world.processes() if has_word(process, "ssh ")]
    for process in victims:
        sshd.kill(process)
    wait(sweep)
    return f"{side} killed after {after:.2f} s"
