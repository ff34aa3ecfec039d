from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient

from edlab.cache import sha256_files
from edlab.config import TrackingConfig
from edlab.errors import ConfigError, StorageError, TrackingError
from edlab.record import Reason, RunRecord, Stage, Status, Verdict, VerdictState
from edlab.tracking import Files, Tracker
from edlab.tracking.store import Store

MakeRecord = Callable[..., RunRecord]


def made(tracker: Tracker, record: RunRecord, files: Files | None = None) -> RunRecord:
    """The record of a run that was started and finished."""
    record.run_id = tracker.start(record)
    tracker.send(record, files or Files())
    return record


def test_a_run_reads_back_as_it_was_written(config: TrackingConfig, record: MakeRecord, files: Files) -> None:
    tracker = Tracker(config)
    run_id = made(tracker, record(), files).run_id
    client = MlflowClient(tracking_uri=config.uri)
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics == {"accuracy_top1": 0.97, "latency_ms": 1.25}
    assert run.data.params["quantization.calibration.images"] == "64"
    assert run.data.params["device.runtimes"] == '{"a": "b"}'
    expected = {
        "edlab.status": "ok",
        "edlab.verdict": "DEGRADED",
        "edlab.verdict_reasons": "tier_smoke",
        "edlab.weights": "pretrained",
        "edlab.artifact_sha256": "ab" * 32,
        "edlab.sweep_id": "20250101-120000-abcd",
        "edlab.missing.power_w": "no power sensor was found",
    }
    assert expected.items() <= run.data.tags.items()
    assert run.inputs.dataset_inputs[0].dataset.name == "digits"
    assert json.loads(run.inputs.dataset_inputs[0].dataset.profile) == {"images": 360}


def test_a_run_keeps_its_files(config: TrackingConfig, record: MakeRecord, files: Files, tmp_path: Path) -> None:
    run_id = made(Tracker(config), record(), files).run_id
    client = MlflowClient(tracking_uri=config.uri)
    names = {file.path for file in client.list_artifacts(run_id)}
    assert names == {
        "converted", "conversion.log", "environment.json", "latencies.npy", "latency.png", "result.json",
        "throughput.png",
    }  # fmt: skip
    folder = Path(client.download_artifacts(run_id, "", str(mkdir(tmp_path / "back"))))
    assert (folder / "converted" / "model.bin").read_bytes() == files.converted[1].read_bytes()
    assert (folder / "conversion.log").read_text() == "exported\nquantized\n"
    assert np.array_equal(np.load(folder / "latencies.npy"), np.arange(100))
    assert json.loads((folder / "environment.json").read_text()) == {"host": {"python": "3.11"}}
    assert RunRecord.read(folder / "result.json").metrics == record().metrics


def mkdir(path: Path) -> Path:
    path.mkdir(exist_ok=True)
    return path


def test_the_converted_model_is_a_logged_model_with_the_runs_metrics(
    config: TrackingConfig, record: MakeRecord, files: Files, tmp_path: Path
) -> None:

    run_id = made(Tracker(config), record(name="net.v1-int8"), files).run_id
    client = MlflowClient(tracking_uri=config.uri)
    run = client.get_run(run_id)
    [output] = run.outputs.model_outputs
    model = client.get_logged_model(output.model_id)
    assert model.status == "READY"
    assert model.name == "net_v1-int8"
    assert model.source_run_id == run_id
    assert {metric.key: metric.value for metric in model.metrics} == record().metrics
    assert model.params["model.name"] == "digits_cnn"
    mlflow.set_tracking_uri(config.uri)
    try:
        folder = mlflow.artifacts.download_artifacts(f"models:/{model.model_id}", dst_path=str(mkdir(tmp_path / "m")))
    finally:
        mlflow.set_tracking_uri(None)  # it also unsets the variable, which runs of other tests would read
    assert Path(folder, "model.bin").read_bytes() == files.converted[1].read_bytes()


def test_a_local_model_is_stored_once(local: TrackingConfig, record: MakeRecord, files: Files, tmp_path: Path) -> None:
    made(Tracker(local), record(), files)
    copies = list((tmp_path / "mlruns").rglob("model.bin"))
    assert len(copies) == 2
    assert copies[0].samefile(copies[1])
    assert not copies[0].samefile(files.converted[1])


def test_what_becomes_known_after_the_start_is_added(config: TrackingConfig, record: MakeRecord) -> None:
    tracker, one = Tracker(config), record()
    one.run_id = tracker.start(one)
    one.params["dataset.images_scored"] = 360
    tracker.send(one, Files())
    assert MlflowClient(tracking_uri=config.uri).get_run(one.run_id).data.params["dataset.images_scored"] == "360"


def test_many_and_long_values_fit_mlflows_limits(config: TrackingConfig, record: MakeRecord) -> None:
    one = record(
        params={f"p{i}": "x" * 7000 for i in range(250)},
        missing={f"metric{i}": "y" * 9000 for i in range(150)},
        reason="z" * 9000,
    )
    run = MlflowClient(tracking_uri=config.uri).get_run(made(Tracker(config), one).run_id)
    assert len(run.data.params) == 250
    assert sum("edlab.missing." in key for key in run.data.tags) == 150


def test_a_failed_run_keeps_what_it_had(config: TrackingConfig, record: MakeRecord, files: Files) -> None:
    failed = record(
        status=Status.failed,
        stage=Stage.deploy,
        reason="agent lost",
        hint="look",
        log_tail="boom",
        verdict=None,
    )
    run_id = made(Tracker(config), failed, Files(converted=files.converted)).run_id
    client = MlflowClient(tracking_uri=config.uri)
    run = client.get_run(run_id)
    assert run.info.status == "FAILED"
    ended = {
        "edlab.status": "failed",
        "edlab.stage": "deploy",
        "edlab.reason": "agent lost",
        "edlab.hint": "look",
    }
    assert ended.items() <= run.data.tags.items()
    assert {file.path for file in client.list_artifacts(run_id, "converted")} == {
        "converted/model.xml",
        "converted/model.bin",
    }
    assert "failure.log" in {file.path for file in client.list_artifacts(run_id)}


@pytest.mark.parametrize(
    ("status", "expected"), [(Status.skipped, "FINISHED"), (Status.interrupted, "KILLED"), (Status.failed, "FAILED")]
)
def test_each_end_has_its_mlflow_status(
    local: TrackingConfig, record: MakeRecord, status: Status, expected: str
) -> None:
    run_id = made(Tracker(local), record(status=status, verdict=None)).run_id
    run = MlflowClient(tracking_uri=local.uri).get_run(run_id)
    assert run.info.status == expected
    assert run.data.tags["edlab.status"] == status


@pytest.mark.parametrize("method", ["log_batch", "log_inputs", "log_artifacts", "log_outputs", "set_terminated"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("reaped", [True, False])
def test_a_run_whose_sending_breaks_off_anywhere_is_completed_by_the_next_and_nothing_is_there_twice(
    config: TrackingConfig,
    record: MakeRecord,
    files: Files,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    error: BaseException,
    reaped: bool,
) -> None:
    tracker, one = Tracker(config), record()
    run_id = tracker.start(one)
    with monkeypatch.context() as broken:
        broken.setattr(MlflowClient, method, raising(error))
        with pytest.raises((StorageError, KeyboardInterrupt)):
            tracker.send(one, files)
    later = Tracker(config)
    if reaped:
        assert later.reap() == [run_id]
    assert later.send(one, files) == run_id
    assert later.send(one, files) == run_id
    client = MlflowClient(tracking_uri=config.uri)
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["edlab.status"] == "ok"
    assert "edlab.reason" not in run.data.tags
    assert [metric.value for metric in client.get_metric_history(run_id, "latency_ms")] == [1.25]
    assert len(run.outputs.model_outputs) == len(run.inputs.dataset_inputs) == 1
    assert {"result.json", "converted", "latencies.npy"} <= {file.path for file in client.list_artifacts(run_id)}
    assert later.record(run_id).metrics == one.metrics
    assert not (Store(config).lock_folder / run.data.tags["mlflow.edlab.lock"]).exists()


def test_a_start_that_fails_leaves_no_sign_of_life(
    local: TrackingConfig, record: MakeRecord, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tracker = Tracker(local)
    for method, name in (("create_run", "none"), ("log_batch", "half")):
        with monkeypatch.context() as broken:
            broken.setattr(MlflowClient, method, raising(OSError("connection reset")))
            with pytest.raises(TrackingError):
                tracker.start(record(name=name))
    assert tracker.reap() == [tracker.find("half").run_id]
    assert not list((tmp_path / "mlruns" / "locks").iterdir())


def raising(error: BaseException) -> Callable[..., None]:
    def method(*_: object, **__: object) -> None:
        raise error

    return method


# -- killed processes ------------------------------------------------------------------------------------------------

START_AND_WAIT = """
import sys, time
from edlab.cache import sha256_files
from edlab.config import TrackingConfig
from edlab.record import RunRecord
from edlab.tracking import Tracker
record = RunRecord(name="killed", sweep_id="s", started_at="2025-01-01T12:00:00+00:00", params={"model.name": "net"})
tracker = Tracker(TrackingConfig(name="mlflow", uri=sys.argv[1], experiment=sys.argv[2]))
print(tracker.start(record), flush=True)
time.sleep(600)
"""


def test_a_killed_run_is_ended_at_the_next_start_and_a_living_one_is_not(
    config: TrackingConfig, record: MakeRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDLAB_CACHE", str(tmp_path / "cache"))
    child = subprocess.Popen(
        [sys.executable, "-c", START_AND_WAIT, config.uri, config.experiment], stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout is not None
        killed = child.stdout.readline().strip()
        assert killed
        tracker, client = Tracker(config), MlflowClient(tracking_uri=config.uri)
        assert tracker.reap() == []
        assert client.get_run(killed).info.status == "RUNNING"
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    living = tracker.start(record())
    assert client.get_run(living).info.status == "RUNNING"
    run = client.get_run(killed)
    assert run.info.status == "KILLED"
    assert run.data.tags["edlab.status"] == "interrupted"
    assert tracker.record("killed").status is Status.interrupted
    assert tracker.record("killed").params == {"model.name": "net"}
    assert Tracker(config).reap() == []


def test_a_killed_run_that_could_not_be_ended_is_ended_by_the_next(
    local: TrackingConfig, record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = Tracker(local)
    run_id = tracker.start(record())
    tracker._let_go(run_id)  # as the kernel does
    assert [run.status for run in tracker.latest(1)] == [Status.interrupted]  # before anybody has written so
    assert "was killed" in tracker.latest(1)[0].reason
    assert "again" in tracker.latest(1)[0].hint
    with monkeypatch.context() as broken:
        broken.setattr(MlflowClient, "log_batch", raising(OSError("database is locked")))
        with pytest.raises(TrackingError):
            tracker.reap()
    assert tracker.reap() == [run_id]


def test_a_run_from_before_a_restart_is_dead(local: TrackingConfig, record: MakeRecord) -> None:
    tracker = Tracker(local)
    run_id = tracker.start(record())
    MlflowClient(tracking_uri=local.uri).set_tag(run_id, "mlflow.edlab.boot_id", "another boot")
    assert tracker.reap() == [run_id]


def test_runs_of_other_hosts_are_left_alone(local: TrackingConfig, record: MakeRecord) -> None:
    tracker = Tracker(local)
    run_id = tracker.start(record())
    client = MlflowClient(tracking_uri=local.uri)
    client.set_tag(run_id, "mlflow.edlab.boot_id", "another boot")
    client.set_tag(run_id, "edlab.host", "another-host")
    assert tracker.reap() == []


def test_runs_of_another_machine_of_this_name_are_left_alone(local: TrackingConfig, record: MakeRecord) -> None:
    tracker = Tracker(local)
    run_id = tracker.start(record())
    client = MlflowClient(tracking_uri=local.uri)
    client.set_tag(run_id, "mlflow.edlab.boot_id", "another boot")
    client.set_tag(run_id, "mlflow.edlab.machine", "another machine")
    assert tracker.reap() == []


# -- finding ---------------------------------------------------------------------------------------------------------


def test_a_run_is_found_by_id_prefix_and_latest_of_a_name(config: TrackingConfig, record: MakeRecord) -> None:
    tracker = Tracker(config)
    first = made(tracker, record(metrics={"latency_ms": 1.0}))
    second = made(tracker, record(metrics={"latency_ms": 2.0}))
    assert tracker.record(first.run_id).metrics == {"latency_ms": 1.0}
    assert tracker.record(second.run_id[:12]).run_id == second.run_id
    assert tracker.record(record().name).run_id == second.run_id


def test_an_ambiguous_prefix_lists_the_candidates(local: TrackingConfig, record: MakeRecord) -> None:
    tracker = Tracker(local)
    ids = [made(tracker, record()).run_id for _ in range(17)]  # of 17 ids, two begin alike
    prefix = next(i[0] for i in ids if sum(other[0] == i[0] for other in ids) > 1)
    with pytest.raises(TrackingError, match="is ambiguous") as caught:
        tracker.find(prefix)
    assert sum(i[:12] in caught.value.hint for i in ids) >= 2


@pytest.mark.parametrize("name", ["nothing", "abcdef123456", "it's"])
def test_a_run_that_does_not_exist_is_named(local: TrackingConfig, name: str) -> None:
    with pytest.raises(TrackingError, match="is not found") as caught:
        Tracker(local).find(name)
    assert "edlab runs" in caught.value.hint


@pytest.mark.parametrize("name", ["a's.onnx", 'a"s.onnx', """a's "b".onnx""", "100%_a\\b"])
def test_a_run_is_found_whatever_its_name(config: TrackingConfig, record: MakeRecord, name: str) -> None:
    tracker = Tracker(config)
    run_id = made(tracker, record(name=name)).run_id
    made(tracker, record(name=name.replace("'", "x").replace("\\", "x") + "x"))
    assert tracker.find(name).run_id == run_id


def test_a_sweeps_records_come_in_the_order_of_its_runs(config: TrackingConfig, record: MakeRecord) -> None:
    tracker = Tracker(config)
    for sweep, name in (("a", "one"), ("b", "other"), ("a", "two")):
        made(tracker, record(sweep_id=sweep, name=name))
    assert [one.name for one in tracker.records("a")] == ["one", "two"]


def test_a_sweep_is_found_by_the_beginning_of_its_id(config: TrackingConfig, record: MakeRecord) -> None:
    tracker = Tracker(config)
    for sweep in ("20250101-120000-abcd", "20250101-130000-ef01", "20250102-120000-2345"):
        made(tracker, record(sweep_id=sweep, name=sweep))
    assert [one.name for one in tracker.records("20250102")] == ["20250102-120000-2345"]
    assert [one.name for one in tracker.records("20250101-13")] == ["20250101-130000-ef01"]
    with pytest.raises(TrackingError, match="ambiguous") as ambiguous:
        tracker.records("20250101")
    assert "20250101-120000-abcd, 20250101-130000-ef01" in ambiguous.value.hint
    assert tracker.records("2") == []


def test_pull_copies_the_converted_model_and_never_overwrites(
    config: TrackingConfig, record: MakeRecord, files: Files, tmp_path: Path
) -> None:
    tracker, to = Tracker(config), tmp_path / "new" / "folder"
    run_id = made(tracker, record(), files).run_id
    paths = tracker.pull(run_id[:10], to)
    assert sorted(path.name for path in paths) == ["model.bin", "model.xml"]
    assert (to / "model.bin").read_bytes() == files.converted[1].read_bytes()
    (to / "model.xml").write_text("mine")
    with pytest.raises(TrackingError, match="already exist"):
        tracker.pull(run_id, to)
    assert (to / "model.xml").read_text() == "mine"


def test_pull_without_a_folder_makes_one_with_the_name_and_the_id(
    local: TrackingConfig, record: MakeRecord, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = Tracker(local)
    run_id = made(tracker, record(name="my net"), files).run_id
    monkeypatch.chdir(tmp_path)
    folder = f"my-net-{run_id[:8]}"
    assert [str(path) for path in tracker.pull(run_id)] == [f"{folder}/model.bin", f"{folder}/model.xml"]
    assert (tmp_path / folder / "model.xml").is_file()


def test_pull_by_name_takes_the_latest_run_that_made_a_model(
    local: TrackingConfig, record: MakeRecord, files: Files, tmp_path: Path
) -> None:
    tracker = Tracker(local)
    made(tracker, record(name="net"), files)
    failed = made(tracker, record(name="net", status=Status.failed, stage=Stage.load, tags={}))
    assert tracker.find("net").run_id == failed.run_id
    assert tracker.pull("net", tmp_path / "out")


def test_pull_of_a_run_without_a_model_says_where_it_ended(local: TrackingConfig, record: MakeRecord) -> None:
    tracker = Tracker(local)
    run_id = made(tracker, record(status=Status.failed, stage=Stage.convert, reason="crash", verdict=None)).run_id
    with pytest.raises(TrackingError, match="convert"):
        tracker.pull(run_id, Path("unused"))


def packaged(files: Files) -> Files:
    """The same files with an edlab.json, as a run records them."""
    manifest = files.converted[0].with_name("edlab.json")
    listed = [{"name": path.name, "sha256": sha256_files([path])} for path in files.converted]
    manifest.write_text(json.dumps({"files": listed, "example": None, "no_example": "a test"}))
    return Files(converted=(*files.converted, manifest), named=files.named, dataset=files.dataset)


def test_a_promoted_model_is_pulled_by_its_alias_and_its_version(
    config: TrackingConfig, record: MakeRecord, files: Files, tmp_path: Path
) -> None:
    tracker, name = Tracker(config), f"net {config.experiment[:20]}".replace("[", "-").replace("]", "")
    tags = {"artifact_sha256": sha256_files(files.converted)}
    first = made(tracker, record(tags=tags), packaged(files)).run_id
    row, promoted = tracker.promote(first, name, "champion")
    assert (row.run_id, promoted.version, promoted.existed) == (first, "1", False)
    assert str(promoted.address) == f"models:/{name}@champion"
    assert tracker.promote(first, name)[1][1:3] == ("1", True)
    assert tracker.promote(first, name, "champion")[1].alias_before == "1"
    second = made(tracker, record(tags=tags), packaged(files)).run_id
    assert [tracker.promote(second, name, alias)[1].alias_before for alias in ("champion", "new", "")] == ["1", "", ""]
    assert tracker.promote(first, name, "champion")[1].alias_before == "2"
    for address in (f"models:/{name}@champion", f"models:/{name}/1", f"models:/{name}/latest"):
        to = tmp_path / address.replace("/", "-")
        assert [path.name for path in tracker.pull(address, to)] == ["edlab.json", "model.bin", "model.xml"]
        assert (to / "model.bin").read_bytes() == files.converted[1].read_bytes()
    for wrong, hint in (("@champoin", "champion [(]version 1[)]"), ("/7", "versions: 1")):
        with pytest.raises(TrackingError, match="is not found") as missing:
            tracker.pull(f"models:/{name}{wrong}", tmp_path / "wrong")
        assert re.search(hint, missing.value.hint)
    with pytest.raises(TrackingError, match="registered model 'nothing' is not found"):
        tracker.pull("models:/nothing@champion")
    assert not (tmp_path / "wrong").exists()


def test_what_cannot_be_promoted_is_refused(config: TrackingConfig, record: MakeRecord, files: Files) -> None:
    tracker = Tracker(config)
    without = made(tracker, record(tags={}, status=Status.failed, stage=Stage.convert), Files()).run_id
    with pytest.raises(TrackingError, match="has no converted model: it failed at stage convert"):
        tracker.promote(without, "net")
    with pytest.raises(TrackingError, match="is not found"):
        tracker.promote("nothing", "net")
    for name, alias in (("a/b", ""), (" ", ""), ("a@b", ""), ("a", "v1"), ("a", "latest"), ("a", "b c")):
        with pytest.raises(ConfigError, match="is not a valid"):
            tracker.promote(without, name, alias)
    with pytest.raises(ConfigError, match="not the address of a registered model"):
        tracker.pull("models:/net")


def test_a_damaged_artifact_is_reported_and_not_copied(
    local: TrackingConfig, record: MakeRecord, files: Files, tmp_path: Path
) -> None:
    """By edlab.json; without it, as of an earlier edlab, by the run's tag."""
    tracker, digest = Tracker(local), sha256_files(files.converted)
    details = {"artifact": {"files": [str(path) for path in files.converted]}}
    for given in (packaged(files), files):
        run_id = made(tracker, record(tags={"artifact_sha256": digest}, details=details), given).run_id
        assert tracker.pull(run_id, tmp_path / run_id)
        (stored,) = tmp_path.glob(f"mlruns/artifacts/{run_id}/artifacts/converted/model.bin")
        content = stored.read_bytes()
        stored.unlink()
        stored.write_bytes(content[:-1])
        with pytest.raises(TrackingError, match=r"is damaged: model\.(bin|xml, model\.bin)"):
            tracker.pull(run_id, tmp_path / run_id, force=True)
        assert (tmp_path / run_id / "model.bin").read_bytes() == content


def test_an_error_of_a_tool_does_not_break_a_runs_description(local: TrackingConfig, record: MakeRecord) -> None:
    error = "sensor | none\n<i>no</i>"
    reasons = [Reason(code="tier_smoke", message=error, advice="use `edlab\nrun`")]
    one = record(missing={"power_w": error}, verdict=Verdict(state=VerdictState.degraded, reasons=reasons))
    failed = record(status=Status.failed, stage=Stage.convert, reason=error, hint="use `edlab\ndoctor`")
    client = MlflowClient(tracking_uri=local.uri)
    measured, ended = (
        client.get_run(made(Tracker(local), each).run_id).data.tags["mlflow.note.content"] for each in (one, failed)
    )
    escaped = r"sensor \| none &lt;i>no&lt;/i>"
    assert f"| `power_w` (W) | missing: {escaped} |" in measured.splitlines()
    assert f"- `tier_smoke`: {escaped}" in measured.splitlines()
    assert "- use `edlab run`" in measured.splitlines()
    assert ended.splitlines()[:3] == [f"**FAILED at convert**: {escaped}", "", "use `edlab doctor`"]


def test_a_run_has_a_page_only_on_a_server(config: TrackingConfig, record: Callable[..., RunRecord]) -> None:
    tracker = Tracker(config)
    address = tracker.address(record(run_id="abc"))
    assert address.endswith("/runs/abc") if config.uri.startswith("http") else address == ""
    assert tracker.address(record()) == ""
