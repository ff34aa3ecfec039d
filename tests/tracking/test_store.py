from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from mlflow import MlflowClient

from edlab.config import TrackingConfig
from edlab.errors import EdlabError, StorageError, TrackingError
from edlab.record import RunRecord
from edlab.tracking import Files, Tracker, ui


def config(uri: str) -> TrackingConfig:
    return TrackingConfig(name="mlflow", uri=uri, experiment="edlab")


def test_the_default_store_is_made_on_demand_and_in_silence(tmp_path: Path) -> None:
    code = (
        "from edlab.config import TrackingConfig\nfrom edlab.tracking import Tracker\n"
        "Tracker(TrackingConfig(name='mlflow', uri='sqlite:///mlruns/mlflow.db', experiment='edlab'))\n"
    )
    path = os.pathsep.join(filter(None, sys.path))
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("edlab")
    assert experiment is not None
    assert experiment.artifact_location == (tmp_path / "mlruns" / "artifacts").as_uri()


def test_processes_that_start_together_share_one_experiment(local: TrackingConfig) -> None:
    code = (
        "import sys\nfrom edlab.config import TrackingConfig\nfrom edlab.tracking import Tracker\n"
        "Tracker(TrackingConfig(name='mlflow', uri=sys.argv[1], experiment='shared'))\n"
    )
    children = [subprocess.Popen([sys.executable, "-c", code, local.uri]) for _ in range(3)]
    assert [child.wait(timeout=120) for child in children] == [0, 0, 0]
    names = [e.name for e in MlflowClient(tracking_uri=local.uri).search_experiments()]
    assert names.count("shared") == 1


OPEN = (
    "import sys\nfrom edlab.config import TrackingConfig\nfrom edlab.tracking import Tracker\n"
    "Tracker(TrackingConfig(name='mlflow', uri=sys.argv[1], experiment='edlab'))\n"
)


def start(uri: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen([sys.executable, "-c", OPEN, uri], stderr=subprocess.PIPE, env=environment)


def test_sweeps_that_start_at_once_in_an_empty_folder_all_open_the_store(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlruns/mlflow.db"
    children = [start(uri) for _ in range(3)]
    assert [(child.wait(timeout=120), child.stderr.read()) for child in children if child.stderr] == [(0, b"")] * 3
    Tracker(config(uri))
    assert {path.name for path in (tmp_path / "mlruns").iterdir()} == {"mlflow.db", ".mlflow.db.lock"}


@pytest.mark.parametrize("bytes_written", [1, 200_000, 450_000])
def test_a_start_that_is_killed_leaves_a_store_that_opens(tmp_path: Path, bytes_written: int) -> None:
    folder = tmp_path / "mlruns"
    child = start(f"sqlite:///{folder}/mlflow.db")

    def written() -> int:
        size = 0
        for path in folder.glob("*mlflow.db*"):
            with contextlib.suppress(FileNotFoundError):  # SQLite's journals come and go
                size += path.stat().st_size
        return size

    while child.poll() is None and not (folder.is_dir() and written() >= bytes_written):
        time.sleep(0.002)
    child.kill()
    child.wait()
    Tracker(config(f"sqlite:///{folder}/mlflow.db"))
    assert {path.name for path in folder.iterdir()} == {"mlflow.db", ".mlflow.db.lock"}


def test_a_half_made_store_of_an_older_version_says_what_to_do(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as half:
        half.execute("CREATE TABLE experiments (experiment_id INTEGER)")
        half.execute("CREATE TABLE _alembic_tmp_tags (key TEXT)")
    with pytest.raises(TrackingError, match="is incomplete") as caught:
        Tracker(config(f"sqlite:///{tmp_path}/mlflow.db"))
    assert "rm" in caught.value.hint
    assert (tmp_path / "mlflow.db").exists()


@pytest.mark.parametrize("name", ["a?b=c", "a%20b", "a#b", "a b", "ä"])
def test_the_database_is_where_the_user_stands_whatever_the_folders_name(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, record: Callable[[], RunRecord], files: Files
) -> None:
    folder = tmp_path / "work" / name
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("EDLAB_CACHE", str(tmp_path / "cache"))
    tracker = Tracker(config("sqlite:///mlruns/mlflow.db"))
    made = record()
    made.run_id = tracker.start(made)
    tracker.send(made, files)
    assert (folder / "mlruns" / "mlflow.db").stat().st_size
    assert list((folder / "mlruns" / "artifacts").rglob("result.json"))
    assert Tracker(config("sqlite:///mlruns/mlflow.db")).record(made.run_id).metrics == made.metrics
    assert [path.name for path in (tmp_path / "work").iterdir()] == [name]


def test_an_address_of_a_folder_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match="is a folder"):
        Tracker(config(f"sqlite:///{tmp_path}"))


def test_an_unreachable_server_is_an_error_within_seconds() -> None:
    with socket.socket() as taken:  # bound but not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        start = time.monotonic()
        with pytest.raises(TrackingError) as caught:
            Tracker(config(f"http://user:secret@127.0.0.1:{taken.getsockname()[1]}"))
    assert time.monotonic() - start < 30  # MLflow's own patience is a quarter of an hour
    assert "MLFLOW_TRACKING_URI" in caught.value.hint
    assert "secret" not in caught.value.message


def test_a_server_that_accepts_and_says_nothing_is_an_error() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(TrackingError):
            Tracker(config(f"http://127.0.0.1:{silent.getsockname()[1]}"))


def test_a_server_of_something_else_is_said(tmp_path: Path) -> None:
    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *arguments: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Other) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(TrackingError, match="is not an MLflow server"):
            Tracker(config(f"http://127.0.0.1:{server.server_port}"))
        server.shutdown()


def test_an_empty_address_is_said() -> None:
    with pytest.raises(TrackingError, match="is empty"):
        Tracker(config(""))


@pytest.mark.parametrize("uri", ["nonsense://x", "file:///tmp/runs"])
def test_an_address_that_mlflow_does_not_take_is_named(uri: str) -> None:
    with pytest.raises(TrackingError) as caught:
        Tracker(config(uri))
    assert "sqlite:///" in caught.value.hint


def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        Tracker(config(f"sqlite:///{tmp_path}/file/mlflow.db"))


def test_a_broken_database_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"this is not a database" * 100)
    with pytest.raises(EdlabError, match=r"mlflow\.db"):
        Tracker(config(f"sqlite:///{tmp_path}/mlflow.db"))


def test_a_database_of_another_version_of_mlflow_is_named_and_stays_as_it_is(local: TrackingConfig) -> None:
    """What reads by SQL works; everything else has one error."""
    store = dataclasses.replace(local, experiment="template")  # the database has it
    file = Path(store.uri.removeprefix("sqlite:///"))
    with contextlib.closing(sqlite3.connect(file)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = 'abcdefabcdef'")
    before = file.read_bytes()
    reading = Tracker(store, create=False)
    assert (reading.latest_sweep(), reading.everything(), reading.latest(10)) == ("", [], [])
    with pytest.raises(TrackingError, match="'a' is not found"):
        reading.record("a")
    for use in (
        lambda: Tracker(store),
        lambda: reading.matching("metrics.latency_ms < 1"),
        lambda: reading.serve_ui("127.0.0.1", 5000, print),
    ):
        with pytest.raises(TrackingError, match=r"another version of MLflow wrote .* its schema is abcdef") as caught:
            use()
        assert "mlflow db upgrade" in caught.value.hint
    assert file.read_bytes() == before


def test_a_deleted_experiment_says_how_to_restore_it(local: TrackingConfig) -> None:
    Tracker(local)
    client = MlflowClient(tracking_uri=local.uri)
    experiment = client.get_experiment_by_name(local.experiment)
    assert experiment is not None
    client.delete_experiment(experiment.experiment_id)
    with pytest.raises(TrackingError, match="deleted") as caught:
        Tracker(local)
    assert "restore" in caught.value.hint


def test_the_ui_takes_the_next_free_port() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert ui.free_port("127.0.0.1", port) > port


def test_the_page_of_a_server_is_its_own_ui(server_uri: str) -> None:
    said: list[str] = []
    assert Tracker(config(server_uri)).serve_ui("127.0.0.1", 5000, said.append) == 0
    assert said[0].startswith(f"{server_uri}/#/experiments/")


def test_the_page_of_a_server_has_no_login(server_uri: str, record: Callable[..., RunRecord]) -> None:
    said: list[str] = []
    tracker = Tracker(config(server_uri.replace("http://", "http://ann:se:cret@")))
    tracker.serve_ui("127.0.0.1", 5000, said.append)
    pages = [*said, tracker.address(record(run_id="abc"))]
    assert [page.partition("/#/")[0] for page in pages] == [server_uri] * 2
