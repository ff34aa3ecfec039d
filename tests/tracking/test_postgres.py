"""A remote MLflow server as a team has it: with PostgreSQL, behind a proxy that asks for a login."""

from __future__ import annotations

import base64
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import postgres
import pytest
from mlflow_server import MlflowServer
from workplace import Workplace

pytestmark = pytest.mark.skipif(bool(postgres.missing()), reason=f"not installed: {postgres.missing()}")

USER, PASSWORD = "ann", "proxy-Secret-77xx"


@contextmanager
def login_needed(upstream: str) -> Iterator[str]:
    """A proxy in front of a server that lets only the user pass (HTTP basic authentication); gives its address."""
    expected = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()

    class Proxy(BaseHTTPRequestHandler):
        def forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.headers.get("Authorization") != expected:
                self.answer(401, {}, b"a login is needed")
                return
            headers = {name: value for name, value in self.headers.items() if name not in ("Host", "Authorization")}
            request = urllib.request.Request(upstream + self.path, body or None, headers, method=self.command)
            try:
                with urllib.request.urlopen(request) as answer:
                    self.answer(answer.status, dict(answer.headers), answer.read())
            except urllib.error.HTTPError as error:
                self.answer(error.code, dict(error.headers), error.read())

        def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() in ("content-type", "content-disposition"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        setattr(Proxy, f"do_{method}", Proxy.forward)
    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{proxy.server_address[1]}"
        finally:
            proxy.shutdown()


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """The address of the proxy of an MLflow server with PostgreSQL."""
    with postgres.postgres() as database:
        mlflow = MlflowServer(folder, database)
        try:
            mlflow.start()
            with login_needed(mlflow.uri) as address:
                yield address
        finally:
            mlflow.end()


def test_a_sweep_on_a_server_with_postgresql_and_a_login_works_like_a_local_one(
    workplace: Workplace, tmp_path: Path
) -> None:
    with server(tmp_path / "server") as address:
        login = {"MLFLOW_TRACKING_USERNAME": USER, "MLFLOW_TRACKING_PASSWORD": PASSWORD}
        workplace.environment |= {"MLFLOW_TRACKING_URI": address, **login}
        swept = workplace.run("-m", "converter=onnxruntime,openvino")
        assert swept.returncode == 0, swept.stdout + swept.stderr
        assert "not in MLflow" not in swept.stdout
        records = workplace.records()
        runs = workplace.edlab("runs")
        assert all(record.run_id[:8] in runs.stdout for record in records)
        assert "digits_cnn: onnxruntime, openvino" not in runs.stdout  # the parent is not a row
        shown = workplace.edlab("show", records[0].sweep_id)
        assert "onnxruntime" in shown.stdout
        assert "openvino" in shown.stdout
        page = workplace.edlab("ui", "--no-browser")
        assert page.returncode == 0
        assert page.stdout.startswith(f"{address}/#/experiments/")
        assert f"edlab-{records[0].sweep_id}" in page.stdout

        workplace.environment["MLFLOW_TRACKING_PASSWORD"] = "a-wrong-password"
        refused = workplace.edlab("runs")
        assert refused.returncode == 2
        assert "Traceback" not in refused.stderr
        assert PASSWORD not in swept.stdout + swept.stderr + page.stdout + refused.stderr
