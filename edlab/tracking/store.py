"""The store of the runs: a database in the current folder, or the address in MLFLOW_TRACKING_URI."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from edlab import durable
from edlab.cache import default_cache_dir
from edlab.config import TrackingConfig
from edlab.errors import EdlabError, StorageError, TrackingError
from edlab.sanitize import text
from edlab.tracking import bulk, database
from edlab.tracking.description import EXPERIMENT

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

_SQLITE = "sqlite:///"
_NOTE = "mlflow.note.content"  # the description of an experiment or a run
_SCHEMAS = re.compile(r"found version (\w+), but expected (\w+)")  # in MLflow's error, whose advice is for an old one

# MLflow reads these when it is imported. It must not send telemetry, or print among edlab's own output.
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",  # edlab reports errors, without SQLAlchemy's traceback
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    # Its own 7 tries of 120 s would block a sweep for a quarter of an hour; runs that cannot be sent are kept.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # a run that was created without an answer would be created twice
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
}


class Store:
    """MLflow at `config.uri`, with the configured experiment; a database and the experiment are created on demand.

    Raises `TrackingError` within a minute if they cannot be reached or created, or if there is no database and `create`
    is False.
    """

    def __init__(self, config: TrackingConfig, create: bool = True) -> None:
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        with self.explained("open it"):
            self.uri, self.folder = _locate(config.uri, create)
        self.experiment = config.experiment
        with self.explained("open it"):
            is_read = not create and bulk.is_database(self.uri)
            known = bulk.active_experiment(self.uri, self.experiment) if is_read else ""
            self.experiment_id = known or self._find_or_make_experiment()
        if create:
            self._describe()

    @cached_property
    def client(self) -> MlflowClient:
        """MLflow's client. Importing MLflow takes seconds, and many questions about a database do not need it."""
        from mlflow import MlflowClient

        logging.getLogger("alembic").setLevel(logging.WARNING)
        return MlflowClient(tracking_uri=self.uri)

    @property
    def shown_uri(self) -> str:
        """The address without a password."""
        return text(self.uri)

    @property
    def pages(self) -> str:
        """The address of the server's pages, without the user and the password: the browser asks for them."""
        parts = urlsplit(self.uri)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().rstrip("/")

    @property
    def is_server(self) -> bool:
        """Whether this is an MLflow server, which has its own UI."""
        return self.uri.startswith(("http://", "https://"))

    @property
    def lock_folder(self) -> Path:
        """The folder for the locks of runs in progress: next to the database, else in the user's cache."""
        return (self.folder or default_cache_dir()) / "locks"

    def _find_or_make_experiment(self) -> str:
        experiment = self.client.get_experiment_by_name(self.experiment) or self._make_experiment()
        if not experiment.experiment_id:
            raise TrackingError(f"{self.shown_uri} is not an MLflow server", hint="fix MLFLOW_TRACKING_URI")
        if experiment.lifecycle_stage != "active":
            raise TrackingError(
                f"the experiment '{self.experiment}' is deleted in MLflow at {self.shown_uri}",
                hint=f"restore it (mlflow experiments restore --experiment-id {experiment.experiment_id}), or name "
                "another with MLFLOW_EXPERIMENT_NAME",
            )
        return str(experiment.experiment_id)

    def _describe(self) -> None:
        """Describe an experiment that has no description; without the permission for it there is none."""
        with suppress(Exception):  # each of MLflow's stores raises its library's errors
            if not self.client.get_experiment(self.experiment_id).tags.get(_NOTE):
                self.client.set_experiment_tag(self.experiment_id, _NOTE, EXPERIMENT)

    def _make_experiment(self) -> Experiment:
        from mlflow.exceptions import MlflowException

        location = (self.folder / "artifacts").as_uri() if self.folder else None
        try:
            self.client.create_experiment(self.experiment, artifact_location=location)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # created by another edlab in the meantime
                raise
        created = self.client.get_experiment_by_name(self.experiment)
        assert created is not None
        return created

    @contextmanager
    def explained(self, action: str) -> Iterator[None]:
        """Convert errors of MLflow and its libraries into `TrackingError`, a full disk into `StorageError`."""
        try:
            yield
        except EdlabError:
            raise
        except Exception as error:  # each of MLflow's stores raises its library's errors
            place = self.folder or "a temporary file"
            if storage_error := durable.storage_error(error, place, "set MLFLOW_TRACKING_URI to another place"):
                raise storage_error from error
            if schemas := _SCHEMAS.search(str(error)):
                raise self._of_other_version(*schemas.groups()) from error
            first_line = text(str(error).strip() or type(error).__name__).splitlines()[0]
            raise TrackingError(
                f"MLflow at {self.shown_uri}: cannot {action}: {shorten(first_line, 300, placeholder=' ...')}",
                hint=self._hint(),
            ) from error

    def _of_other_version(self, found: str, needed: str) -> TrackingError:
        return TrackingError(
            f"another version of MLflow wrote the database {self.shown_uri}: its schema is {found}, and the installed "
            f"MLflow needs {needed}",
            hint="if that version was newer, install it, or keep the runs elsewhere with MLFLOW_TRACKING_URI; if it "
            f"was older, back up the database and run `mlflow db upgrade {self.shown_uri}`",
        )

    def _hint(self) -> str:
        if self.is_server:
            return "start that server, or fix MLFLOW_TRACKING_URI (unset: a database below the current folder)"
        if self.folder:
            return f"check that {self.folder} is writable and has free space, or set MLFLOW_TRACKING_URI"
        return "set MLFLOW_TRACKING_URI to sqlite:///mlruns/mlflow.db or http://host:5000"


def store_name(config: TrackingConfig) -> str:
    """The identity of this store, without a password."""
    uri = config.uri
    if uri.startswith(_SQLITE):
        uri = f"{_SQLITE}{Path(uri.removeprefix(_SQLITE)).absolute()}"
    return f"{text(uri)} {config.experiment}"


def _locate(uri: str, create: bool) -> tuple[str, Path | None]:
    """The address in a form that is independent of the current folder, and the folder of a database file."""
    if not uri:
        raise TrackingError("MLFLOW_TRACKING_URI is empty", hint="unset it: the runs are then kept in ./mlruns")
    if not uri.startswith(_SQLITE):
        return uri, None
    file = Path(uri.removeprefix(_SQLITE)).absolute()
    if file.is_dir():
        raise TrackingError(f"{file} is a folder", hint="set MLFLOW_TRACKING_URI=sqlite:///FOLDER/mlflow.db")
    if not create and not file.exists():
        raise TrackingError(
            f"no runs found: {file} does not exist",
            hint="start a run with `edlab run`; for runs that are elsewhere, change to that folder or set "
            "MLFLOW_TRACKING_URI",
        )
    if "'" in str(file):
        raise TrackingError(
            f"MLflow cannot keep runs in a folder with a quote in its name: {file.parent}",
            hint="work in another folder, or set MLFLOW_TRACKING_URI",
        )
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        database.create(file, file.parent / "artifacts")
    except OSError as error:
        raise StorageError(
            f"cannot create {file}: {error.strerror}",
            hint="free space there, run in a writable folder, or keep the runs elsewhere with MLFLOW_TRACKING_URI",
        ) from error
    return database.address(file), file.parent
