"""What must be true after a fault and the next start: docs/reliability.md, as assertions."""

from __future__ import annotations

import re
import sqlite3
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

from fault_injection.world import World, command_line

from edlab.engine.command import read_records
from edlab.record import RunRecord, Status

ORPHANS_S = 6.0  # in which children notice that their parent is gone
SILENT_S = 40.0  # in which an agent on a board notices that its host is gone
EXACT = ("accuracy_top1", "accuracy_drop", "agreement_top1", "int8_weights_fraction", "accuracy_images")
_ROW_ENDED = re.compile(r"^ +[✓!] top-1", re.MULTILINE)


def check(world: World, expected: list[RunRecord]) -> None:
    """Raise `AssertionError` for a broken promise. Called after the next start, whose results are known."""
    check_records(world, expected)
    check_store(world)
    latest = read_records(world.sweeps()[-1])
    assert [record.status for record in latest] == [Status.ok] * len(expected), [r.reason for r in latest]
    check_leftovers(world)
    output = world.output.read_text(errors="replace")
    assert "Traceback" not in output, "a traceback was printed: " + output.partition("Traceback")[2][:2000]


def check_no_orphans(world: World) -> None:
    """Raise `AssertionError` if a process outlives its command for long."""
    end = time.monotonic() + (SILENT_S if world.board else ORPHANS_S)
    while (left := world.processes()) and time.monotonic() < end:
        time.sleep(0.1)
    assert not left, f"orphans: {[command_line(process)[:120] for process in left]}"


def check_records(world: World, expected: list[RunRecord]) -> None:
    """Each row that was reported as measured is on disk, with the known results; none is running or blames edlab."""
    known = {record.name: record for record in expected}
    records = [record for sweep in world.sweeps() for record in read_records(sweep)]
    for record in records:
        assert record.status is not Status.running, f"{record.name} is running"
        assert "this is a bug in edlab" not in record.hint, f"{record.name}: {record.reason}"
        if record.status is Status.ok:
            check_results(record, known[record.name])
    printed = len(_ROW_ENDED.findall(world.output.read_text(errors="replace")))
    ok = sum(record.status is Status.ok for record in records)
    assert ok >= printed, f"{printed} rows were measured, {ok} are kept"


def check_store(world: World) -> None:
    """The database is intact; it has each run once, ended, with its accuracy; nothing waits to be sent."""
    with closing(sqlite3.connect(world.work / "mlruns" / "mlflow.db", timeout=30)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",), "the database is damaged"
        (running,) = connection.execute("SELECT count(*) FROM runs WHERE status = 'RUNNING'").fetchone()
        assert running == 0, f"{running} runs are RUNNING"
        uuids = Counter(
            uuid for (uuid,) in connection.execute("SELECT value FROM tags WHERE key = 'mlflow.edlab.uuid'")
        )
        metrics = connection.execute(
            "SELECT tags.value, latest_metrics.value FROM tags JOIN latest_metrics USING (run_uuid) "
            "WHERE tags.key = 'mlflow.edlab.uuid' AND latest_metrics.key = 'accuracy_top1'"
        )
        accuracies = dict(metrics.fetchall())
    for sweep in world.sweeps():
        for record in read_records(sweep) if sweep not in world.sent_away else ():
            assert uuids[record.uuid] == 1, f"{record.name} of {sweep.name} is {uuids[record.uuid]} times in MLflow"
            assert accuracies.get(record.uuid) == record.metrics.get("accuracy_top1"), "another accuracy in MLflow"
    waiting = list((world.work / "mlruns" / "spool").glob("[!.]*"))
    assert not waiting, f"{len(waiting)} runs wait in the spool"


def check_results(record: RunRecord, known: RunRecord) -> None:
    """A row has the same results as an undisturbed one."""
    for name in EXACT:
        assert record.metrics.get(name) == known.metrics.get(name), f"{record.name}: {name} differs"
    assert record.tags["artifact_sha256"] == known.tags["artifact_sha256"], f"{record.name}: another artifact"


def check_leftovers(world: World) -> None:
    """No lock, no temporary file."""
    mlruns = world.work / "mlruns"
    left = [*(mlruns / "locks").glob("*"), *world.folder.glob("cache/*/.*-*/"), *world.folder.glob("tmp/edlab-*")]
    left += [*mlruns.rglob(".new-*"), *mlruns.glob("spool/.*/")]
    assert not left, f"left over: {[str(path.relative_to(world.folder)) for path in left]}"


def check_server(world: World, sweeps: list[Path]) -> None:
    """Each row of these sweeps is on the tracking server once, with its figures."""
    from mlflow import MlflowClient

    client = MlflowClient(world.environment["MLFLOW_TRACKING_URI"])
    experiment = client.get_experiment_by_name("edlab")
    assert experiment or not sweeps, "the server has no experiment"
    runs = client.search_runs([experiment.experiment_id]) if experiment else []
    uuids = [run.data.tags.get("mlflow.edlab.uuid") for run in runs]
    for record in (record for sweep in sweeps for record in read_records(sweep)):
        assert uuids.count(record.uuid) == 1, f"{record.name} is {uuids.count(record.uuid)} times on the server"
        run = runs[uuids.index(record.uuid)]
        assert run.data.metrics.get("accuracy_top1") == record.metrics.get("accuracy_top1"), "another accuracy there"
