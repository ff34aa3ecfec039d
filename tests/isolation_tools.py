"""Stand-ins for a vendor's tool that misbehaves. A module of its own, so that their processes start quickly."""

from __future__ import annotations

import errno
import os
import subprocess
import time
from pathlib import Path

from edlab.errors import DataError


def double(value: int) -> dict[str, int]:
    print("doubling", value)
    return {"value": 2 * value, "pid": os.getpid()}


def refuse() -> None:
    raise DataError("no images in 'photos'", hint="give dataset.path")


def break_down() -> None:
    raise ValueError("bad op\nsecond line")


def crash() -> None:
    print("about to crash", flush=True)
    os.abort()


def hang(pid_file: str) -> None:
    Path(pid_file).write_text(str(os.getpid()))
    time.sleep(600)


def eat() -> None:
    hoard = []
    while True:
        hoard.append(bytearray(os.urandom(1 << 20)) * 64)


def fill_the_disk() -> None:
    with open("/dev/full", "wb") as file:
        file.write(b"weights")


def write_to_a_cd(path: str) -> None:
    raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)


def hang_with_child(pid_file: str) -> None:
    child = subprocess.Popen(["sleep", "600"])
    Path(pid_file).write_text(f"{os.getpid()} {child.pid}")
    time.sleep(600)


def become_a_daemon(pid_file: str) -> None:
    """As vendors' servers do: a session of its own, and no parent."""
    script = f"echo $$ > {pid_file}; exec sleep 600"
    subprocess.Popen(["sh", "-c", script], start_new_session=True)
    while not Path(pid_file).exists() or not Path(pid_file).read_text().strip():
        time.sleep(0.01)


def print_without_end() -> None:
    while True:
        print("x" * 1_000_000)


def fail_at_length() -> None:
    raise DataError("m" * 10_000_000, log="\udcff" * 1_000_000)


def segfault() -> None:
    import ctypes

    ctypes.string_at(0)
