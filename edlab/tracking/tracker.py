"""Writes runs to MLflow: one MLflow run for each run of edlab, whatever happened to it."""

from __future__ import annotations

import json
import os
import platform
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from edlab.config import TrackingConfig
from edlab.errors import EdlabError
from edlab.record import RunRecord, Status
from edlab.tracking import codec, description, registered, retrieval, ui
from edlab.tracking.bulk import Row
from edlab.tracking.files import CONVERTED, DatasetInfo, Files
from edlab.tracking.liveness import Alive, is_dead, remove_lock
from edlab.tracking.runs import Runs, local_path
from edlab.tracking.store import Store
from edlab.tracking.sweeps import TAG_LENGTH, Summary, Sweeps

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel, Run

T = TypeVar("T")
_NOTE = "mlflow.note.content"
_VALUES_PER_BATCH = 100  # a limit of MLflow's REST API

# A run that was refused before any work has ended correctly; its own status is in the tag edlab.status.
_ENDED = {
    Status.ok: "FINISHED",
    Status.skipped: "FINISHED",
    Status.failed: "FAILED",
    Status.interrupted: "KILLED",
}


class Tracker(Runs):
    """Writes runs to MLflow, and finds recorded runs.

    Opens or creates the database (or connects to the server) and the experiment immediately, and raises `TrackingError`
    if that fails, so that a sweep fails before it has measured anything. With `create` False nothing is created.
    """

    def __init__(self, config: TrackingConfig, create: bool = True) -> None:
        super().__init__(Store(config, create))
        self._unanswered: dict[str, Alive] = {}  # by uuid: of runs that a server may have created
        self._alive: dict[str, Alive] = {}
        self._sweeps = Sweeps(self._store)

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
                self._log_params(run, record)
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
            self._ensure_open()
        except EdlabError:
            return False
        return True

    def _ensure_open(self) -> None:
        """Raise `TrackingError` if MLflow's client cannot read the store, which reading by SQL does not notice."""
        with self._store.explained("open it"):
            self._client.get_experiment(self._store.experiment_id)

    def reap(self) -> list[str]:
        """End the runs of this host whose process is gone as KILLED, edlab.status=interrupted; return their ids."""
        with self._store.explained("look for interrupted runs"):
            running = self._search(f"attributes.status = 'RUNNING' and tags.`edlab.host` = '{platform.node()}'")
            dead = [run for run in running if is_dead(run.data.tags, self._store.lock_folder)]
            for run in dead:
                tags = {
                    "edlab.status": Status.interrupted.value,
                    "edlab.reason": codec.KILLED,
                    "edlab.hint": codec.KILLED_HINT,
                }
                self._client.log_batch(run.info.run_id, tags=codec.as_tags(tags))
                self._client.set_terminated(run.info.run_id, "KILLED")
                remove_lock(run.data.tags, self._store.lock_folder)
        return [run.info.run_id for run in dead]

    def pull(self, name: str, to: Path | None = None, force: bool = False) -> list[Path]:
        """Copy the converted model of the run that `find` returns into the folder `to`; return the files there.

        `name` may also be the address of a registered model, models:/NAME@ALIAS or models:/NAME/VERSION. Without `to`,
        it is a folder here with the name of the run and the beginning of its id, or the name and the version. Existing
        files are overwritten only with `force`.

        Of several runs with one name, the latest with a model is used. Raises `TrackingError` if the run has none, if a
        file with that name already exists, or if the files are not those that were recorded.
        """
        return retrieval.pull(self._store, self, name, to, force)

    def promote(self, name: str, as_name: str, alias: str = "") -> tuple[Row, registered.Promoted]:
        """Register the converted model of the run that `find` returns in MLflow's model registry.

        A run that is registered under this name already keeps its version, and gets the alias. Raises `ConfigError` for
        an invalid name, `TrackingError` if the run has no model.
        """
        return registered.promote(self._store, self, name, as_name, alias)

    def serve_ui(self, host: str, port: int, on_ready: Callable[[str], None]) -> int:
        """Serve MLflow's UI on these runs until it is interrupted, on another port if this one is in use; return 0.

        `on_ready` gets the address of the latest sweep's runs, once the UI answers. Runs that are on a server have its
        UI: then this returns immediately.
        """
        if self._store.is_server:
            on_ready(ui.latest_page(self._store, self, self._store.pages))
            return 0
        self._ensure_open()
        free = ui.free_port(host, port)
        page = ui.latest_page(self._store, self, f"http://{host}:{free}")
        return ui.serve(self._store.uri, host, free, lambda: on_ready(page))

    def _find_begun(self, record: RunRecord) -> Run | None:
        """The run of this record, if it exists."""
        for tag in (codec.UUID, "edlab.uuid"):  # the latter: of a run that an older version began
            if found := self._search(f"tags.`{tag}` = '{record.uuid}'", limit=1):
                return self._client.get_run(found[0].info.run_id)  # with its inputs and outputs
        return None

    def _create_run(self, record: RunRecord, row: Mapping[str, str]) -> Run:
        """Create a run with a sign of life."""
        alive = Alive(self._store.lock_folder)
        tags = {**alive.tags, **row, codec.UUID: record.uuid}
        try:
            run = self._client.create_run(
                self._store.experiment_id,
                start_time=record.started_ms,  # it may be sent days later
                run_name=record.name,
                tags=tags,
            )
        except BaseException:
            if self._store.is_server:  # it may still have created the run: then `reap` must find it dead
                alive.let_go()
                self._unanswered[record.uuid] = alive
            else:
                alive.end()
            raise
        self._alive[run.info.run_id] = alive
        return run

    def _log_params(self, run: Run, record: RunRecord) -> None:
        """Log the parameters that the run does not have yet."""
        new = {key: text for key, text in codec.params(record).items() if key not in run.data.params}
        for batch in _batches(codec.as_params(new)):
            self._client.log_batch(run.info.run_id, params=batch)

    def _log_values(self, run: Run, record: RunRecord, files: Files, model: LoggedModel | None) -> None:
        """Parameters that were not known at the start, metrics (the model's too), tags, and the data set."""
        run_id = run.info.run_id
        name = description.mark(record) + record.name  # the precision of a model file is known once it is read
        if run.info.run_name != name:
            self._client.update_run(run_id, name=name)
        self._log_params(run, record)
        note = description.of_run(record)[:TAG_LENGTH]
        current = codec.tags(record) | {_NOTE: note, codec.UUID: record.uuid}
        del current["edlab.uuid"]
        for name in run.data.tags.keys() & {"edlab.reason", "edlab.hint"} - current.keys():  # of `reap`
            self._client.delete_tag(run_id, name)
        metrics = codec.metrics(record, files.dataset, model.model_id if model else None)
        first, *others = _batches(codec.as_tags(current))
        self._client.log_batch(run_id, metrics=metrics, tags=first)
        for batch in others:
            self._client.log_batch(run_id, tags=batch)
        logged = run.inputs.dataset_inputs if run.inputs else []  # MLflow refuses the same one again
        if files.dataset and not logged:
            self._log_dataset(run_id, files.dataset)

    def _log_dataset(self, run_id: str, info: DatasetInfo) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(
            name=info.name,
            digest=info.digest[: codec.DATASET_DIGEST_LENGTH],
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
            tags=codec.tags(record),
            params=codec.params(record),
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
        run_folder, model_folder = local_path(run.info.artifact_uri), local_path(model.artifact_location)
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


def _batches(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """The values in groups that MLflow accepts at once."""
    for start in range(0, len(values), _VALUES_PER_BATCH):
        yield values[start : start + _VALUES_PER_BATCH]


def _failure_log(record: RunRecord) -> str:
    lines = [f"stage:  {record.stage}", f"reason: {record.reason}", f"hint:   {record.hint}", "", record.log_tail]
    return "\n".join(lines) + "\n"
