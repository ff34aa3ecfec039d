"""A real PostgreSQL on the loopback interface, in a folder of its own."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_DEBIAN = sorted(Path("/usr/lib/postgresql").glob("*/bin"))  # where Debian keeps them, outside PATH
_PASSWORD = "postgres-Secret-77"


def _program(name: str) -> str | None:
    return shutil.which(name, path=os.pathsep.join([*map(str, reversed(_DEBIAN)), os.environ.get("PATH", "")]))


def missing() -> str:
    """What is not installed; empty if nothing is missing."""
    programs = [name for name in ("initdb", "pg_ctl") if not _program(name)]
    return ", ".join(programs + ([] if importlib.util.find_spec("psycopg2") else ["psycopg2"]))


@contextmanager
def postgres() -> Iterator[str]:
    """Start it with an empty database; gives the address. It refuses root: then it runs as nobody."""
    with tempfile.TemporaryDirectory() as temp, socket.socket() as probe:
        folder = Path(temp)
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        secret = folder / "password"
        secret.write_text(_PASSWORD)
        user = "nobody" if os.getuid() == 0 else None
        if user:
            shutil.chown(folder, user)
            shutil.chown(secret, user)

        def call(name: str, *arguments: str) -> None:
            program = _program(name)
            assert program
            subprocess.run([program, *arguments], check=True, user=user, cwd=folder, stdout=subprocess.DEVNULL)

        data = ["-D", str(folder / "data")]
        call("initdb", *data, "-U", "edlab", "--auth=scram-sha-256", f"--pwfile={secret}", "--no-sync")
        options = f"-h 127.0.0.1 -p {port} -k {folder} -c fsync=off"
        call("pg_ctl", *data, "-w", "-l", str(folder / "log"), "-o", options, "start")
        try:
            yield f"postgresql+psycopg2://edlab:{_PASSWORD}@127.0.0.1:{port}/postgres"
        finally:
            call("pg_ctl", *data, "-w", "-m", "immediate", "stop")
