"""A real MLflow server on the loopback interface, which can be killed, stopped for a while, and started again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

ANSWERS_WITHIN_S = 90


class MlflowServer:
    """`mlflow server` on one port; its database and artifacts are in a folder that outlives it.

    `store` is the address of another database. With `login`, a name and a password, it is MLflow's own application for
    basic authentication, which refuses everyone else.
    """

    def __init__(self, folder: Path, store: str = "", login: tuple[str, str] | None = None) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self._login = login
        self._store = store or f"sqlite:///{folder}/mlflow.db"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        self.uri = f"http://{self.address}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        host, port = self.address.split(":")
        options = ["--host", host, "--port", port, "--workers", "1"]
        stores = ["--backend-store-uri", self._store]
        files = ["--artifacts-destination", str(self.folder / "files")]
        environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        if self._login:
            options += ["--app-name", "basic-auth"]
            environment |= self._authentication(*self._login)
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *options, *stores, *files],
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        deadline = time.monotonic() + ANSWERS_WITHIN_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=2):
                    return
            except OSError:
                time.sleep(0.2)
        raise RuntimeError(f"the MLflow server did not answer:\n{(self.folder / 'log').read_text()}")

    def _authentication(self, name: str, password: str) -> dict[str, str]:
        """The variables of MLflow's application for basic authentication, with one user."""
        path = self.folder / "basic_auth.ini"
        users = f"sqlite:///{self.folder}/users.db"
        path.write_text(f"[mlflow]\ndefault_permission = NO_PERMISSIONS\ndatabase_uri = {users}\n")
        return {
            "MLFLOW_AUTH_CONFIG_PATH": str(path),
            "MLFLOW_AUTH_ADMIN_USERNAME": name,
            "MLFLOW_AUTH_ADMIN_PASSWORD": password,
            "MLFLOW_FLASK_SERVER_SECRET_KEY": "a key of a test",
        }

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the server and its workers; after SIGKILL it can be started again."""
        assert self._process
        os.killpg(self._process.pid, number)
        if number is signal.SIGKILL:
            self._process.wait()
            self._process = None

    def end(self) -> None:
        """Kill it, if it runs."""
        if self._process and self._process.poll() is None:
            self.send(signal.SIGKILL)
