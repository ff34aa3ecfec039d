"""A Jetson's power mode and clocks, against a stand-in `nvpmodel`.

It prints what nvpmodel of Jetson Linux 35 and 36 prints: the answer to -q as in the Jetson Linux Developer Guide
("Supported Modes and Power Efficiency"), the list of -p --verbose as jetson_stats reads it (jtop/core/nvpmodel.py), and
the question before a reboot as published transcripts of Orin, Xavier and Thor boards show it.
"""

from __future__ import annotations

import os
import signal
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from edlab import devices
from edlab.agent.boards import jetson
from edlab.cache import Cache
from edlab.config import DeviceConfig
from edlab.errors import AgentError
from edlab.openssh import CONFIG_VARIABLE
from edlab.testing import sshd

NVPMODEL = """#!/bin/sh
# Mode 3 turns cores off, which wants a reboot; the mode in force is in the file beside this. While there is a file
# "held" it sets none.
state="$(dirname "$0")/mode"
echo "$@" >> "$(dirname "$0")/calls"
name() { case $1 in 0) echo MAXN;; 1) echo MODE_15W;; 3) echo MODE_7W;; esac; }
case "$1" in
-q) [ -e "$(dirname "$0")/mute" ] && { echo "NVPM ERROR: Permission denied"; exit 1; }
    echo "NVPM WARN: fan mode is not set!"
    echo "NV Power Mode: $(name "$(cat "$state")")"
    cat "$state";;
-p) for mode in 0 1 3; do echo "NVPM VERB: POWER_MODEL: ID=$mode NAME=$(name $mode)"; done;;
-m) if [ "$2" = 3 ]; then
        echo "NVPM WARN: Reboot required for changing to this power mode: 3"
        echo "NVPM WARN: DO YOU WANT TO REBOOT NOW? enter YES/yes to confirm:"
        read answer
        [ "$answer" = yes ] && echo rebooted > "$state"
        echo "NVPM ERROR: optMask is 1, no request for power mode"
    elif [ -e "$(dirname "$0")/locked" ]; then
        echo "sudo: a password is required"; exit 1
    else
        echo "NVPM WARN: Golden image context is already created"
        while [ -e "$(dirname "$0")/held" ]; do sleep 0.1; done
        echo "$2" > "$state"
    fi;;
esac
"""


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the stand-in, first on PATH; its power mode is 1."""
    return install_nvpmodel(tmp_path / "bin", monkeypatch)


def install_nvpmodel(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder.mkdir()
    (folder / "nvpmodel").write_text(NVPMODEL)
    # On a board sudo runs it as root; here it is the test's own.
    (folder / "sudo").write_text('#!/bin/sh\nshift\nexec "$@"\n')
    for program in folder.iterdir():
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    (folder / "mode").write_text("1\n")
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def mode(board: Path) -> str:
    return (board / "mode").read_text().strip()


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def connect(tmp_path: Path, **settings: Any) -> devices.AgentSession:
    session = devices.connect(DeviceConfig(name="jetson", **settings), Cache(tmp_path / "cache"))
    assert isinstance(session, devices.AgentSession)
    return session


def test_another_machine_has_nothing_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert jetson.describe(tmp_path) == {}
    assert jetson.state(tmp_path) == {}


def test_the_release_of_jetson_linux_is_read(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    line = "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed Jan  8 01:49:37"
    (tmp_path / "etc" / "nv_tegra_release").write_text(line + "\n")
    assert jetson.describe(tmp_path) == {"l4t": "36.4.3"}


@pytest.mark.parametrize(("least", "pinned"), [("306000000", False), ("1300500000", True)])
def test_mode_clock_and_whether_it_is_pinned_are_told(board: Path, tmp_path: Path, least: str, pinned: bool) -> None:
    for node, greatest in (("17000000.ga10b", "1300500000"), ("15340000.vic", "729600000")):
        folder = tmp_path / "sys/class/devfreq" / node
        folder.mkdir(parents=True)
        for name, value in (("cur_freq", "612000000"), ("min_freq", least), ("max_freq", greatest)):
            (folder / name).write_text(value + "\n")
    assert jetson.state(tmp_path) == {
        "power_mode": "MODE_15W",
        "power_mode_number": 1,
        "gpu_clock_mhz": 612.0,
        "jetson_clocks": pinned,
    }


def test_a_mode_that_this_user_may_not_ask_for_is_missing(board: Path, tmp_path: Path) -> None:
    (board / "mute").touch()
    assert jetson.state(tmp_path) == {}
    with (
        connect(tmp_path) as session,
        pytest.raises(AgentError, match="does not report") as caught,
    ):
        session.set_knob("power_mode", "MAXN")
    assert "sudoers" in caught.value.hint


@pytest.mark.parametrize("wanted", ["MAXN", "0"])
def test_the_mode_asked_for_is_set_and_the_one_before_restored(board: Path, tmp_path: Path, wanted: str) -> None:
    with connect(tmp_path) as session:
        assert session.set_knob("power_mode", wanted) == ("MODE_15W", "MAXN")
        assert session.state().power_mode == "MAXN"
        assert mode(board) == "0"
    wait_until(lambda: mode(board) == "1")


def test_an_agent_that_is_killed_leaves_the_mode_as_it_was(board: Path, tmp_path: Path) -> None:
    with connect(tmp_path) as session:
        agent = session.hello().pid
        session.set_knob("power_mode", "MAXN")
        os.killpg(agent, signal.SIGKILL)
        wait_until(lambda: mode(board) == "1")


@pytest.mark.skipif(bool(sshd.missing()), reason=f"not installed: {sshd.missing()}")
@pytest.mark.parametrize("killed", ["the host", "the link"])
def test_a_host_or_a_link_that_dies_leaves_the_mode_as_it_was(
    board: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: str
) -> None:
    with sshd.LoopbackBoard(tmp_path / "board") as remote:
        monkeypatch.setenv(CONFIG_VARIABLE, str(remote.config))
        with connect(tmp_path, host=remote.host, python=sys.executable) as session:
            session.set_knob("power_mode", "MAXN")
            assert mode(board) == "0"
            clients = [psutil.Process(session.process.pid)]
            for process in clients if killed == "the host" else remote.connections():
                sshd.kill(process)
            wait_until(lambda: mode(board) == "1")


ENDS: dict[str, Callable[[devices.AgentSession], None]] = {
    "closed": lambda session: session.close(),
    "killed": lambda session: os.killpg(session.hello().pid, signal.SIGKILL),
}


@pytest.mark.parametrize("end", ENDS)
def test_the_next_run_waits_until_the_mode_is_restored(
    board: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setenv("EDLAB_LOCK_DIR", str(tmp_path))
    waits: list[str] = []

    def release(phase: str, fraction: float | None, message: str) -> None:
        waits.append(message)
        (board / "held").unlink(missing_ok=True)

    with connect(tmp_path) as first, connect(tmp_path) as second:
        first.lock()
        first.set_knob("power_mode", "MAXN")
        (board / "held").touch()
        ENDS[end](first)
        second.lock(release)
        found = mode(board)
        (board / "held").unlink(missing_ok=True)
        assert waits
        assert found == "1"


def test_the_mode_in_force_is_left_alone(board: Path, tmp_path: Path) -> None:
    with connect(tmp_path) as session:
        session.set_knob("power_mode", "MODE_15W")
    assert not [call for call in (board / "calls").read_text().splitlines() if call.startswith("-m")]


def test_a_mode_that_wants_a_reboot_is_refused_and_the_board_stays_up(board: Path, tmp_path: Path) -> None:
    with (
        connect(tmp_path) as session,
        pytest.raises(AgentError, match=r"must reboot.* MODE_7W") as caught,
    ):
        session.set_knob("power_mode", "MODE_7W")
    assert "sudo nvpmodel -m 3" in caught.value.hint
    wait_until(lambda: mode(board) == "1")


def test_a_mode_that_the_board_lacks_is_answered_with_those_it_has(board: Path, tmp_path: Path) -> None:
    with connect(tmp_path) as session, pytest.raises(AgentError, match="no power mode 'TURBO'") as caught:
        session.set_knob("power_mode", "TURBO")
    assert "MAXN (0), MODE_15W (1), MODE_7W (3)" in caught.value.hint


def test_a_user_who_may_not_is_told_how_to_be_let(board: Path, tmp_path: Path) -> None:
    (board / "locked").touch()
    with connect(tmp_path) as session, pytest.raises(AgentError, match="a password is required") as caught:
        session.set_knob("power_mode", "MAXN")
    assert "NOPASSWD" in caught.value.hint


def test_a_machine_that_is_no_jetson_has_no_power_mode(tmp_path: Path) -> None:
    with connect(tmp_path) as session, pytest.raises(AgentError, match="no nvpmodel") as caught:
        session.set_knob("power_mode", "MAXN")
    assert "device.power_mode" in caught.value.hint
