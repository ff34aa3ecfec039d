"""Recorded runs, wherever they are: in MLflow, by a run's or a sweep's id, or in result.json files."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edlab import predictions_file
from edlab.composition import compose_config
from edlab.errors import EdlabError, StorageError, TrackingError
from edlab.record import RunRecord
from edlab.tracking import RESULT, Tracker

ALL = "all"


class Results:
    """Finds runs, and reads what a comparison needs from their files. MLflow is opened when it is needed."""

    def __init__(self) -> None:
        self._opened: Tracker | None = None
        self._folders: dict[str, Path] = {}  # by uuid, of the runs that were read from files
        self._right: dict[str, NDArray[np.bool_] | None] = {}
        self.problems: dict[str, list[str]] = {}  # what is not used, and why: of which runs or folders

    @property
    def tracker(self) -> Tracker:
        """The store. Raises `TrackingError` if there is none."""
        if self._opened is None:
            self._opened = Tracker(compose_config([]).tracking, create=False)
        return self._opened

    def find(
        self, names: Sequence[str] = (), condition: str = "", metrics: Collection[str] | None = None
    ) -> list[RunRecord]:
        """The runs with these names, each once: a run, a sweep, a result.json, a folder of a sweep, or `all`.

        Without names, the runs that match the condition (MLflow's filter syntax); without both, the latest sweep.
        With `metrics`, other metrics may be absent. Raises `TrackingError` if there are none.
        """
        found = [record for name in names for record in self._named(name, metrics)]
        if condition:
            matching = self.tracker.matching(condition)
            wanted = {record.uuid for record in matching}
            found = [record for record in found if record.uuid in wanted] if names else matching
        elif not names:
            found = self._latest_sweep(metrics)
        if not found:
            what = f"match the filter {condition}" if condition else "are recorded"
            raise TrackingError(f"no runs {what}", hint="`edlab runs` lists the latest runs")
        return list({record.uuid: record for record in found}.values())

    def one(self, name: str) -> RunRecord:
        """The only run of this name. Raises `TrackingError` for a sweep of several runs."""
        found = self._named(name)
        if len(found) > 1:
            listed = ", ".join(f"{record.run_id[:8]} ({record.name})" for record in found[:10])
            raise TrackingError(f"'{name}' has {len(found)} runs", hint=f"choose one of: {listed}")
        return found[0]

    def right(self, record: RunRecord) -> NDArray[np.bool_] | None:
        """Which of the scored images the run predicted right, (N,); None if it is not recorded, or damaged."""
        if record.uuid not in self._right:
            self._right[record.uuid] = self._read_right(record)
        return self._right[record.uuid]

    def complete(self, record: RunRecord) -> RunRecord:
        """The run with its environment and details, which are in its files alone."""
        return record if record.uuid in self._folders else self.tracker.record(record.run_id)

    def file(self, record: RunRecord, name: str, folder: Path) -> Path:
        """A file of a run: where it is, or a copy of MLflow's below `folder`.

        Raises `StorageError` or `TrackingError` if the run does not have it.
        """
        if record.uuid in self._folders:
            path = self._folders[record.uuid] / name
            if not path.exists():
                raise StorageError(f"{path} is missing", hint="copy the whole folder of the run")
            return path
        own = folder / record.uuid  # files of several runs have the same name
        own.mkdir(exist_ok=True)
        return self.tracker.download(record, name, own)

    def address(self, record: RunRecord) -> str:
        """The page of a run on the MLflow server; empty if there is no server."""
        return self._opened.address(record) if self._opened else ""

    def _named(self, name: str, metrics: Collection[str] | None = None) -> list[RunRecord]:
        path = Path(name)
        if path.is_file():
            return [self._read(path)]
        if (path / RESULT).is_file():
            return [self._read(path / RESULT)]
        if rows := _rows(path):
            return self._readable(path, rows)
        return self.tracker.everything(metrics) if name == ALL else self.tracker.rows(name, metrics)

    def _readable(self, sweep: Path, rows: Sequence[Path]) -> list[RunRecord]:
        """The runs in these folders of a sweep; `problems` has those that cannot be read.

        Raises `StorageError` if there are no others.
        """
        found: list[RunRecord] = []
        errors: list[StorageError] = []
        for row in rows:
            try:
                found.append(self._read(row / RESULT))
            except StorageError as error:
                errors.append(error)
                self._note(str(row), f"not used, because {error.message.removeprefix(f'{row}{os.sep}')}")
        if not found:
            hint = errors[0].hint
            raise StorageError(f"none of the {len(rows)} runs in {sweep} can be read: {errors[0].message}", hint=hint)
        return found

    def _read(self, file: Path) -> RunRecord:
        """The run of a result.json, whose other files are next to it. Raises `StorageError`."""
        record = RunRecord.read(file)
        self._folders[record.uuid] = file.parent
        return record

    def _latest_sweep(self, metrics: Collection[str] | None) -> list[RunRecord]:
        latest = self.tracker.latest_sweep()
        return self.tracker.rows(latest, metrics) if latest else []

    def _read_right(self, record: RunRecord) -> NDArray[np.bool_] | None:
        digest = predictions_file.digest_of(record)
        if not digest:
            return None
        with tempfile.TemporaryDirectory() as folder:
            try:
                return predictions_file.read(self.file(record, predictions_file.FILE, Path(folder)), digest)
            except EdlabError as error:
                name = f"{record.run_id[:8]} {record.name}".strip()
                self._note(name, f"accuracy is not compared image by image: {error.message}")
                return None

    def _note(self, name: str, problem: str) -> None:
        """Keep a problem of a run, or of a folder, for the reader of the answer."""
        self.problems.setdefault(problem, []).append(name)


def _rows(folder: Path) -> list[Path]:
    """The folders of a sweep's runs, by their numbers, which are their names; then others that have a result.json."""
    found = [row for row in folder.glob("*/") if row.name.isdecimal() or (row / RESULT).is_file()]
    return sorted(found, key=lambda row: (not row.name.isdecimal(), row.name.zfill(9)))
