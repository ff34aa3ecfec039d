"""Performs the runs of one command: their order, the displayed progress, and the place of their records."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from edlab.composition import Composer
from edlab.config import EdlabConfig, SweepOrder
from edlab.engine.plan import Job
from edlab.errors import ConfigError
from edlab.record import RunRecord, Status
from edlab.terminal import RunDisplay, print_error
from edlab.tracking import RESULT, Recorder


@dataclass(frozen=True)
class Sweep:
    """The state that the runs of one command share."""

    id: str
    folder: Path
    total: int | None  # None if a sweeper of Hydra chooses the number
    recorder: Recorder
    started: float = field(default_factory=time.time)  # seconds since the epoch


class Launcher:
    """Performs runs in this process, one after another."""

    def __init__(self, sweep: Sweep, composer: Composer, console: Console) -> None:
        self.unwritten: dict[Path, RunRecord] = {}  # by folder: records that no disk had space for
        self.refused = 0  # runs with incompatible overrides
        self._sweep = sweep
        self._composer = composer
        self._console = console
        self._begun = 0

    def launch(self, jobs: Sequence[Job], order: SweepOrder) -> None:
        """Perform these runs in this order. Raises `KeyboardInterrupt` if one was interrupted."""
        jobs = list(jobs)
        if order is SweepOrder.random:
            random.Random(self._sweep.id).shuffle(jobs)  # the same order for the same sweep id
        for job in jobs:
            try:
                config = self._composer.compose(job.overrides)
            except ConfigError as error:  # each override has been checked and is valid; these are incompatible
                self._refuse(job, error)
            else:
                self.run(job, config)

    def run(self, job: Job, config: EdlabConfig) -> None:
        """Perform one run. Raises `KeyboardInterrupt` if it was interrupted; it is still recorded."""
        from edlab import benchmark  # after the command line has been checked: heavy imports begin here

        self._begun += 1
        sweep, folder = self._sweep, self._sweep.folder / str(job.number)
        title = " · ".join([benchmark.title(config), *job.swept])
        with RunDisplay(
            self._console, title, number=self._begun, total=sweep.total, sweep_started=sweep.started
        ) as display:
            record = benchmark.run(
                config,
                sweep_id=sweep.id,
                folder=folder,
                on_progress=display,
                on_warning=display.warn,
                recorder=sweep.recorder,
            )
            if not (folder / RESULT).exists():
                self.unwritten[folder] = record
            display.ended(record)
        if record.status is Status.interrupted:
            raise KeyboardInterrupt

    def _refuse(self, job: Job, error: ConfigError) -> None:
        self._begun += 1
        self.refused += 1
        self._console.print(f"\\[{self._begun}/{self._sweep.total}] {' '.join(job.overrides)}", highlight=False)
        print_error(self._console, error)
