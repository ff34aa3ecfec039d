"""One run with the configuration of a recorded one: the same measurement, with something changed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from rich.console import Console

from edlab import signals
from edlab.composition import Composer, compose_config, recorded
from edlab.engine.launcher import Launcher, Sweep
from edlab.engine.plan import Job
from edlab.errors import TrackingError
from edlab.identity import new_sweep_folder
from edlab.record import RunRecord
from edlab.scratch import temporary_folder
from edlab.tracking import RESULT, Recorder


def run_again(record: RunRecord, overrides: Sequence[str], console: Console) -> RunRecord:
    """Perform a recorded run again, with these values of keys, as a new run; its record.

    Raises `ConfigError` before anything runs, and `KeyboardInterrupt` after the interrupted run has been recorded.
    """
    if not record.details:
        raise TrackingError(
            f"run {record.run_id[:12]} ({record.name}) has no result.json: it was killed before it was recorded",
            hint="`edlab run` with the same settings runs it again",
        )
    config = dataclasses.replace(recorded(record.params, overrides), tracking=compose_config([]).tracking)
    console.print(
        f"run {record.run_id[:8]} ({record.name}) runs again: {' '.join(overrides)}", highlight=False, markup=False
    )
    sweep_id, folder = new_sweep_folder()
    recorder = Recorder(config.tracking)
    recorder.open()
    recorder.flush()
    sweep = Sweep(sweep_id, folder.absolute(), 1, recorder)
    launcher = Launcher(sweep, Composer(), console)
    signals.handle()
    with temporary_folder():
        launcher.run(Job(0, tuple(overrides)), config)
    recorder.flush()
    result = folder / "0" / RESULT
    return launcher.unwritten.get(sweep.folder / "0") or RunRecord.read(result)
