"""One MLflow run for each run of edlab, whatever happened to it."""

from __future__ import annotations

import json
import os
import platform
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from edlab.config import TrackingConfig
from edlab.errors import EdlabError, TrackingError
from edlab.metrics import catalogue
from edlab.record import Reason, RunRecord, Status, Verdict, VerdictState, as_text
from edlab.tracking import bulk, description, retrieval, ui
from edlab.tracking.bulk import Row, row_of
from edlab.tracking.files import DatasetInfo, Files
from edlab.tracking.liveness import HIDDEN, Alive, is_dead, remove_lock
from edlab.tracking.store import Store
from edlab.tracking.sweeps import ROW, Summary, Sweeps, is_parent, sweep_of

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel, Metric, Run

CONVERTED = "converted"  # the folder in a run's artifacts with the file that ran
UUID = f"{HIDDEN}uuid"  # the tag with edlab's own id of a run
_NOTE = "mlflow.note.content"
_ROWS = f"tags.`{ROW}` LIKE '%'"  # the parents of sweeps are not rows

# Limits of MLflow's REST API.
_VALUES_PER_BATCH = 100
_PARAM_LENGTH = 6000
_TAG_LENGTH = 5000
_DATASET_DIGEST_LENGTH = 36

_PROMOTED_TAGS = ("edlab.verdict", "edlab.status", "edlab.artifact_sha256", "edlab.task", "edlab.sweep_id")

_KILLED = "the process of this run was killed before it recorded the run"
_AGAIN = "run the same command again: finished conversions are in the cache"

_FILTER = "use MLflow's syntax, for example \"metrics.latency_ms < 5 and params.`model.name` = 'mobilenet_v2'\""

# A run that was refused before any work has ended correctly; its own status is in the tag edlab.status.
_ENDED = {
    Status.ok: "FINISHED",
    Status.skipped: "FINISHED",
    Status.failed: "FAILED",
    Status.interrupted: "KILLED",
}


class Tracker:
    """Writes runs to MLflow, and finds recorded runs.

    Opens or creates the database (or connects to the server) and the experiment immediately, and raises `TrackingError`
    if that fails, so that a sweep fails before it has measured anything. With `create` False nothing is created.
    """

    def __init__(self, config: TrackingConfig, create: bool = True) -> None:
        self._store = Store(config, create)
        self._client = self._store.client
        self._unanswered: dict[str, Alive] = {}  # by uuid: of runs that a server may have created
        self._alive: dict[str, Alive] = {}
        self._sweeps = Sweeps(self._store)
        self._artifacts: dict[str, str] = {}  # by run id: the address of its files

    def begin_sweep(self, sweep_id: str, name: str, note: str) -> None:
        """Create the parent of the runs of this sweep, RUNNING. Raises `TrackingError`."""
        with self._store.explained(f"begin sweep {sweep_id}"):
            self._sweeps.begin(sweep_id, name, note)

    def end_sweep(self, summary: Summary) -> None:
        """Complete the parent of a sweep, or create it. Raises `TrackingError`; then it can be sent again."""
        with self._store.explained(f"record sweep {summary.sweep_id}"):
            self._sweeps.end(summary)

    def start(self, record: RunRecord) -> str:
        """Create the run, RUNNING, with the parameters known so far; return its id. Ends runs of dead processes."""
        self.reap()
        with self._store.explained("start a run"):
            run = self._create_run(record, self._sweeps.tags(record.sweep_id))
            try:
                self._log_params(run, record.params)
            except BaseException:
                self._let_go(run.info.run_id)
                raise
        return str(run.info.run_id)

    def send(self, record: RunRecord, files: Files) -> str:
        """Write all results of a run, and end it with its status; return its id.

        The run was created by `start`, or begun by an earlier `send`: existing data are not written twice. Raises
        `TrackingError` or `StorageError`; then the run is incomplete, and can be sent again.
        """
        with self._store.explained(f"record run {record.name}"):
            run = self._find_begun(record) or self._create_run(record, self._sweeps.tags(record.sweep_id, search=True))
            record.run_id = str(run.info.run_id)
            try:
                model = self._logged_model(run, record) if files.converted else None
                self._log_values(run, record, files, model)
                self._log_files(run, record, files)
                if model:
                    self._log_converted(run, model, files.converted)
                self._client.set_terminated(record.run_id, _ENDED[record.status], end_time=record.ended_ms)
            except BaseException:
                self._let_go(record.run_id)
                raise
            self._end(run)
            if unanswered := self._unanswered.pop(record.uuid, None):
                unanswered.end()
        return record.run_id

    def is_reachable(self) -> bool:
        """Whether the store answers now."""
        try:
            with self._store.explained("open it"):
                self._client.get_experiment(self._store.experiment_id)
        except EdlabError:
            return False
        return True

    def reap(self) -> list[str]:
        """End the runs of this host whose process is gone as KILLED, edlab.status=interrupted; return their ids."""
        with self._store.explained("look for interrupted runs"):
            running = self._search(f"attributes.status = 'RUNNING' and tags.`edlab.host` = '{platform.node()}'")
            dead = [run for run in running if is_dead(run.data.tags, self._store.lock_folder)]
            for run in dead:
                tags = {"edlab.status": Status.interrupted.value, "edlab.reason": _KILLED, "edlab.hint": _AGAIN}
                self._client.log_batch(run.info.run_id, tags=_tags(tags))
                self._client.set_terminated(run.info.run_id, "KILLED")
                remove_lock(run.data.tags, self._store.lock_folder)
        return [run.info.run_id for run in dead]

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
            alike = self._search(f"attributes.run_name LIKE '%{_without_quotes(name)}' and {_ROWS}")
            named = [run for run in alike if description.without_mark(run.info.run_name) == name]
        if not named:
            raise TrackingError(
                f"run '{name}' is not found in experiment '{self._store.experiment}' at {self._store.shown_uri}",
                hint="`edlab runs` lists the latest runs (--last N for more); of a sweep's id, give the date at least "
                "(20261127); for another experiment, set MLFLOW_EXPERIMENT_NAME=...",
            )
        return next((run for run in named if wanted(run)), named[0])

    def latest(self, count: int) -> list[RunRecord]:
        """The records of the latest runs, from MLflow's data without their files, the latest first."""
        with self._store.explained("list the runs"):
            return [self._record_of(row_of(run)) for run in self._search(_ROWS, limit=count)]

    def record(self, name: str) -> RunRecord:
        """The record of the run that `find` returns."""
        return self._record(self.find(name))

    def records(self, sweep_id: str) -> list[RunRecord]:
        """The records of a sweep's runs, oldest first; empty if there is no such sweep.

        `sweep_id` may be the beginning of an id, with the date at least. Raises `TrackingError` if several sweeps have
        it.
        """
        return [self._record(run) for run in self._runs_of(sweep_id)]

    def rows(self, name: str) -> list[RunRecord]:
        """The runs of a sweep, oldest first, or the run that `find` returns, from MLflow's data without their files."""
        wanted = self._sweep_named(name)
        if not wanted:
            return [self._record_of(row_of(self.find(name)))]
        return [self._record_of(row) for row in self._read(f"read sweep '{wanted}'", wanted)]

    def everything(self) -> list[RunRecord]:
        """All runs of the experiment, oldest first, without their files."""
        return [self._record_of(row) for row in self._read("read all runs")]

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
            artifacts = _local_path(self._artifacts.get(record.run_id, "no://"))
            if artifacts and (artifacts / name).is_file():  # MLflow's client takes a tenth of a second for it
                return artifacts / name
            return Path(self._client.download_artifacts(record.run_id, name, str(folder)))

    def address(self, record: RunRecord) -> str:
        """The page of a run, without a password; empty if the store is not a server, or does not have the run."""
        if not self._store.is_server or not record.run_id:
            return ""
        parts = urlsplit(self._store.uri)
        server = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().rstrip("/")
        return f"{server}/#/experiments/{self._store.experiment_id}/runs/{record.run_id}"

    def _runs_of(self, sweep_id: str) -> list[Run]:
        """The runs of a sweep, oldest first, by its id or the beginning of it."""
        wanted = self._sweep_named(sweep_id)
        with self._store.explained(f"read sweep '{sweep_id}'"):
            return list(reversed(self._search(f"tags.`{ROW}` = '{wanted}'"))) if wanted else []

    def _sweep_named(self, sweep_id: str) -> str:
        """The id of the sweep that begins with this, with the date at least; empty if there is none.

        Raises `TrackingError` if several sweeps have it.
        """
        # Less than a date may as well be the beginning of a run's id.
        anything = "%" if re.match(r"\d{8}", sweep_id) else ""
        with self._store.explained(f"look for sweep '{sweep_id}'"):
            pattern = f"{_without_quotes(sweep_id)}{anything}"
            if bulk.is_database(self._store.uri):
                found = bulk.sweeps(self._store.uri, self._store.experiment_id, pattern)
            else:
                found = {run.data.tags[ROW] for run in self._search(f"tags.`{ROW}` LIKE '{pattern}'")}
        begun = sorted(each for each in found if each.startswith(sweep_id)) if anything else sorted(found & {sweep_id})
        if len(begun) > 1 and sweep_id not in begun:
            raise TrackingError(f"'{sweep_id}' is ambiguous", hint=f"choose one of: {', '.join(begun)}")
        return sweep_id if sweep_id in begun else next(iter(begun), "")

    def _read(self, action: str, sweep_id: str = "") -> list[Row]:
        """The rows of a sweep, or all of the experiment, oldest first."""
        with self._store.explained(action):
            if bulk.is_database(self._store.uri):
                return bulk.rows(self._store.uri, self._store.experiment_id, sweep_id)
            runs = self._search(f"tags.`{ROW}` = '{sweep_id}'" if sweep_id else _ROWS)
            return [row_of(run) for run in reversed(runs)]

    def pull(self, name: str, to: Path | None = None, force: bool = False) -> list[Path]:
        """Copy the converted model of the run that `find` returns into the folder `to`; return the files there.

        `name` may also be the address of a registered model, models:/NAME@ALIAS or models:/NAME/VERSION. Without `to`,
        it is a folder here with the name of the run and the beginning of its id, or the name and the version. Existing
        files are overwritten only with `force`.

        Of several runs with one name, the latest with a model is used. Raises `TrackingError` if the run has none, if a
        file with that name already exists, or if the files are not those that were recorded.
        """
        if address := retrieval.Address.parse(name):
            return self._pull_registered(address, to, force)
        run = self._find_with_model(name)
        run_id = run.info.run_id
        to = to or Path(_as_folder(f"{description.without_mark(run.info.run_name)}-{run_id[:8]}"))
        origin = f"run {run_id[:12]}"
        with self._store.explained(f"copy the model of {origin} to {to}"), retrieval.scratch_near(to) as temp:
            fetched = Path(self._client.download_artifacts(run_id, CONVERTED, str(temp)))
            recorded = self._record(run).details.get("artifact", {}).get("files", [])
            retrieval.verify(fetched, origin, run.data.tags.get("edlab.artifact_sha256", ""), recorded)
            return retrieval.place(fetched, to, force)

    def _pull_registered(self, address: retrieval.Address, to: Path | None, force: bool) -> list[Path]:
        """Copy the files of a registered model."""
        from mlflow.artifacts import download_artifacts

        with self._store.explained(f"look for {address}"):
            found = retrieval.find_version(self._client, address)
        to = to or Path(_as_folder(f"{found.name}-{found.version}"))
        with self._store.explained(f"copy {address} to {to}"), retrieval.scratch_near(to) as temp:
            source = self._client.get_model_version_download_uri(found.name, found.version)
            fetched = Path(download_artifacts(source, dst_path=str(temp), tracking_uri=self._store.uri))
            if not (fetched / retrieval.MANIFEST).exists():
                raise TrackingError(
                    f"{address} has no {retrieval.MANIFEST}: edlab did not register it",
                    hint="`edlab promote RUN --as NAME` registers a run's model; mlflow.artifacts.download_artifacts "
                    "copies other models",
                )
            retrieval.verify(fetched, str(address))
            return retrieval.place(fetched, to, force)

    def promote(self, name: str, registered: str, alias: str = "") -> tuple[Run, retrieval.Promoted]:
        """Register the converted model of the run that `find` returns in MLflow's model registry.

        A run that is registered under this name already keeps its version, and gets the alias. Raises `ConfigError` for
        an invalid name, `TrackingError` if the run has no model.
        """
        retrieval.check_names(registered, alias)
        run = self._find_with_model(name)
        run_id = run.info.run_id
        with self._store.explained(f"register the model of run {run_id[:12]} as {registered}"):
            uuid = _uuid(run.data.tags)
            experiments = [self._store.experiment_id]
            models = self._client.search_logged_models(experiments, f"tags.`edlab.uuid` = '{uuid}'")
            if not models:
                raise TrackingError(
                    f"run {run_id[:12]} has no logged model in MLflow",
                    hint="an earlier edlab recorded it: run it again",
                )
            verdict = run.data.tags.get("edlab.verdict", "none")
            about = f"{description.without_mark(run.info.run_name)}, edlab run {run_id}, verdict {verdict}"
            tags = {key: run.data.tags[key] for key in _PROMOTED_TAGS if key in run.data.tags}
            version, existed = retrieval.register(self._client, models[0], registered, alias, about, tags)
        address = retrieval.Address(registered, alias=alias) if alias else retrieval.Address(registered, version)
        return run, retrieval.Promoted(address, version, existed, self._store.shown_uri)

    def _find_with_model(self, name: str) -> Run:
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

    def serve_ui(self, host: str, port: int, on_ready: Callable[[str], None]) -> int:
        """Serve MLflow's UI on these runs until it is interrupted, on another port if this one is in use; return 0.

        `on_ready` gets the address of the latest sweep's runs, once the UI answers. Runs that are on a server have its
        UI: then this returns immediately.
        """
        if self._store.is_server:
            on_ready(self._latest_page(self._store.shown_uri))
            return 0
        free = ui.free_port(host, port)
        page = self._latest_page(f"http://{host}:{free}")
        return ui.serve(self._store.uri, host, free, lambda: on_ready(page))

    def _latest_page(self, base: str) -> str:
        """The address of the latest sweep's runs in the UI at `base`, with a view of its metrics stored in MLflow."""
        experiment = self._store.experiment_id
        with self._store.explained("find the latest sweep"):
            latest = self._search(_ROWS, limit=1)
            if not latest:
                return ui.address(base, experiment)
            sweep_id = latest[0].data.tags[ROW]
            rows = self._search(f"tags.`{ROW}` = '{sweep_id}'")
        metrics = {name for run in rows for name in run.data.metrics}
        try:
            key = f"edlab-{sweep_id}"
            self._client.set_experiment_tag(experiment, ui.VIEW_TAG + key, ui.view(sweep_id, sorted(metrics)))
        except Exception:  # without the permission to write, the page has MLflow's own columns
            return ui.address(base, experiment, sweep_id=sweep_id)
        return ui.address(base, experiment, view=key)

    def _find_begun(self, record: RunRecord) -> Run | None:
        """The run of this record, if it exists."""
        for tag in (UUID, "edlab.uuid"):  # the latter: of a run that an older version began
            if found := self._search(f"tags.`{tag}` = '{record.uuid}'", limit=1):
                return self._client.get_run(found[0].info.run_id)  # with its inputs and outputs
        return None

    def _create_run(self, record: RunRecord, row: Mapping[str, str]) -> Run:
        """Create a run with a sign of life."""
        alive = Alive(self._store.lock_folder)
        tags = {**alive.tags, **row, UUID: record.uuid}
        try:
            run = self._client.create_run(self._store.experiment_id, run_name=record.name, tags=tags)
        except BaseException:
            if self._store.is_server:  # it may still have created the run: then `reap` must find it dead
                alive.let_go()
                self._unanswered[record.uuid] = alive
            else:
                alive.end()
            raise
        self._alive[run.info.run_id] = alive
        return run

    def _search(self, condition: str, limit: int = 50_000) -> list[Run]:
        """Runs of the experiment that match the condition, the latest first."""
        return list(
            self._client.search_runs(
                [self._store.experiment_id], condition, max_results=limit, order_by=["attributes.start_time DESC"]
            )
        )

    def _record(self, run: Run) -> RunRecord:
        """The record in result.json; if a killed run has none, the record from its parameters and tags."""
        run_id = run.info.run_id
        with self._store.explained(f"read run {run_id}"):
            if any(file.path == "result.json" for file in self._client.list_artifacts(run_id)):
                with tempfile.TemporaryDirectory() as folder:
                    return RunRecord.read(Path(self._client.download_artifacts(run_id, "result.json", folder)))
        return self._record_of(row_of(run))

    def _record_of(self, row: Row) -> RunRecord:
        """The record from a run's parameters, metrics and tags, without its files."""
        tags = row.tags
        running = row.status == "RUNNING" and not is_dead(tags, self._store.lock_folder)
        killed = row.status == "RUNNING" and not running
        self._artifacts[row.run_id] = row.artifact_uri
        return RunRecord(
            uuid=_uuid(tags) or row.run_id,
            run_id=row.run_id,
            name=description.without_mark(row.name),
            sweep_id=tags.get(ROW, ""),
            started_at=time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(row.start_ms / 1000)),
            status=Status.running if running else Status(tags.get("edlab.status", Status.interrupted)),
            reason=tags.get("edlab.reason", _KILLED if killed else ""),
            hint=tags.get("edlab.hint", _AGAIN if killed else ""),
            params=dict(row.params),
            metrics=dict(row.metrics),
            missing=_without_prefix(tags, "edlab.missing.") | _without_prefix(tags, f"{HIDDEN}missing."),
            tags=_without_prefix(tags, "edlab."),
            verdict=_verdict(tags),
        )

    def _log_params(self, run: Run, params: Mapping[str, Any]) -> None:
        """Log the parameters that the run does not have yet."""
        from mlflow.entities import Param

        new = [
            Param(key, as_text(value)[:_PARAM_LENGTH]) for key, value in params.items() if key not in run.data.params
        ]
        for start in range(0, len(new), _VALUES_PER_BATCH):
            self._client.log_batch(run.info.run_id, params=new[start : start + _VALUES_PER_BATCH])

    def _log_values(self, run: Run, record: RunRecord, files: Files, model: LoggedModel | None) -> None:
        """Parameters that were not known at the start, metrics (the model's too), tags, and the data set."""
        run_id = run.info.run_id
        name = description.mark(record) + record.name  # the precision of a model file is known once it is read
        if run.info.run_name != name:
            self._client.update_run(run_id, name=name)
        self._log_params(run, record.params)
        current = _record_tags(record) | {_NOTE: description.of_run(record), UUID: record.uuid}
        del current["edlab.uuid"]
        for name in run.data.tags.keys() & {"edlab.reason", "edlab.hint"} - current.keys():  # of `reap`
            self._client.delete_tag(run_id, name)
        tags = list(_tags(current))
        metrics = _metrics(record, files.dataset, model.model_id if model else None)
        self._client.log_batch(run_id, metrics=metrics, tags=tags[:_VALUES_PER_BATCH])
        for start in range(_VALUES_PER_BATCH, len(tags), _VALUES_PER_BATCH):
            self._client.log_batch(run_id, tags=tags[start : start + _VALUES_PER_BATCH])
        logged = run.inputs.dataset_inputs if run.inputs else []  # MLflow refuses the same one again
        if files.dataset and not logged:
            self._log_dataset(run_id, files.dataset)

    def _log_dataset(self, run_id: str, info: DatasetInfo) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(
            name=info.name,
            digest=info.digest[:_DATASET_DIGEST_LENGTH],
            source_type="local",
            source=json.dumps({"uri": info.source}),
            profile=json.dumps(dict(info.profile)),
        )
        self._client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "evaluation")])])

    def _log_files(self, run: Run, record: RunRecord, files: Files) -> None:
        run_id = run.info.run_id
        with tempfile.TemporaryDirectory() as temp:
            folder = Path(temp)
            record.write(folder / "result.json")
            (folder / "environment.json").write_text(json.dumps(record.environment, indent=2, default=str) + "\n")
            if record.status is Status.failed:
                (folder / "failure.log").write_text(_failure_log(record))
            for name, path in files.named.items():
                (folder / name).symlink_to(path.absolute())
            self._client.log_artifacts(run_id, temp)
        for path in files.converted:
            self._client.log_artifact(run_id, str(path), CONVERTED)

    def _logged_model(self, run: Run, record: RunRecord) -> LoggedModel:
        """The model of this run: the one from an earlier `send`, or a new one."""
        experiments = [self._store.experiment_id]
        for model in self._client.search_logged_models(experiments, f"tags.`edlab.uuid` = '{record.uuid}'"):
            return model
        return self._client.create_logged_model(
            self._store.experiment_id,
            name=re.sub(r"[/:.%\"']+", "_", record.name),
            source_run_id=run.info.run_id,
            tags={key: value[:_TAG_LENGTH] for key, value in _record_tags(record).items()},
            params={key: as_text(value)[:_PARAM_LENGTH] for key, value in record.params.items()},
        )

    def _log_converted(self, run: Run, model: LoggedModel, converted: Iterable[Path]) -> None:
        """Add the files to the logged model: as hard links to the run's files if both are on this disk."""
        from mlflow.entities import LoggedModelOutput

        for path in converted:
            if not self._link(run, model, path.name):
                self._client.log_model_artifact(model.model_id, str(path))
        self._client.finalize_logged_model(model.model_id, "READY")
        logged = run.outputs.model_outputs if run.outputs else []  # MLflow refuses the same one again
        if model.model_id not in [output.model_id for output in logged]:
            self._client.log_outputs(run.info.run_id, [LoggedModelOutput(model.model_id, step=0)])

    def _link(self, run: Run, model: LoggedModel, name: str) -> bool:
        """Whether the model could get the run's file without a second copy."""
        run_folder, model_folder = _local_path(run.info.artifact_uri), _local_path(model.artifact_location)
        if run_folder is None or model_folder is None:
            return False
        source, target = run_folder / CONVERTED / name, model_folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            target.unlink(missing_ok=True)
            os.link(source, target)
        except OSError:  # a file system without hard links
            return False
        return True

    def _end(self, run: Run) -> None:
        if alive := self._alive.pop(run.info.run_id, None):
            alive.end()
        else:
            remove_lock(run.data.tags, self._store.lock_folder)

    def _let_go(self, run_id: str) -> None:
        """Release a run that is not completely recorded: `reap` ends it, `send` completes it."""
        if alive := self._alive.pop(run_id, None):
            alive.let_go()


def _record_tags(record: RunRecord) -> dict[str, str]:
    """The tags `edlab.*`: the run's verdict, its end, the record's tags, and why metrics are missing.

    MLflow shows them in the order in which they are written.
    """
    tags = {}
    if record.verdict:
        tags["edlab.verdict"] = record.verdict.state.value
        tags["edlab.verdict_reasons"] = ",".join(reason.code for reason in record.verdict.reasons)
    tags["edlab.status"] = record.status.value
    optional = {"edlab.stage": record.stage, "edlab.reason": record.reason, "edlab.hint": record.hint}
    tags.update({key: str(value) for key, value in optional.items() if value})
    tags["edlab.sweep_id"], tags["edlab.uuid"] = record.sweep_id, record.uuid
    tags.update({f"edlab.{key}": value for key, value in record.tags.items()})
    return tags | {_missing_tag(name, record): reason for name, reason in record.missing.items()}


def _missing_tag(metric: str, record: RunRecord) -> str:
    """The tag with the reason for a missing metric: MLflow's pages show it for the six only."""
    prefix = "edlab." if metric in description.headlines(record) else HIDDEN
    return f"{prefix}missing.{metric}"


def _tags(tags: Mapping[str, str]) -> list[Any]:
    from mlflow.entities import RunTag

    return [RunTag(key, value[:_TAG_LENGTH]) for key, value in tags.items()]


def _metrics(record: RunRecord, dataset: DatasetInfo | None, model_id: str | None) -> list[Metric]:
    """The metrics, also for the logged model; accuracy is linked to its data set.

    The six come first, latency before accuracy: MLflow's page for comparing runs begins with the first one, and most
    sweeps have rows of equal accuracy.
    """
    from mlflow.entities import Metric

    accuracy, *rates = description.headlines(record)
    headlines = [*rates, accuracy]
    rank = {prefix + name: index for index, name in enumerate(headlines) for prefix in ("", *catalogue.PREFIXES)}
    ordered = sorted(record.metrics, key=lambda name: rank.get(name, len(rank)))
    metrics = []
    for name in ordered:
        value = record.metrics[name]
        scored = dataset if dataset and name.startswith("accuracy_") else None
        metrics.append(
            Metric(
                name,
                float(value),
                timestamp=record.ended_ms,  # the same at each try: an existing value is not added again
                step=0,
                model_id=model_id,
                dataset_name=scored.name if scored else None,
                dataset_digest=scored.digest[:_DATASET_DIGEST_LENGTH] if scored else None,
            )
        )
    return metrics


def _uuid(tags: Mapping[str, str]) -> str:
    """edlab's own id of a run, also of one that an older version recorded."""
    return tags.get(UUID) or tags.get("edlab.uuid", "")


def _verdict(tags: Mapping[str, str]) -> Verdict | None:
    """The verdict in a run's tags, whose reasons have only their codes."""
    if "edlab.verdict" not in tags:
        return None
    codes = filter(None, tags.get("edlab.verdict_reasons", "").split(","))
    reasons = [Reason(code=code, message="", advice="`edlab show RUN` explains it") for code in codes]
    return Verdict(state=VerdictState(tags["edlab.verdict"]), reasons=reasons)


def _without_prefix(tags: Mapping[str, str], prefix: str) -> dict[str, str]:
    return {name.removeprefix(prefix): value for name, value in tags.items() if name.startswith(prefix)}


def _without_quotes(word: str) -> str:
    """The text for one of MLflow's filters, which cannot escape a quote: _ matches any one character."""
    return re.sub(r"['\\]", "_", word)


def _local_path(uri: str) -> Path | None:
    """The folder of an artifact address; None if it is on a server."""
    parts = urlsplit(uri)
    return Path(unquote(parts.path)) if parts.scheme in ("", "file") else None


def _as_folder(name: str) -> str:
    """A name as the name of a folder."""
    return re.sub(r"[^\w.-]+", "-", name)


def _failure_log(record: RunRecord) -> str:
    lines = [f"stage:  {record.stage}", f"reason: {record.reason}", f"hint:   {record.hint}", "", record.log_tail]
    return "\n".join(lines) + "\n"
