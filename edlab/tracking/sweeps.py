"""A sweep in MLflow: a run that is the parent of the sweep's rows, with a description, a table and charts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edlab import durable
from edlab.record import Status
from edlab.tracking.liveness import Alive, remove_lock
from edlab.tracking.selection import ROW, of_sweep
from edlab.tracking.store import Store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

AGAIN = "-again"  # the end of the id of a sweep that measures a recorded run again
_SWEEP = "edlab.sweep"  # the tag of a parent
_PARENT = "mlflow.parentRunId"
_NOTE = "mlflow.note.content"
_TABLES = "mlflow.loggedArtifacts"  # as mlflow.log_table names the tables that the UI can open
TAG_LENGTH = 5000  # a limit of MLflow's REST API
_STATES = {Status.ok: "FINISHED", Status.failed: "FAILED", Status.interrupted: "KILLED"}


@dataclass(frozen=True)
class Summary:
    """The results of a sweep as a whole, kept on the disk until MLflow has them."""

    sweep_id: str
    name: str  # what was compared
    note: str  # Markdown
    status: Status  # ok, failed or interrupted
    started_ms: int  # since the epoch
    ended_ms: int  # the same
    store: str  # its destination: `store_name`
    files: tuple[str, ...] = ()  # absolute paths; .json files are tables in the form of mlflow.log_table

    def write(self, folder: Path) -> None:
        """Save it in a folder for summaries. Raises `StorageError` if the disk is full."""
        with durable.writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            durable.write_text(folder / f"{self.sweep_id}.json", json.dumps(asdict(self)))


def waiting(folder: Path, store: str) -> Iterator[tuple[Path, Summary]]:
    """The summaries in a folder that wait for this store, oldest first; a damaged one is skipped."""
    for path in sorted(folder.glob("*.json")):
        try:
            fields = json.loads(path.read_text())
            summary = Summary(**fields | {"status": Status(fields["status"]), "files": tuple(fields["files"])})
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if summary.store == store:
            yield path, summary


class Sweeps:
    """The parent runs of sweeps in a store. Errors are those of MLflow: the caller explains them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._parents: dict[str, str] = {}  # sweep id -> MLflow's run id
        self._alive: dict[str, Alive] = {}  # by sweep id

    @property
    def _client(self) -> MlflowClient:
        return self._store.client

    def begin(self, sweep_id: str, name: str, note: str) -> None:
        """Create the parent of a sweep that starts now, RUNNING, with a sign of life."""
        alive = Alive(self._store.lock_folder)
        try:
            run = self._create(sweep_id, name, {**alive.tags, _NOTE: note})
        except BaseException:
            alive.let_go()  # a server may still have created it: then `Tracker.reap` must find it dead
            raise
        self._parents[sweep_id] = run.info.run_id
        self._alive[sweep_id] = alive

    def tags(self, sweep_id: str, search: bool = False) -> dict[str, str]:
        """The tags that make a new run a row of its sweep; without `search`, of a sweep of this process only."""
        if search and sweep_id not in self._parents and (run := self._find(sweep_id)):
            self._parents[sweep_id] = run.info.run_id
        parent = {_PARENT: self._parents[sweep_id]} if sweep_id in self._parents else {}
        return {ROW: sweep_id, **parent}

    def end(self, summary: Summary) -> None:
        """Complete the parent, or create it; what an earlier try has written is replaced."""
        run = self._find(summary.sweep_id) or self._create(
            summary.sweep_id, summary.name, {}, start_time=summary.started_ms
        )
        run_id = run.info.run_id
        self._link_rows(summary.sweep_id, run_id)
        files = [path for path in map(Path, summary.files) if path.is_file()]
        for path in files:
            self._client.log_artifact(run_id, str(path))
        tables = [{"path": path.name, "type": "table"} for path in files if path.suffix == ".json"]
        self._client.set_tag(run_id, _TABLES, json.dumps(tables))
        self._client.set_tag(run_id, _NOTE, summary.note[:TAG_LENGTH])
        self._client.set_tag(run_id, "edlab.status", summary.status.value)
        for name in run.data.tags.keys() & {"edlab.reason", "edlab.hint"}:  # of `Tracker.reap`
            self._client.delete_tag(run_id, name)
        self._client.update_run(run_id, name=summary.name)
        self._client.set_terminated(run_id, _STATES[summary.status], end_time=summary.ended_ms)
        if alive := self._alive.pop(summary.sweep_id, None):
            alive.end()
        else:
            remove_lock(run.data.tags, self._store.lock_folder)

    def _link_rows(self, sweep_id: str, parent: str) -> None:
        """Make rows that were sent without a parent its children."""
        for run in self._search(of_sweep(sweep_id).filter):
            if run.data.tags.get(_PARENT) != parent:
                self._client.set_tag(run.info.run_id, _PARENT, parent)

    def _find(self, sweep_id: str) -> Run | None:
        return next(iter(self._search(f"tags.`{_SWEEP}` = '{sweep_id}'")), None)

    def _search(self, condition: str) -> list[Run]:
        return list(self._client.search_runs([self._store.experiment_id], condition, max_results=50_000))

    def _create(self, sweep_id: str, name: str, tags: dict[str, str], start_time: int | None = None) -> Run:
        return self._client.create_run(
            self._store.experiment_id, start_time=start_time, run_name=name, tags={**tags, _SWEEP: sweep_id}
        )


def is_parent(tags: Mapping[str, str]) -> bool:
    """Whether these are the tags of the parent of a sweep, not of a row."""
    return _SWEEP in tags


def sweep_of(tags: Mapping[str, str]) -> str:
    """The sweep's id in the tags of a parent."""
    return tags[_SWEEP]
