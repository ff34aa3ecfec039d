"""The parent run of a sweep in MLflow: created before its first row, completed after the last one."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

from edlab import predictions_file
from edlab.engine.launcher import Sweep
from edlab.engine.plan import Plan
from edlab.errors import StorageError
from edlab.record import RunRecord, Status
from edlab.sanitize import text
from edlab.tracking import Summary


class SweepSummary:
    """The summary of the runs of one command; a single run has none."""

    def __init__(self, sweep: Sweep, planned: Plan, models: Collection[str], arguments: Sequence[str]) -> None:
        self._sweep = sweep
        self._choices = {
            key: [override.partition("=")[2] for override in overrides] for key, overrides in planned.choices.items()
        }
        self._swept = [key for key, values in self._choices.items() if len(values) > 1]
        self._model = next(iter(models)) if len(models) == 1 else ""
        self._command = ["run", *arguments]
        self._needed = sweep.total is None or sweep.total > 1

    def begin(self) -> None:
        """Create the parent run, if the store answers."""
        from edlab.reports import sweep as report

        if self._needed:
            note = report.begun(self._choices, self._command)
            self._sweep.recorder.begin_sweep(self._sweep.id, self._title(), note)

    def end(self, records: Sequence[RunRecord], status: Status) -> None:
        """Save the summary of these rows on the disk; the recorder sends it after the rows."""
        from edlab.reports import sweep as report

        if not self._needed:
            return
        right = predictions_file.below(self._sweep.folder)
        note = report.describe(records, self._choices, self._command, right) if records else "No row ended."
        files: list[Path] = []
        try:
            if records:
                files += report.write_tables(records, self._swept, self._sweep.folder, right)
            if records and status is not Status.interrupted:  # after Ctrl-C no one waits for charts
                files += report.draw(records, self._title(), self._sweep.folder)
        except Exception as error:  # the rows are complete without them
            note += f"\n\nFiles are missing: {type(error).__name__}: {error}"
        summary = Summary(
            sweep_id=self._sweep.id,
            name=text(self._title()),
            note=text(note),
            status=status,
            started_ms=int(self._sweep.started * 1000),
            ended_ms=int(time.time() * 1000),
            store=self._sweep.recorder.store_name(),
            files=tuple(map(str, files)),
        )
        with suppress(StorageError):  # a full disk: the rows have reported it
            self._sweep.recorder.end_sweep(summary)

    def _title(self) -> str:
        from edlab.reports import sweep as report

        return report.title(self._choices, self._model)
