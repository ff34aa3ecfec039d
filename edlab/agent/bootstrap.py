"""What the host checks on a board before the agent is sent: is the board suitable, and does it already have the agent?

This file alone is sent as text and run by the board's Python; it needs the standard library only. The answer is one
line of JSON among whatever the login shell prints.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import sys
import tempfile
from typing import Any

_ROOM = 4096  # bytes: a disk without space for one block is full


def main() -> None:
    """Print {"edlab": facts} for the request in the last argument, base64 of JSON: see `survey`."""
    request = json.loads(base64.b64decode(sys.argv[-1]).decode())
    facts = {}  # type: dict[str, Any]
    try:
        facts = survey(received=sys.stdin.buffer.read(), **request)
    except OSError as error:
        facts["storage_error"] = "cannot write %s: %s" % (error.filename or request["workdir"], error.strerror)
    sys.stdout.write("\n" + json.dumps({"edlab": facts}) + "\n")  # the shell may have printed an unfinished line


def survey(workdir: str, key: str, name: str, sha256: str, received: bytes) -> dict[str, Any]:
    """Create the work directory, and report the facts of the board.

    workdir (absolute), cpus (that this process may use), rsync (whether it is installed), numpy_error (None if numpy
    can be imported) and agent: the path of the file `name` under `key`, None if it is missing. `received` is that
    file's content if it has just been sent; it is kept if its SHA-256 is correct.
    """
    workdir = os.path.join(os.path.expanduser("~"), os.path.expanduser(workdir))
    os.makedirs(workdir, exist_ok=True)
    with tempfile.TemporaryFile(dir=workdir) as probe:
        probe.write(b"\1" * _ROOM)
    agent = os.path.join(workdir, "files", key, name)
    if hashlib.sha256(received).hexdigest() == sha256:
        _keep(received, agent)
    return {
        "workdir": workdir,
        "agent": agent if _holds(agent, sha256) else None,
        "cpus": sorted(os.sched_getaffinity(0)),
        "rsync": shutil.which("rsync") is not None,
        "numpy_error": _numpy_error(),
    }


def _keep(content: bytes, path: str) -> None:
    """Write a file atomically, even if other processes write it too."""
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        part = os.path.join(scratch, "part")
        with open(part, "wb") as file:
            file.write(content)
        os.replace(part, path)


def _holds(path: str, sha256: str) -> bool:
    """Whether the file exists and is complete: the board may have lost power while it was written."""
    if not os.path.exists(path):
        return False
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest() == sha256


def _numpy_error() -> str | None:
    try:
        import numpy  # noqa: F401
    except Exception as error:  # a build for another processor or Python can fail in many ways
        return "%s: %s" % (type(error).__name__, str(error).strip().splitlines()[0] if str(error).strip() else "")
    return None


if __name__ == "__main__":
    main()
