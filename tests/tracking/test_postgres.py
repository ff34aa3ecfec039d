"""A remote MLflow server as a team has it: with PostgreSQL, and MLflow's own basic authentication."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import postgres
import pytest
from mlflow_server import MlflowServer
from workplace import Workplace

pytestmark = pytest.mark.skipif(bool(postgres.missing()), reason=f"not installed: {postgres.missing()}")

USER, PASSWORD = "ann", "a-Secret-of-ann-77xx"


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """The address of an MLflow server with PostgreSQL that lets only the user pass."""
    with postgres.postgres() as database:
        mlflow = MlflowServer(folder, database, login=(USER, PASSWORD))
        try:
            mlflow.start()
            yield mlflow.uri
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
