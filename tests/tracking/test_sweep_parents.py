"""The parent run of a sweep: its rows are its children, and nothing takes it for a row."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from edlab.config import TrackingConfig
from edlab.errors import TrackingError
from edlab.record import RunRecord, Status, Verdict, VerdictState
from edlab.tracking import Files, Recorder, Spool, Summary, Tracker

MakeRecord = Callable[..., RunRecord]
SWEEP = "20250101-120000-abcd"  # of the records


def summary(recorder: Recorder, **changes: object) -> Summary:
    values: dict[str, object] = {
        "sweep_id": SWEEP,
        "name": "digits_cnn: fp32, int8",
        "note": "**Compared:** two",
        "status": Status.ok,
        "started_ms": 1_735_732_800_000,
        "ended_ms": 1_735_732_860_000,
        "store": recorder.store_name(),
    }
    return Summary(**{**values, **changes})  # type: ignore[arg-type]


def row(recorder: Recorder, record: RunRecord, folder: Path, number: int) -> RunRecord:
    place = folder / "sweeps" / record.sweep_id / str(number)
    recorder.begin(record)
    recorder.keep(record, Files(), place)
    recorder.end(record, place)
    return record


def all_runs(config: TrackingConfig) -> list[Run]:
    client = MlflowClient(tracking_uri=config.uri)
    experiment = client.get_experiment_by_name(config.experiment)
    assert experiment
    return list(client.search_runs([experiment.experiment_id]))


def parents(config: TrackingConfig) -> list[Run]:
    return [run for run in all_runs(config) if "edlab.sweep" in run.data.tags]


def children(config: TrackingConfig) -> list[Run]:
    return [run for run in all_runs(config) if "mlflow.parentRunId" in run.data.tags]


def test_a_sweeps_rows_are_the_children_of_a_run_with_its_summary(
    local: TrackingConfig, record: MakeRecord, tmp_path: Path
) -> None:
    recorder = Recorder(local, Spool(tmp_path / "spool"))
    table = tmp_path / "summary.json"
    table.write_text(json.dumps({"columns": ["row"], "data": [[1], [2]]}))
    recorder.begin_sweep(SWEEP, "digits_cnn: fp32, int8", "running")
    rows = [row(recorder, record(), tmp_path, number) for number in range(2)]
    (begun,) = parents(local)
    assert begun.info.status == "RUNNING"
    recorder.end_sweep(summary(recorder, files=(str(table),)))
    assert recorder.flush() == 0
    assert recorder.unsent_summaries() == []
    (parent,) = parents(local)
    assert (parent.info.status, parent.info.run_name) == ("FINISHED", "digits_cnn: fp32, int8")
    assert parent.data.tags["mlflow.note.content"] == "**Compared:** two"
    assert {run.data.tags["mlflow.parentRunId"] for run in children(local)} == {parent.info.run_id}
    assert {run.info.run_id for run in children(local)} == {each.run_id for each in rows}
    mlflow.set_tracking_uri(local.uri)  # load_table of a client reads the global one
    try:
        found = MlflowClient().load_table(parent.info.experiment_id, "summary.json", [parent.info.run_id])
    finally:
        mlflow.set_tracking_uri(None)  # it also unsets the variable, which runs of other tests would read
    assert len(found) == 2

    tracker = Tracker(local)
    assert [each.run_id for each in tracker.latest(3)] == [each.run_id for each in reversed(rows)]
    assert len(tracker.records(SWEEP)) == 2
    assert tracker.find("digits_cnn-int8-onnxruntime-cpu").run_id == rows[1].run_id
    with pytest.raises(TrackingError, match=f"is the sweep {SWEEP}"):
        tracker.find(parent.info.run_id[:12])


def test_a_summary_waits_until_mlflow_has_all_rows_and_then_completes_their_parent(
    local: TrackingConfig, record: MakeRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path / "spool")
    recorder = Recorder(local, spool)
    with monkeypatch.context() as away:
        away.setattr(Tracker, "send", lambda *arguments: (_ for _ in ()).throw(TrackingError("away")))
        away.setattr(Tracker, "start", lambda *arguments: (_ for _ in ()).throw(TrackingError("away")))
        away.setattr(Tracker, "begin_sweep", lambda *arguments: (_ for _ in ()).throw(TrackingError("away")))
        recorder.begin_sweep(SWEEP, "two", "running")
        row(recorder, record(), tmp_path, 0)
        recorder.end_sweep(summary(recorder, status=Status.interrupted))
        recorder.send_briefly()
        assert recorder.unsent_summaries() == [SWEEP]
    assert parents(local) == []
    assert Recorder(local, spool).flush() == 0
    (parent,) = parents(local)
    assert parent.info.status == "KILLED"
    assert parent.info.start_time == 1_735_732_800_000
    (child,) = children(local)
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    Recorder(local, spool).flush()
    assert len(parents(local)) == 1


def test_the_parent_of_a_killed_sweep_is_ended_by_the_next_run(
    local: TrackingConfig, record: MakeRecord, tmp_path: Path
) -> None:
    killed = Tracker(local)
    killed.begin_sweep(SWEEP, "two", "running")
    killed._sweeps._alive[SWEEP].let_go()  # as the kernel does
    Tracker(local).start(record(sweep_id="20250102-120000-abcd"))
    (parent,) = parents(local)
    assert parent.info.status == "KILLED"
    assert parent.data.tags["edlab.status"] == "interrupted"


@pytest.mark.parametrize(
    ("state", "shown"),
    [(VerdictState.valid, "net"), (VerdictState.degraded, "⚠ net"), (VerdictState.invalid, "✗ net")],
)
def test_a_run_that_is_not_valid_is_marked_in_the_list(
    local: TrackingConfig, record: MakeRecord, state: VerdictState, shown: str
) -> None:
    tracker, one = Tracker(local), record(name="net", verdict=Verdict(state=state))
    tracker.start(one)
    tracker.send(one, Files())
    (run,) = all_runs(local)
    assert run.info.run_name == shown
    assert run.data.tags["mlflow.note.content"].startswith(f"**{state}**")
    assert tracker.record("net").name == tracker.latest(1)[0].name == "net"
    visible = [key for key in run.data.tags if not key.startswith("mlflow.")]
    assert not {"edlab.pid", "edlab.lock", "edlab.boot_id", "edlab.machine", "edlab.uuid"} & set(visible)


def test_a_run_that_an_older_version_began_is_completed(local: TrackingConfig, record: MakeRecord) -> None:
    tracker, one = Tracker(local), record()
    run_id = tracker.start(one)
    client = MlflowClient(tracking_uri=local.uri)
    client.delete_tag(run_id, "mlflow.edlab.uuid")
    client.set_tag(run_id, "edlab.uuid", one.uuid)
    assert Tracker(local).send(one, Files()) == run_id
