"""What the host asks of a board before the agent is there: is it fit, and does it hold the agent already?

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

_ROOM = 4096  # bytes: a disk that takes no block takes nothing


def main() -> None:
    """Print {"edlab": facts} for the request in the last argument, base64 of JSON: see `survey`."""
    request = json.loads(base64.b64decode(sys.argv[-1]).decode())
    facts = {}  # type: dict[str, Any]
    try:
        facts = survey(received=sys.stdin.buffer.read(), **request)
    except OSError as error:
        facts["storage_error"] = "cannot write %s: %s" % (error.filename or request["workdir"], error.strerror)
    sys.stdout.write("\n" + json.dumps({"edlab": facts}) + "\n")  # the shell may have left a line unfinished


def survey(workdir: str, key: str, name: str, sha256: str, received: bytes) -> dict[str, Any]:
    """Make the work directory, and say what the board is.

    workdir (absolute), cpus (that this process may use), rsync (whether it is there), numpy_error (None where numpy
    can be imported) and agent: the path of the file `name` under `key`, None where it is not there. `received` is that
    file's content if it has just been sent; it is kept where its SHA-256 is right.
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
    """Write a file that appears whole, whoever else does the same."""
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        part = os.path.join(scratch, "part")
        with open(part, "wb") as file:
            file.write(content)
        os.replace(part, path)


def _holds(path: str, sha256: str) -> bool:
    """Whether the file is there, and whole: a board may have lost its power while it wrote."""
    if not os.path.exists(path):
        return False
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest() == sha256


def _numpy_error() -> str | None:
    try:
        import numpy  # noqa: F401
    except Exception as error:  # a build for another processor or Python fails in many ways
        return "%s: %s" % (type(error).__name__, str(error).strip().splitlines()[0] if str(error).strip() else "")
    return None


if __name__ == "__main__":
    main()
