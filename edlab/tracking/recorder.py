"""Records runs: on this disk first, then in MLflow; runs that cannot be sent now are sent later, once, in order."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from edlab import signals
from edlab.config import TrackingConfig
from edlab.errors import StorageError
from edlab.record import RunRecord, Status
from edlab.sanitize import text
from edlab.tracking.files import RESULT, Files
from edlab.tracking.spool import Entry, Spool
from edlab.tracking.store import store_name
from edlab.tracking.sweeps import Summary, waiting
from edlab.tracking.tracker import Tracker

_INTERRUPTED_TIMEOUT_S = 2
_SLOW_S = 5  # a store that takes longer than this to fail is not tried again for
_BACKOFF = 10  # times as long, so it costs at most a tenth of the time


class _Ended(NamedTuple):
    """A run that is not in the spool yet."""

    record: RunRecord
    files: Files
    folder: Path


class Recorder:
    """Sends each run of a sweep to MLflow. It never raises for an unavailable store: `problem` reports it."""

    def __init__(self, config: TrackingConfig, spool: Spool | None = None) -> None:
        self._config = config
        self._spool = spool or Spool()
        self._summaries = self._spool.folder.with_name("summaries")
        self._tracker: Tracker | None = None
        self._unkept: list[_Ended] = []  # the disk had no space for them
        self._ask_again_at = 0.0  # on the monotonic clock
        self._sent: dict[str, str] = {}  # uuid -> MLflow's run id
        self._hanging: threading.Thread | None = None  # the last thread that sent briefly
        self.problem = ""  # why entries wait; empty if none waits

    def open(self) -> Tracker:
        """The store. Raises `TrackingError` or `StorageError` if it cannot be opened or created."""
        if self._tracker is None:
            self._tracker = Tracker(self._config)
        return self._tracker

    def begin(self, record: RunRecord) -> None:
        """Create the MLflow run, RUNNING, and set its id; without an id the run is created when it is sent."""
        record.sanitize()
        if self._is_away():
            return
        with self._noting_problems():
            record.run_id = self.open().start(record)

    def begin_sweep(self, sweep_id: str, name: str, note: str) -> None:
        """Create the parent of the runs of a sweep; if that fails, `end_sweep` creates it."""
        with self._noting_problems():
            self.open().begin_sweep(sweep_id, text(name), text(note))

    def end_sweep(self, summary: Summary) -> None:
        """Save the summary of a sweep on the disk; `send` sends it after the runs. Raises `StorageError`."""
        summary.write(self._summaries)

    def store_name(self) -> str:
        """The identity of the store, for a `Summary`."""
        return store_name(self._config)

    def unsent_summaries(self) -> list[str]:
        """The ids of sweeps of which MLflow has no summary yet."""
        return [summary.sweep_id for _, summary in waiting(self._summaries, self.store_name())]

    def keep(self, record: RunRecord, files: Files, folder: Path) -> None:
        """Save a finished run on the disk. Raises `StorageError` if the disk is completely full.

        Runs that could not be written are tried again with the next run, and by `flush`.
        """
        record.sanitize()
        self._unkept.append(_Ended(record, files, folder))
        try:
            with signals.deferred():
                self._keep()
        except StorageError as error:
            if not (folder / RESULT).exists():
                raise
            record.unrecorded = error.message  # in the spool; the metrics are safe

    def end(self, record: RunRecord, folder: Path, draw: Callable[[], Sequence[Path]] = list) -> None:
        """Send a saved run, with the plots of `draw`, after the waiting ones.

        Ctrl-C stops the sending: the run is sent later.
        """
        no_room, record.unrecorded = record.unrecorded, ""
        if entry := self._entry_of(folder):
            self._add_pictures(entry, record, draw)
        if record.status is Status.interrupted:
            self.send_briefly()
        elif not self._is_away():
            self.send()
        record.run_id = self._sent.get(record.uuid, record.run_id)
        if self._entry_of(folder) or any(ended.record is record for ended in self._unkept):
            record.unrecorded = no_room or self.problem or "no answer from MLflow, or another edlab is sending the run"
            with suppress(OSError):
                record.write(folder / RESULT)

    def _add_pictures(self, entry: Entry, record: RunRecord, draw: Callable[[], Sequence[Path]]) -> None:
        """A run is complete without them: errors are noted in it."""
        try:
            self._spool.add_files(entry, draw())
        except Exception as error:
            record.details["no_pictures"] = text(f"{type(error).__name__}: {error}")
            with suppress(OSError):
                self._spool.update(entry, record)

    def send_briefly(self) -> None:
        """Send for two seconds: after Ctrl-C no one waits for a store that hangs."""
        if self._hanging is None or not self._hanging.is_alive():
            self._hanging = threading.Thread(target=self.send, daemon=True)
            self._hanging.start()
            self._hanging.join(_INTERRUPTED_TIMEOUT_S)

    def _entry_of(self, folder: Path) -> Entry | None:
        """The waiting entry of the run in this folder."""
        return next((entry for entry in self._entries() if entry.origin == folder.absolute()), None)

    def flush(self) -> int:
        """Try to send all entries; return how many runs still wait for MLflow."""
        self._keep_what_fits()
        self.send()
        return self.waiting()

    def waiting(self) -> int:
        """How many runs wait for MLflow."""
        self._keep_what_fits()
        return len(self._entries())

    def lost(self) -> list[str]:
        """The runs that no disk had space for: their metrics are lost when this process ends."""
        self._keep_what_fits()
        return [ended.record.name for ended in self._unkept if not (ended.folder / RESULT).exists()]

    def not_for_this_store(self) -> dict[str, int]:
        """The number of runs that wait for other stores, by address and experiment."""
        stores = Counter(entry.store for entry in self._spool.entries())
        del stores[store_name(self._config)]
        return dict(stores)

    def damaged(self) -> list[Path]:
        """Folders of the spool that cannot be read, and are not sent."""
        return self._spool.damaged()

    def send(self) -> None:
        """Send waiting runs, oldest first, until the store does not answer."""
        with self._spool.sending() as granted:
            if not granted:
                return
            self._spool.tidy()
            self.problem = ""
            for entry in self._entries():
                with self._noting_problems():
                    self._send(entry)
                if self.problem and (self._is_away() or not (self._tracker and self._tracker.is_reachable())):
                    break
                self._ask_again_at = 0.0  # it answers: runs that it refused do not block the others
            else:
                self._send_summaries()

    def _send_summaries(self) -> None:
        """Send the summaries of sweeps of which MLflow has all runs."""
        incomplete = {entry.origin.parent.name for entry in self._entries()}
        for path, summary in waiting(self._summaries, self.store_name()):
            if summary.sweep_id not in incomplete and not self._is_away():
                with self._noting_problems():
                    self.open().end_sweep(summary)
                    path.unlink(missing_ok=True)

    def _send(self, entry: Entry) -> None:
        record = entry.record()
        record.unrecorded = ""
        self._sent[record.uuid] = self.open().send(record, entry.files())
        self._spool.remove(entry)
        if entry.origin.is_dir():
            with suppress(OSError):  # MLflow has the run
                record.write(entry.origin / RESULT)

    def _keep(self) -> None:
        """Save the finished runs on the disk. Raises `StorageError` if there is no space for one."""
        problems = []
        for ended in list(self._unkept):
            try:
                self._keep_one(ended)
                self._unkept.remove(ended)
            except OSError as error:
                problems.append(
                    StorageError(
                        f"cannot save {ended.record.name}: {error}",
                        hint="free space on the disk, or run in a writable folder",
                    )
                )
            except StorageError as error:
                problems.append(error)
        if problems:
            raise problems[0]

    def _keep_what_fits(self) -> None:
        try:
            self._keep()
        except StorageError as error:
            self.problem = self.problem or error.message

    def _keep_one(self, ended: _Ended) -> None:
        record, files, folder = ended
        try:
            self._spool.add(record, files, store_name(self._config), folder)
        except FileNotFoundError as error:  # for example its model, because the cache was removed in the meantime
            record.details["files_lost"] = f"{error.filename} was removed before it could be recorded"
            self._spool.add(record, Files(dataset=files.dataset), store_name(self._config), folder)
        finally:
            with suppress(OSError):  # if only the spool has space, sending writes it
                folder.mkdir(parents=True, exist_ok=True)
                record.write(folder / RESULT)

    def _entries(self) -> list[Entry]:
        return [entry for entry in self._spool.entries() if entry.store == store_name(self._config)]

    def _is_away(self) -> bool:
        return time.monotonic() < self._ask_again_at

    @contextmanager
    def _noting_problems(self) -> Iterator[None]:
        start = time.monotonic()
        try:
            yield
        except Exception as error:  # each of MLflow's many stores raises its library's errors
            now = time.monotonic()
            self.problem = text(str(error) or type(error).__name__)
            waited = now - start
            self._ask_again_at = now + _BACKOFF * waited if waited > _SLOW_S else 0.0
