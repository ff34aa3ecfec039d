"""A vendor tool that crashes, hangs, eats memory or refuses is an error with its log, never a dead edlab."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from isolation_tools import (
    become_a_daemon,
    break_down,
    crash,
    double,
    eat,
    fail_at_length,
    fill_the_disk,
    hang,
    print_without_end,
    refuse,
    segfault,
    write_to_a_cd,
)

from edlab.errors import ConfigError, ConversionError, DataError, StorageError
from edlab.isolation import run_isolated


def call(tmp_path: Path, function: Any, **options: Any) -> Any:
    arguments = options.pop("arguments", {})
    return run_isolated(f"isolation_tools:{function.__name__}", arguments, log=tmp_path / "step.log", **options)


def alive(pid: int) -> bool:
    """Whether the process runs; one that nobody has waited for yet does not."""
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_result_comes_back_from_another_process_and_prints_go_to_the_log(tmp_path: Path) -> None:
    result = call(tmp_path, double, arguments={"value": 21})
    assert result["value"] == 42
    assert result["pid"] != os.getpid()
    assert "doubling 21" in (tmp_path / "step.log").read_text()


def test_edlabs_own_errors_come_out_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no images") as caught:
        call(tmp_path, refuse)
    assert caught.value.hint == "give dataset.path"


def test_other_exceptions_become_one_line_with_the_logs_tail(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r"break_down failed: ValueError: bad op$") as caught:
        call(tmp_path, break_down)
    assert "second line" in caught.value.log


def test_a_disk_that_takes_no_more_is_a_storage_error_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=f"cannot write {tmp_path}: No space left") as caught:
        call(tmp_path, fill_the_disk)
    assert "EDLAB_CACHE" in caught.value.hint
    with pytest.raises(StorageError, match=r"cannot write /mnt/cd/net\.onnx: Read-only"):
        call(tmp_path, write_to_a_cd, arguments={"path": "/mnt/cd/net.onnx"})


def test_a_crash_names_its_signal(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="SIGABRT") as caught:
        call(tmp_path, crash)
    assert "about to crash" in caught.value.log


def test_a_hang_is_ended_and_leaves_no_process(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    for limit in (3.0, 10.0, 60.0):  # the first in which this machine starts the process
        with pytest.raises(ConversionError, match="timed out after") as caught:
            call(tmp_path, hang, arguments={"pid_file": str(pid_file)}, timeout_s=limit)
        if pid_file.exists():
            break
    assert "timeout_s" in caught.value.hint
    assert not psutil.pid_exists(int(pid_file.read_text()))


def test_a_killed_parent_takes_the_child_and_its_children_along(tmp_path: Path) -> None:
    pid_file = tmp_path / "pids"
    arguments = {"pid_file": str(pid_file)}
    code = (
        "from pathlib import Path; from edlab.isolation import run_isolated; "
        f"run_isolated('isolation_tools:hang_with_child', {arguments!r}, log=Path({str(tmp_path / 'step.log')!r}))"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    )
    wait_until(lambda: pid_file.exists() and len(pid_file.read_text().split()) == 2)
    parent.kill()
    parent.wait()
    wait_until(lambda: not any(alive(int(pid)) for pid in pid_file.read_text().split()))


def test_too_much_memory_is_ended(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="memory") as caught:
        call(tmp_path, eat, memory_limit_gb=0.5, timeout_s=60)
    assert "memory_limit_gb" in caught.value.hint


def test_a_daemon_that_a_tool_leaves_is_ended(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    call(tmp_path, become_a_daemon, arguments={"pid_file": str(pid_file)})
    wait_until(lambda: not alive(int(pid_file.read_text())))


def test_output_without_end_is_ended_before_the_disk_is_full(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="printed more than 20 MB") as caught:
        call(tmp_path, print_without_end, log_limit_mb=20)
    assert "log_limit_mb" in caught.value.hint
    assert len(caught.value.log) < 100_000


def test_an_error_of_ten_megabytes_comes_out_short(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        call(tmp_path, fail_at_length)
    assert len(caught.value.message) + len(caught.value.log) < 200_000


def test_a_crash_in_native_code_says_which_line_called_it(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="SIGSEGV") as caught:
        call(tmp_path, segfault)
    assert "in segfault" in caught.value.log


def test_an_unknown_target_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no 'nothing'"):
        run_isolated(f"{__name__}:nothing", {}, log=tmp_path / "step.log")
