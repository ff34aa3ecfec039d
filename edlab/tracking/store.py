"""Where the runs are kept: a database below the current folder, or whatever MLFLOW_TRACKING_URI names."""

from __future__ import annotations

import errno
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from edlab.cache import default_cache_dir
from edlab.config import TrackingConfig
from edlab.errors import StorageError, TrackingError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

_SQLITE = "sqlite:///"
_ANSWER_S = 5  # a server that takes longer for its first answer is taken as unreachable

# MLflow reads these as it is imported. Nothing here reports home or prints beside edlab's own output.
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}


class Store:
    """MLflow at `config.uri`, with the experiment named there; both are made on demand.

    Raises `TrackingError` within seconds where they cannot be reached or made.
    """

    def __init__(self, config: TrackingConfig) -> None:
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        logging.getLogger("alembic").setLevel(logging.WARNING)
        self.uri, self.folder = _locate(config.uri)
        self.experiment = config.experiment
        if self.folder and "'" in str(self.folder):
            raise TrackingError(
                f"MLflow cannot keep runs in a folder with a quote in its name: {self.folder}",
                hint="work in another folder, or set MLFLOW_TRACKING_URI",
            )
        with self.explained("open it"), _one_quick_try():
            self.client: MlflowClient = MlflowClient(tracking_uri=self.uri)
            self.experiment_id = self._find_or_make_experiment()

    @property
    def shown_uri(self) -> str:
        """The address without a password."""
        return _without_password(self.uri)

    @property
    def is_server(self) -> bool:
        """Whether this is an MLflow server, which has a UI of its own."""
        return self.uri.startswith(("http://", "https://"))

    @property
    def lock_folder(self) -> Path:
        """Where the locks of runs in progress lie: beside the database, else in the user's cache."""
        return (self.folder or default_cache_dir()) / "locks"

    def _find_or_make_experiment(self) -> str:
        experiment = self.client.get_experiment_by_name(self.experiment) or self._make_experiment()
        if experiment.lifecycle_stage != "active":
            raise TrackingError(
                f"the experiment '{self.experiment}' is deleted in MLflow at {self.shown_uri}",
                hint=f"restore it (mlflow experiments restore --experiment-id {experiment.experiment_id}), or name "
                "another with MLFLOW_EXPERIMENT_NAME",
            )
        return str(experiment.experiment_id)

    def _make_experiment(self) -> Experiment:
        from mlflow.exceptions import MlflowException

        location = (self.folder / "artifacts").as_uri() if self.folder else None
        try:
            self.client.create_experiment(self.experiment, artifact_location=location)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # made by another edlab since we looked
                raise
        made = self.client.get_experiment_by_name(self.experiment)
        assert made is not None
        return made

    @contextmanager
    def explained(self, action: str) -> Iterator[None]:
        """Turn what MLflow and its libraries raise into `TrackingError`, a full disk into `StorageError`."""
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except (MlflowException, SQLAlchemyError, OSError) as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
                raise StorageError(
                    f"cannot write {error.filename or self.folder}: {error.strerror}",
                    hint="free space there, or keep the runs elsewhere with MLFLOW_TRACKING_URI",
                ) from error
            first_line = _without_password(str(error).strip() or type(error).__name__).splitlines()[0]
            raise TrackingError(
                f"MLflow at {self.shown_uri}: cannot {action}: {first_line[:300]}", hint=self._hint()
            ) from error

    def _hint(self) -> str:
        if self.is_server:
            return "start that server, or correct MLFLOW_TRACKING_URI (unset: a database below the current folder)"
        if self.folder:
            return f"check that {self.folder} can be written and has room, or set MLFLOW_TRACKING_URI"
        return "give MLFLOW_TRACKING_URI the form sqlite:///mlruns/mlflow.db or http://host:5000"


def _without_password(text: str) -> str:
    """The text with the user and password of any address in it left out."""
    return re.sub(r"//[^/@\s]*@", "//", text)


def _locate(uri: str) -> tuple[str, Path | None]:
    """The address in a form that no change of folder alters, and the folder of a database file."""
    if not uri.startswith(_SQLITE):
        return uri, None
    database = Path(uri.removeprefix(_SQLITE)).absolute()
    try:
        database.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"cannot make {database.parent}: {error.strerror}",
            hint="run in a folder that can be written, or keep the runs elsewhere with MLFLOW_TRACKING_URI",
        ) from error
    return f"{_SQLITE}{database}", database.parent


@contextmanager
def _one_quick_try() -> Iterator[None]:
    """Let MLflow's requests fail at once: its own 7 tries of 120 s would hold up a sweep for a quarter of an hour."""
    quick = {"MLFLOW_HTTP_REQUEST_TIMEOUT": str(_ANSWER_S), "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    before = {name: os.environ.get(name) for name in quick}
    os.environ.update(quick)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
