"""Finds and reads recorded runs."""

from __future__ import annotations

import gc
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from edlab.errors import TrackingError
from edlab.record import RunRecord
from edlab.tracking import bulk, codec, description
from edlab.tracking.bulk import Row, row_of
from edlab.tracking.files import CONVERTED
from edlab.tracking.liveness import is_dead
from edlab.tracking.store import Store
from edlab.tracking.sweeps import AGAIN, ROW, is_parent, sweep_of

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_ROWS = f"tags.`{ROW}` LIKE '%'"  # the parents of sweeps are not rows
_RECENT = 200  # runs, among which the latest sweep is
_FILTER = "use MLflow's syntax, for example \"metrics.latency_ms < 5 and params.`model.name` = 'mobilenet_v2'\""


class Runs:
    """The recorded runs of a store. Its methods raise `TrackingError` if the store cannot be read."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._artifacts: dict[str, str] = {}  # by run id: the address of its files

    @property
    def _client(self) -> MlflowClient:
        return self._store.client

    def find(self, name: str, wanted: Callable[[Run], bool] = lambda run: True) -> Run:
        """The run with this id, or the only run with this prefix of its id, or the latest run with this name that is
        `wanted`.

        If none of this name is, the latest one. Raises `TrackingError` if there is no run, or for an ambiguous prefix,
        with the candidates.
        """
        name = description.without_mark(name)
        with self._store.explained(f"look for run '{name}'"):
            if re.fullmatch(r"[0-9a-f]{1,32}", name):
                found = self._search(f"attributes.run_id LIKE '{name}%'", limit=10)
                matches = [run for run in found if not is_parent(run)]
                if len(matches) == 1:
                    return matches[0]
                if found and not matches:
                    sweep = sweep_of(found[0])
                    raise TrackingError(f"'{name}' is the sweep {sweep}", hint=f"show its runs: edlab show {sweep}")
                if matches:
                    listing = ", ".join(f"{run.info.run_id[:12]} ({run.info.run_name})" for run in matches)
                    raise TrackingError(f"'{name}' is ambiguous", hint=f"choose one of: {listing}")
            alike = self._search(f"attributes.run_name LIKE '%{without_quotes(name)}' and {_ROWS}")
            named = [run for run in alike if description.without_mark(run.info.run_name) == name]
        if not named:
            raise TrackingError(
                f"run '{name}' is not found in experiment '{self._store.experiment}' at {self._store.shown_uri}",
                hint="`edlab runs` lists the latest runs (--last N for more); of a sweep's id, give the date at least "
                "(20261127); for another experiment, set MLFLOW_EXPERIMENT_NAME=...",
            )
        return next((run for run in named if wanted(run)), named[0])

    def find_with_model(self, name: str) -> Run:
        """The run that `find` returns, or of several with one name the latest with a model. Raises `TrackingError`."""
        run = self.find(name, wanted=lambda run: "edlab.artifact_sha256" in run.data.tags)
        run_id = run.info.run_id
        with self._store.explained(f"read run {run_id[:12]}"):
            if not self._client.list_artifacts(run_id, CONVERTED):
                stage = run.data.tags.get("edlab.stage")
                raise TrackingError(
                    f"run {run_id[:12]} ({run.info.run_name}) has no converted model"
                    + (f": it failed at stage {stage}" if stage else ""),
                    hint=f"`edlab show {run_id[:12]}` shows the cause",
                )
        return run

    def latest(self, count: int) -> list[RunRecord]:
        """The records of the latest runs, from MLflow's data without their files, the latest first."""
        with self._store.explained("list the runs"):
            return [self._record_of(row_of(run)) for run in self._search(_ROWS, limit=count)]

    def latest_sweep(self) -> str:
        """The id of the latest sweep; empty if there is none. Repeats of a recorded run do not count."""
        store = self._store
        with store.explained("find the latest sweep"):
            if bulk.is_database(store.uri):
                return bulk.latest_sweep(store.uri, store.experiment_id, unlike=f"%{AGAIN}")
            found = (run.data.tags[ROW] for run in self._search(_ROWS, limit=_RECENT))
            return next((each for each in found if not each.endswith(AGAIN)), "")

    def record(self, name: str) -> RunRecord:
        """The record of the run that `find` returns."""
        return self._record(self.find(name))

    def records(self, sweep_id: str) -> list[RunRecord]:
        """The records of a sweep's runs, oldest first; empty if there is no such sweep.

        `sweep_id` may be the beginning of an id, with the date at least. Raises `TrackingError` if several sweeps have
        it.
        """
        wanted = self._sweep_named(sweep_id)
        with self._store.explained(f"read sweep '{sweep_id}'"):
            found = reversed(self._search(f"tags.`{ROW}` = '{wanted}'")) if wanted else ()
        return [self._record(run) for run in found]

    def rows(self, name: str) -> list[RunRecord]:
        """The runs of a sweep, oldest first, or the run that `find` returns, from MLflow's data without their files."""
        wanted = self._sweep_named(name)
        if not wanted:
            return [self._record_of(row_of(self.find(name)))]
        return self._read(f"read sweep '{wanted}'", wanted)

    def everything(self) -> list[RunRecord]:
        """All runs of the experiment, oldest first, without their files."""
        return self._read("read all runs")

    def matching(self, condition: str) -> list[RunRecord]:
        """The runs that match a condition in MLflow's filter syntax, oldest first, without their files.

        Raises `TrackingError` for an invalid condition.
        """
        from mlflow.exceptions import MlflowException

        try:
            with self._store.explained("search runs"):
                runs = [run for run in self._search(condition) if ROW in run.data.tags]
        except TrackingError as error:
            cause = error.__cause__
            if not (isinstance(cause, MlflowException) and cause.error_code == "INVALID_PARAMETER_VALUE"):
                raise
            reason = shorten(str(cause), 200, placeholder=" ...")
            raise TrackingError(f"invalid filter '{condition}': {reason}", hint=_FILTER) from error
        return [self._record_of(row_of(run)) for run in reversed(runs)]

    def download(self, record: RunRecord, name: str, folder: Path) -> Path:
        """One file of a recorded run, copied into `folder` if it is not on this disk.

        Raises `TrackingError` if the run does not have it.
        """
        with self._store.explained(f"read {name} of run {record.run_id[:12]}"):
            artifacts = local_path(self._artifacts.get(record.run_id, "no://"))
            if artifacts and (artifacts / name).is_file():  # MLflow's client takes a tenth of a second for it
                return artifacts / name
            return Path(self._client.download_artifacts(record.run_id, name, str(folder)))

    def address(self, record: RunRecord) -> str:
        """The page of a run, without a password; empty if the store is not a server, or does not have the run."""
        if not self._store.is_server or not record.run_id:
            return ""
        return f"{self._store.pages}/#/experiments/{self._store.experiment_id}/runs/{record.run_id}"

    def _search(self, condition: str, limit: int = 50_000) -> list[Run]:
        """Runs of the experiment that match the condition, the latest first."""
        return list(
            self._client.search_runs(
                [self._store.experiment_id], condition, max_results=limit, order_by=["attributes.start_time DESC"]
            )
        )

    def _sweep_named(self, sweep_id: str) -> str:
        """The id of the sweep that begins with this, with the date at least; empty if there is none.

        Raises `TrackingError` if several sweeps have it.
        """
        # Less than a date may as well be the beginning of a run's id.
        anything = "%" if re.match(r"\d{8}", sweep_id) else ""
        with self._store.explained(f"look for sweep '{sweep_id}'"):
            pattern = f"{without_quotes(sweep_id)}{anything}"
            if bulk.is_database(self._store.uri):
                found = bulk.sweeps(self._store.uri, self._store.experiment_id, pattern)
            else:
                found = {run.data.tags[ROW] for run in self._search(f"tags.`{ROW}` LIKE '{pattern}'")}
        begun = sorted(each for each in found if each.startswith(sweep_id)) if anything else sorted(found & {sweep_id})
        if len(begun) > 1 and sweep_id not in begun:
            raise TrackingError(f"'{sweep_id}' is ambiguous", hint=f"choose one of: {', '.join(begun)}")
        return sweep_id if sweep_id in begun else next(iter(begun), "")

    def _read(self, action: str, sweep_id: str = "") -> list[RunRecord]:
        """The runs of a sweep, or all of the experiment, oldest first."""
        with self._store.explained(action), _without_collection():
            return [self._record_of(row) for row in self._rows(sweep_id)]

    def _rows(self, sweep_id: str) -> list[Row]:
        if bulk.is_database(self._store.uri):
            return bulk.rows(self._store.uri, self._store.experiment_id, sweep_id)
        runs = self._search(f"tags.`{ROW}` = '{sweep_id}'" if sweep_id else _ROWS)
        return [row_of(run) for run in reversed(runs)]

    def _record(self, run: Run) -> RunRecord:
        """The record in result.json; if a killed run has none, the record from its parameters and tags."""
        run_id = run.info.run_id
        with self._store.explained(f"read run {run_id}"):
            if any(file.path == "result.json" for file in self._client.list_artifacts(run_id)):
                with tempfile.TemporaryDirectory() as folder:
                    return RunRecord.read(Path(self._client.download_artifacts(run_id, "result.json", folder)))
        return self._record_of(row_of(run))

    def _record_of(self, row: Row) -> RunRecord:
        """The record of a run from MLflow's data, without its files."""
        self._artifacts[row.run_id] = row.artifact_uri
        dead = row.status == "RUNNING" and is_dead(row.tags, self._store.lock_folder)
        return codec.record_of(row, is_dead=dead)


@contextmanager
def _without_collection() -> Iterator[None]:
    """Do not search for garbage among the millions of objects that are read: it takes a third of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def local_path(uri: str) -> Path | None:
    """The folder of an artifact address; None if it is on a server."""
    parts = urlsplit(uri)
    return Path(unquote(parts.path)) if parts.scheme in ("", "file") else None


def without_quotes(word: str) -> str:
    """The text for one of MLflow's filters, which cannot escape a quote: _ matches any one character."""
    return re.sub(r"['\\]", "_", word)
