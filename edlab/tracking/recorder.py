"""Records runs: on this disk first, then in MLflow; what cannot be sent now is sent later, once, in order."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from edlab import signals
from edlab.config import TrackingConfig
from edlab.errors import StorageError
from edlab.record import RunRecord, Status
from edlab.sanitize import text
from edlab.tracking.files import Files
from edlab.tracking.spool import Entry, Spool
from edlab.tracking.store import store_name
from edlab.tracking.tracker import Tracker

RESULT = "result.json"
_INTERRUPTED_TIMEOUT_S = 2
_SLOW_S = 5  # a store that takes longer than that to fail is left alone for
_BACKOFF = 10  # times as long: so it costs a tenth of the night at most


class _Ended(NamedTuple):
    """A run that is not in the spool yet."""

    record: RunRecord
    files: Files
    folder: Path


class Recorder:
    """The way of each run of a sweep to MLflow. It never raises for a store that is away: `problem` says so."""

    def __init__(self, config: TrackingConfig, spool: Spool | None = None) -> None:
        self._config = config
        self._spool = spool or Spool()
        self._tracker: Tracker | None = None
        self._unkept: list[_Ended] = []  # the disk had no room for them
        self._ask_again_at = 0.0  # by the monotonic clock
        self._sent: dict[str, str] = {}  # uuid -> MLflow's id
        self.problem = ""  # why entries wait; empty where none does

    def open(self) -> Tracker:
        """The store. Raises `TrackingError` or `StorageError` where it cannot be opened or made."""
        if self._tracker is None:
            self._tracker = Tracker(self._config)
        return self._tracker

    def begin(self, record: RunRecord) -> None:
        """Make the MLflow run, RUNNING, and set its id; without an id the run is made when it is sent."""
        record.sanitize()
        if self._is_away():
            return
        with self._noting_problems():
            record.run_id = self.open().start(record)

    def end(self, record: RunRecord, files: Files, folder: Path) -> None:
        """Put the run on the disk, then send what waits. Raises `StorageError` where the disk has no room at all.

        What could not be written is tried again with the next run, and by `flush`. Ctrl-C ends the sending, not the
        writing: the run is sent later.
        """
        record.sanitize()
        self._unkept.append(_Ended(record, files, folder))
        no_room = ""
        try:
            with signals.deferred():
                self._keep()
        except StorageError as error:
            if not (folder / RESULT).exists():
                raise
            no_room = error.message  # in the spool; the figures are safe
        if record.status is Status.interrupted:
            self._send_briefly()
        elif not self._is_away():
            self.send()
        record.run_id = self._sent.get(record.uuid, record.run_id)
        if self._waits(record, folder):
            record.unrecorded = no_room or self.problem or "it has not answered, or another edlab is sending it"
            with suppress(OSError):
                record.write(folder / RESULT)

    def _send_briefly(self) -> None:
        """Send for two seconds: after Ctrl-C nobody waits for a store that hangs."""
        sending = threading.Thread(target=self.send, daemon=True)
        sending.start()
        sending.join(_INTERRUPTED_TIMEOUT_S)

    def _waits(self, record: RunRecord, folder: Path) -> bool:
        in_spool = any(entry.origin == folder.absolute() for entry in self._entries())
        return in_spool or any(ended.record is record for ended in self._unkept)

    def flush(self) -> int:
        """Try all that waits; how many runs MLflow still does not have."""
        self._keep_what_fits()
        self.send()
        return self.waiting()

    def waiting(self) -> int:
        """How many runs MLflow does not have yet, those included that the disk had no room for until now."""
        self._keep_what_fits()
        return len(self._entries()) + len(self._unkept)

    def not_for_this_store(self) -> dict[str, int]:
        """How many runs wait for other stores, by address and experiment."""
        stores = Counter(entry.store for entry in self._spool.entries())
        del stores[store_name(self._config)]
        return dict(stores)

    def damaged(self) -> list[Path]:
        """Folders of the spool that cannot be read, and so not sent."""
        return self._spool.damaged()

    def send(self) -> None:
        """Send what waits, oldest first, until the store does not answer."""
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
                self._ask_again_at = 0.0  # it answers: what it refused does not hold up the others

    def _send(self, entry: Entry) -> None:
        record = entry.record()
        record.unrecorded = ""
        self._sent[record.uuid] = self.open().send(record, entry.files())
        self._spool.remove(entry)
        if entry.origin.is_dir():
            with suppress(OSError):  # MLflow has the run
                record.write(entry.origin / RESULT)

    def _keep(self) -> None:
        """Put the runs that have ended on the disk. Raises `StorageError` where there is no room for one."""
        problems = []
        for ended in list(self._unkept):
            try:
                self._keep_one(ended)
                self._unkept.remove(ended)
            except OSError as error:
                problems.append(StorageError(f"cannot keep {ended.record.name}: {error}"))
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
        except FileNotFoundError as error:  # of its model, say, since the cache was removed meanwhile
            record.details["files_lost"] = f"{error.filename} was removed before it could be recorded"
            self._spool.add(record, Files(dataset=files.dataset), store_name(self._config), folder)
        finally:
            with suppress(OSError):  # where only the spool has room, sending writes it
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
        except Exception as error:  # of MLflow's many stores each raises what its library does
            now = time.monotonic()
            self.problem = text(str(error) or type(error).__name__)
            waited = now - start
            self._ask_again_at = now + _BACKOFF * waited if waited > _SLOW_S else 0.0
