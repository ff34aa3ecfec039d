"""MLflow's own UI, served from this machine."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys

from edlab.errors import TrackingError

_PORTS_TRIED = 20


def command(uri: str, host: str, port: int) -> list[str]:
    """The command that serves the UI for the runs of `uri`."""
    options = ["--backend-store-uri", uri, "--host", host, "--port", str(port), "--workers", "1"]
    return [sys.executable, "-m", "mlflow", "ui", *options]


def serve(uri: str, host: str, port: int) -> int:
    """Serve the UI on this free port until it ends, or Ctrl-C or SIGTERM ends it and its workers; return its exit code.

    Warnings of MLflow's own code are hidden.
    """
    # MLflow's server can run jobs for language models in separate workers, which are not needed here.
    environment = {
        "PYTHONWARNINGS": "ignore",
        **os.environ,
        "MLFLOW_LOGGING_LEVEL": "ERROR",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    server = subprocess.Popen(command(uri, host, port), env=environment, start_new_session=True)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        return server.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)  # MLflow's server has its own workers
        server.wait()


def free_port(host: str, port: int) -> int:
    """`port`, or the next one that is free. Raises `TrackingError` if the next twenty are in use."""
    for candidate in range(port, port + _PORTS_TRIED):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, candidate))
            except OSError:
                continue
            return candidate
    raise TrackingError(
        f"ports {port} to {port + _PORTS_TRIED - 1} of {host} are in use", hint="choose another port with --port"
    )
