"""The lines that a run prints."""

from __future__ import annotations

import io
import time

from rich.console import Console

from edlab.record import RunRecord, Stage, Status
from edlab.terminal import RunDisplay


def test_an_interruption_is_said_once() -> None:
    output = io.StringIO()
    display = RunDisplay(Console(file=output, width=200), "net", number=1, total=1, sweep_started=time.time())
    record = RunRecord(name="net", sweep_id="s", started_at="", status=Status.interrupted, stage=Stage.measure)
    record.reason, record.run_id = "interrupted by the user", "0123456789"
    display.ended(record)
    assert "interrupted at measure (run 01234567)" in output.getvalue()
