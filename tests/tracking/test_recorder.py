"""A run that has ended is on the disk, whatever becomes of MLflow; and in MLflow once, whenever it comes back."""

from __future__ import annotations

import errno
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient

from edlab.config import TrackingConfig
from edlab.errors import StorageError
from edlab.record import RunRecord, Status
from edlab.tracking import Files, Recorder, Tracker
from edlab.tracking.spool import Spool

MakeRecord = Callable[..., RunRecord]


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


def away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call of MLflow fails, as if its server were gone."""

    def fail(*_: object, **__: object) -> None:
        raise OSError("connection refused")

    for name in ("create_run", "get_run", "search_runs", "log_batch", "get_experiment", "get_experiment_by_name"):
        monkeypatch.setattr(MlflowClient, name, fail)


def ended(recorder: Recorder, record: RunRecord, files: Files, folder: Path) -> RunRecord:
    recorder.begin(record)
    recorder.keep(record, files, folder)
    recorder.end(record, folder)
    return record


def in_mlflow(config: TrackingConfig, count: int = 100) -> list[str]:
    return [record.name for record in reversed(Tracker(config).latest(count))]


def test_a_run_is_in_its_folder_and_in_mlflow_and_nothing_waits(
    config: TrackingConfig, spool: Spool, record: MakeRecord, files: Files, tmp_path: Path
) -> None:
    recorder = Recorder(config, spool)
    one = ended(recorder, record(), files, tmp_path / "0")
    assert RunRecord.read(tmp_path / "0" / "result.json") == one
    assert Tracker(config).record(one.run_id).metrics == one.metrics
    assert recorder.flush() == 0
    assert spool.entries() == []


def test_what_ends_while_the_store_is_away_waits_and_is_sent_in_order_once(
    local: TrackingConfig,
    spool: Spool,
    record: MakeRecord,
    files: Files,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recorder = Recorder(local, spool)
    recorder.open()
    with monkeypatch.context() as broken:
        away(broken)
        for number, name in enumerate(("first", "second")):
            one = ended(recorder, record(name=name), files, tmp_path / str(number))
            assert one.unrecorded
            assert RunRecord.read(tmp_path / str(number) / "result.json") == one
        assert recorder.flush() == 2
        assert "connection refused" in recorder.problem
    for path in files.converted:
        path.unlink()  # as a cache that is cleared
    assert Recorder(local, spool).flush() == 0
    assert in_mlflow(local) == ["first", "second"]
    assert Recorder(local, spool).flush() == 0
    assert len(in_mlflow(local)) == 2
    sent = RunRecord.read(tmp_path / "0" / "result.json")
    assert (sent.unrecorded, sent.name) == ("", "first")
    assert len(Tracker(local).pull(sent.run_id, tmp_path / "pulled")) == 2


def test_the_next_run_sends_what_waits_before_itself(
    local: TrackingConfig,
    spool: Spool,
    record: MakeRecord,
    files: Files,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recorder = Recorder(local, spool)
    with monkeypatch.context() as broken:
        away(broken)
        ended(recorder, record(name="first"), files, tmp_path / "0")
    ended(recorder, record(name="second"), files, tmp_path / "1")
    assert set(in_mlflow(local)) == {"first", "second"}
    assert spool.entries() == []


def test_an_entry_that_mlflow_refuses_does_not_hold_up_the_others(
    local: TrackingConfig, spool: Spool, record: MakeRecord, files: Files, tmp_path: Path
) -> None:
    recorder = Recorder(local, spool)
    refused = record(name="refused", metrics={"not/../a name": 1.0})
    ended(recorder, refused, files, tmp_path / "0")
    ended(recorder, record(name="good"), files, tmp_path / "1")
    assert "good" in in_mlflow(local)
    assert recorder.flush() == 1
    assert recorder.problem


def test_what_is_to_go_elsewhere_is_left_alone(
    local: TrackingConfig,
    spool: Spool,
    record: MakeRecord,
    files: Files,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as broken:
        away(broken)
        other = TrackingConfig(name="mlflow", uri="http://user:hunter2@127.0.0.1:9", experiment="edlab")
        ended(Recorder(other, spool), record(), files, tmp_path / "0")
    here = Recorder(local, spool)
    assert here.flush() == 0
    assert here.not_for_this_store() == {"http://***@127.0.0.1:9 edlab": 1}
    assert len(spool.entries()) == 1
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(b"hunter2" in content for content in written)


def test_what_a_full_disk_did_not_take_is_written_when_there_is_room(
    local: TrackingConfig,
    spool: Spool,
    record: MakeRecord,
    files: Files,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recorder = Recorder(local, spool)

    def full(self: RunRecord, path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as broken:
        broken.setattr(RunRecord, "write", full)
        with pytest.raises(StorageError, match="No space left"):
            ended(recorder, record(name="first"), files, tmp_path / "0")
        assert recorder.flush() == 0
        assert recorder.lost() == ["first"]
    assert recorder.flush() == 0
    assert recorder.lost() == []
    assert RunRecord.read(tmp_path / "0" / "result.json").metrics == record().metrics
    assert len(in_mlflow(local)) == 1


def test_a_run_whose_model_is_gone_is_sent_without_it_and_holds_up_no_other(
    local: TrackingConfig, spool: Spool, record: MakeRecord, files: Files, tmp_path: Path
) -> None:
    """`edlab cache clear` while it was measured, say."""
    recorder = Recorder(local, spool)
    gone = Files(converted=(tmp_path / "removed.onnx",), dataset=files.dataset)
    ended(recorder, record(name="first"), gone, tmp_path / "0")
    ended(recorder, record(name="second"), files, tmp_path / "1")
    assert in_mlflow(local) == ["first", "second"]
    assert "removed.onnx" in RunRecord.read(tmp_path / "0" / "result.json").details["files_lost"]


def test_a_spool_without_room_costs_no_figure(
    local: TrackingConfig,
    spool: Spool,
    record: MakeRecord,
    files: Files,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recorder = Recorder(local, spool)
    with monkeypatch.context() as broken:
        broken.setattr(Spool, "_fill", raising(OSError(errno.ENOSPC, "No space left on device")))
        one = ended(recorder, record(), files, tmp_path / "0")
    assert one.status is Status.ok
    written = RunRecord.read(tmp_path / "0" / "result.json")
    assert written.metrics == one.metrics
    assert "No space left" in written.unrecorded
    assert recorder.flush() == 0
    assert RunRecord.read(tmp_path / "0" / "result.json").unrecorded == ""


def test_a_run_is_on_the_disk_before_its_pictures_are_drawn(
    local: TrackingConfig, spool: Spool, record: MakeRecord, files: Files, tmp_path: Path
) -> None:
    recorder, one, folder = Recorder(local, spool), record(), tmp_path / "0"
    recorder.begin(one)
    recorder.keep(one, files, folder)

    def draw() -> list[Path]:
        assert RunRecord.read(folder / "result.json").metrics == one.metrics
        assert [entry.record().uuid for entry in spool.entries()] == [one.uuid]
        (folder / "latency.png").write_bytes(b"PNG")
        return [folder / "latency.png"]

    recorder.end(one, folder, draw)
    assert "no_pictures" not in one.details
    assert "latency.png" in [file.path for file in MlflowClient(local.uri).list_artifacts(one.run_id)]


def test_a_picture_that_cannot_be_drawn_costs_nothing_else(
    local: TrackingConfig, spool: Spool, record: MakeRecord, files: Files, tmp_path: Path
) -> None:
    recorder, one = Recorder(local, spool), record()
    recorder.begin(one)
    recorder.keep(one, files, tmp_path / "0")
    recorder.end(one, tmp_path / "0", raising(ValueError("no font")))
    assert len(in_mlflow(local)) == 1
    assert "no font" in RunRecord.read(tmp_path / "0" / "result.json").details["no_pictures"]


@pytest.mark.parametrize("error", [KeyError("headers"), RuntimeError("an SDK's own")])
def test_an_error_of_any_library_leaves_the_run_waiting(
    local: TrackingConfig,
    spool: Spool,
    record: MakeRecord,
    files: Files,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    recorder = Recorder(local, spool)
    with monkeypatch.context() as broken:
        broken.setattr(MlflowClient, "log_batch", raising(error))
        assert ended(recorder, record(), files, tmp_path / "0").unrecorded
        assert recorder.flush() == 1
    assert recorder.flush() == 0


def test_a_database_that_another_program_has_locked_is_waited_for_then_sent_to_later(
    local: TrackingConfig, spool: Spool, record: MakeRecord, files: Files, tmp_path: Path
) -> None:
    recorder = Recorder(local, spool)
    one = record()
    recorder.begin(one)
    with closing(sqlite3.connect(local.uri.removeprefix("sqlite:///"))) as other:
        other.isolation_level = None
        other.execute("BEGIN EXCLUSIVE")
        recorder.keep(one, files, tmp_path / "0")
        recorder.end(one, tmp_path / "0")
        assert "database is locked" in one.unrecorded
        assert one.status is Status.ok
        interrupted = record(status=Status.interrupted)
        start = time.monotonic()
        recorder.keep(interrupted, files, tmp_path / "1")
        recorder.end(interrupted, tmp_path / "1")  # Ctrl-C: nobody waits
        assert time.monotonic() - start < 10  # two seconds, and what a busy machine adds
        other.execute("ROLLBACK")
    assert recorder.flush() == 0
    assert len(in_mlflow(local)) == 2


def raising(error: Exception) -> Callable[..., None]:
    def method(*_: object, **__: object) -> None:
        raise error

    return method
