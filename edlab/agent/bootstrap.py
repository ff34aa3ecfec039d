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
    home = os.path.expanduser("~")
    workdir = os.path.join(home, os.path.expanduser(workdir))
    folder = os.path.join(workdir, "files", key)
    os.makedirs(os.path.dirname(folder), exist_ok=True)
    with tempfile.TemporaryFile(dir=workdir) as probe:
        probe.write(b"\1" * _ROOM)
    if hashlib.sha256(received).hexdigest() == sha256:
        _keep(received, folder, name)
    agent = os.path.join(folder, name)
    return {
        "workdir": workdir,
        "agent": agent if os.path.exists(agent) else None,
        "cpus": sorted(os.sched_getaffinity(0)),
        "rsync": shutil.which("rsync") is not None,
        "numpy_error": _numpy_error(),
    }


def _keep(content: bytes, folder: str, name: str) -> None:
    """Write a file into a folder that appears whole, or was made by another meanwhile."""
    scratch = tempfile.mkdtemp(dir=os.path.dirname(folder))
    try:
        with open(os.path.join(scratch, name), "wb") as file:
            file.write(content)
        os.rename(scratch, folder)
    except OSError:
        shutil.rmtree(scratch, ignore_errors=True)
        if not os.path.exists(os.path.join(folder, name)):
            raise


def _numpy_error() -> str | None:
    try:
        import numpy  # noqa: F401
    except Exception as error:  # a build for another processor or Python fails in many ways
        return "%s: %s" % (type(error).__name__, str(error).strip().splitlines()[0] if str(error).strip() else "")
    return None


if __name__ == "__main__":
    main()
