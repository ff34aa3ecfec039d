"""One run with the configuration of a recorded one: the same measurement, with something changed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from edlab import signals
from edlab.composition import Composer, compose_config, recorded
from edlab.config import EdlabConfig
from edlab.engine.launcher import Launcher, Sweep
from edlab.engine.plan import Job
from edlab.errors import TrackingError
from edlab.identity import new_sweep_folder
from edlab.record import RunRecord
from edlab.scratch import temporary_folder
from edlab.tracking import RESULT, Recorder


def config_again(record: RunRecord, overrides: Sequence[str], changed: Mapping[str, Any]) -> EdlabConfig:
    """The configuration of a recorded run, with these values of keys and with these parameters.

    Raises `ConfigError` and `TrackingError`.
    """
    if not record.details:
        raise TrackingError(
            f"run {record.run_id[:12]} ({record.name}) has no result.json: it was killed before it was recorded",
            hint="`edlab run` with the same settings runs it again",
        )
    return dataclasses.replace(recorded({**record.params, **changed}, overrides), tracking=compose_config([]).tracking)


def run_again(config: EdlabConfig, console: Console) -> RunRecord:
    """Perform a run with this configuration, and return its record.

    Raises `KeyboardInterrupt` after the interrupted run has been recorded.
    """
    sweep_id, folder = new_sweep_folder(again=True)
    recorder = Recorder(config.tracking)
    recorder.open()
    recorder.flush()
    sweep = Sweep(sweep_id, folder.absolute(), 1, recorder)
    launcher = Launcher(sweep, Composer(), console)
    signals.handle()
    with temporary_folder():
        launcher.run(Job(0, ()), config)
    recorder.flush()
    result = folder / "0" / RESULT
    return launcher.unwritten.get(sweep.folder / "0") or RunRecord.read(result)
