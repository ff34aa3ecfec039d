"""Finished runs on this disk, until MLflow has them: an unavailable server loses no metrics."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from edlab import durable
from edlab.record import RunRecord
from edlab.scratch import discard, locked_folder, remove_abandoned
from edlab.tracking.files import DatasetInfo, Files

FOLDER = Path("mlruns", "spool")
_LOCK_TIMEOUT_S = 10.0
_UNFINISHED = ".new-"
_OWN = _ENTRY, _RECORD, _CONVERTED = "entry.json", "result.json", "converted"


@dataclass(frozen=True)
class Entry:
    """A run that MLflow does not have yet."""

    folder: Path
    store: str  # its destination: `Store.name`
    origin: Path  # the folder of the run, with the result.json for users

    def record(self) -> RunRecord:
        """The run."""
        return RunRecord.read(self.folder / _RECORD)

    def files(self) -> Files:
        """The files of the run."""
        kept = json.loads((self.folder / _ENTRY).read_text())
        return Files(
            converted=tuple(self.folder / _CONVERTED / name for name in kept["converted"]),
            named={path.name: path for path in sorted(self.folder.glob("[!.]*")) if path.name not in _OWN},
            dataset=DatasetInfo(**kept["dataset"]) if kept["dataset"] else None,
        )


class Spool:
    """The entries in the current folder, oldest first. An entry that exists is complete: it was renamed into place."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self.folder = folder.absolute()

    def add(self, record: RunRecord, files: Files, store: str, origin: Path) -> Entry:
        """Save a run; its files are hard links if possible, else copies. Raises `StorageError` if the disk is full."""
        with durable.writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            with locked_folder(self.folder, _UNFINISHED) as scratch:
                self._fill(scratch, record, files, store, origin)
                folder = self.folder / f"{time.time_ns():020}-{record.uuid[:8]}"
                durable.rename(scratch, folder)
        return Entry(folder, store, origin)

    def _fill(self, folder: Path, record: RunRecord, files: Files, store: str, origin: Path) -> None:
        (folder / _CONVERTED).mkdir()
        for path in files.converted:
            _link(path, folder / _CONVERTED / path.name)
        for name, path in files.named.items():
            _link(path, folder / name)
        record.write(folder / _RECORD)
        entry = {
            "store": store,
            "origin": str(origin.absolute()),
            "converted": [path.name for path in files.converted],
            "dataset": asdict(files.dataset) if files.dataset else None,
        }
        (folder / _ENTRY).write_text(json.dumps(entry, indent=2))
        durable.sync_tree(folder)

    def add_files(self, entry: Entry, files: Iterable[Path]) -> None:
        """Save more files of a run, each completely or not at all. Raises `OSError` if the disk is full."""
        for path in files:
            scratch = entry.folder / f".{path.name}"
            _link(path, scratch)
            scratch.replace(entry.folder / path.name)

    def update(self, entry: Entry, record: RunRecord) -> None:
        """Save another record of the same run. Raises `OSError` if the disk is full."""
        record.write(entry.folder / _RECORD)

    def entries(self) -> list[Entry]:
        """All entries, in the order in which their runs ended. Damaged ones are skipped."""
        found = []
        for path in sorted(self.folder.glob(f"[!.]*/{_ENTRY}")):
            with suppress(FileNotFoundError, ValueError, KeyError, TypeError):  # or another process has sent it
                kept = json.loads(path.read_text())
                found.append(Entry(path.parent, kept["store"], Path(kept["origin"])))
        return found

    def damaged(self) -> list[Path]:
        """The folders that are not valid entries; the run itself is in its own folder in mlruns/sweeps."""
        known = {entry.folder for entry in self.entries()}
        return [folder for folder in sorted(self.folder.glob("[!.]*")) if folder not in known]

    def remove(self, entry: Entry) -> None:
        """Remove a run that MLflow has. The entry is removed completely or not at all."""
        discard(entry.folder)

    def tidy(self) -> None:
        """Remove incomplete entries of killed processes."""
        remove_abandoned(self.folder, ".")

    @contextmanager
    def sending(self) -> Iterator[bool]:
        """Lock the sending of entries; False if another process holds the lock for long."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / ".lock", timeout=_LOCK_TIMEOUT_S)
        try:
            lock.acquire()
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)
