"""Makes the runs that the command line names: Hydra expands them, each becomes one record, all become one table."""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra import main as hydra_main
from hydra._internal.utils import get_args_parser  # Hydra's own reading of its flags; it has no public one
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.text import Text

from edlab import signals
from edlab.cache import Cache
from edlab.composition import (
    check_overrides,
    config_dir,
    explain,
    register_configs,
    swept_keys,
    to_config,
    with_new_keys,
)
from edlab.config import EdlabConfig, SweepOrder
from edlab.errors import ConfigError, StorageError
from edlab.identity import new_sweep_folder
from edlab.readiness import preflight
from edlab.record import RunRecord, Status
from edlab.registry import did_you_mean
from edlab.scratch import temporary_folder
from edlab.terminal import RunDisplay, counted
from edlab.tracking import RESULT, Recorder

INTERRUPTED_EXIT_CODE = 130  # 128 + SIGINT, as shells report it


@dataclass(frozen=True)
class Sweep:
    """One command: the runs that it makes share the id and the folder."""

    id: str
    folder: Path
    total: int | None  # None where a sweeper of its own decides how many
    started: float  # seconds since the epoch
    recorder: Recorder
    swept: frozenset[str]  # the keys, beyond the groups' names, that have several values
    made: dict[Path, RunRecord] = field(default_factory=dict)  # by folder: those that no disk had room for


@dataclass(frozen=True)
class _Job:
    """One run of a sweep: its configuration, its number in the order of the command line, and its folder."""

    config: EdlabConfig
    number: int
    folder: Path
    swept: list[str]  # the words of this run that another has otherwise, beyond the groups' names


class ForgetRuns(Callback):  # type: ignore[misc]
    """Hydra keeps the configuration of each run until the sweep has ended, and uses none: 0.3 MB a run."""

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """See `Callback.on_job_end`."""
        job_return.cfg = job_return.hydra_cfg = None


def run(arguments: Sequence[str], console: Console) -> int:
    """Make the runs that `arguments` (Hydra's command line) name, print their table, and return the exit code.

    0: no run failed and at least one ended well; 1: otherwise; 130: interrupted. Raises `ConfigError`, and
    `TrackingError` where there is nowhere to record to, before anything runs.
    """
    arguments = with_new_keys(_flags_first(arguments))
    flags = _read_flags(arguments)
    multirun = bool(flags.multirun)
    configs, total = check_overrides(flags.overrides, multirun)
    if flags.cfg or flags.info or flags.hydra_help:
        return _hydra(arguments, None, console)
    sweep_id, sweep_folder = new_sweep_folder()
    swept = frozenset(key for key in swept_keys(flags.overrides) if "." in key)  # the groups are in the title
    recorder = Recorder(configs[0].tracking)
    recorder.open()  # makes the database before runs in parallel want it; fails in the first seconds without a server
    recorder.flush()
    sweep = Sweep(sweep_id, sweep_folder, total, time.time(), recorder, swept)
    for number in range(total or 0):  # while there is room for them
        (sweep_folder / str(number)).mkdir(parents=True, exist_ok=True)
    folder = [
        f"hydra.sweep.dir={sweep.folder}",
        "hydra.sweep.subdir=${hydra.job.num}",
        f"hydra.run.dir={sweep.folder}/0",
    ]
    cache = Cache()
    cache.tidy(configs[0].cache.max_gb)
    interrupted = False
    try:
        with temporary_folder():
            _preflight(configs, cache, console)
            _hydra([*arguments, *folder], sweep, console)
            recorder.flush()
    except KeyboardInterrupt:
        signals.ignore()
        interrupted = True
        recorder.send_briefly()
    finally:
        records = _all_records(sweep)
        _report(records, sweep, console)
    return INTERRUPTED_EXIT_CODE if interrupted else exit_code(records)


def _read_flags(arguments: Sequence[str]) -> argparse.Namespace:
    """Hydra's flags, and `overrides`. Raises `ConfigError` for a flag that it does not have."""
    parser: argparse.ArgumentParser = get_args_parser()
    flags, unknown = parser.parse_known_args(arguments)
    if unknown:
        known = [name for action in parser._actions for name in action.option_strings]
        hint = did_you_mean(unknown[0], [*known, "--debug"]).rstrip() or "`edlab run --help` lists the options"
        raise ConfigError(f"there is no option '{unknown[0]}'", hint=hint)
    return flags


def _preflight(configs: Sequence[EdlabConfig], cache: Cache, console: Console) -> None:
    """Say in the first seconds what these runs will lack; they are made all the same, as far as they go."""
    for finding in preflight(configs, cache):
        console.print(f"[yellow]lacking[/] {escape(finding.part)}", highlight=False)
        console.print(Padding(Text(finding.details), (0, 0, 0, 3)))
        console.print(Padding(Text(finding.fix, "cyan"), (0, 0, 0, 3)))


def _flags_first(arguments: Sequence[str]) -> list[str]:
    """The same words with the overrides at the end: Hydra's parser wants them together."""
    overrides = [word for word in arguments if "=" in word and not word.startswith("-")]
    return [*(word for word in arguments if word not in overrides), *overrides]


def exit_code(records: Sequence[RunRecord]) -> int:
    """0 only if no run failed and at least one ended well."""
    failed = any(record.status is Status.failed for record in records)
    return 0 if any(record.status is Status.ok for record in records) and not failed else 1


def read_records(folder: Path) -> list[RunRecord]:
    """The records that a sweep has written so far, in the order of its runs."""
    return [RunRecord.read(path) for path in sorted(folder.glob("*/result.json"), key=lambda p: int(p.parent.name))]


def _all_records(sweep: Sweep) -> list[RunRecord]:
    """The records on the disk, and those that it had no room for, in the order of their runs."""
    records = dict(sweep.made)
    for path in sweep.folder.glob("*/result.json"):
        with suppress(StorageError):  # damaged: the one in memory counts
            records[path.parent.absolute()] = RunRecord.read(path)
    return [records[folder] for folder in sorted(records, key=lambda folder: int(folder.name))]


def _hydra(arguments: list[str], sweep: Sweep | None, console: Console) -> int:
    register_configs()
    postponed: list[_Job] = []

    def task(composed: DictConfig) -> None:
        assert sweep is not None
        job = _job(composed, sweep.swept)
        if job.config.sweep.order is SweepOrder.random:
            postponed.append(job)
        else:
            _run(job, job.number, sweep, console)

    signals.handle()
    sys.argv = ["edlab", *arguments]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra prints errors in its own words and exits
    try:
        hydra_main(version_base="1.3", config_path=str(config_dir()), config_name="config")(task)()
    except HydraException as error:
        raise explain(error) from error
    random.Random(sweep.id if sweep else "").shuffle(postponed)  # the same order for the same sweep id
    for position, job in enumerate(postponed, 1):
        assert sweep is not None
        _run(job, position, sweep, console)
    return 0


def _job(composed: DictConfig, keys: frozenset[str]) -> _Job:
    """What Hydra makes of one combination of the overrides, of which these keys are swept; called in that job."""
    hydra = HydraConfig.get()
    swept = [word.lstrip("+") for word in hydra.overrides.task if word.lstrip("+").partition("=")[0] in keys]
    number = int(hydra.job.num) + 1 if "num" in hydra.job and hydra.job.num is not None else 1
    return _Job(to_config(composed), number, Path(hydra.runtime.output_dir), swept)


def _run(job: _Job, position: int, sweep: Sweep, console: Console) -> None:
    from edlab import benchmark  # after the command line has been checked: this is where heavy imports begin

    title = " · ".join([benchmark.title(job.config), *job.swept])
    with RunDisplay(console, title, number=position, total=sweep.total, sweep_started=sweep.started) as display:
        record = benchmark.run(
            job.config, sweep_id=sweep.id, folder=job.folder, on_progress=display, recorder=sweep.recorder
        )
        if not (job.folder / RESULT).exists():
            sweep.made[job.folder.absolute()] = record
        display.ended(record)
    if record.status is Status.interrupted:
        raise KeyboardInterrupt


def _report(records: Sequence[RunRecord], sweep: Sweep, console: Console) -> None:
    from edlab.reports.table import markdown, table

    if not records:
        return
    with suppress(OSError):  # a full disk has failed rows already
        (sweep.folder / "table.md").write_text(markdown(records))
    console.print()
    console.print(table(records))
    if sweep.total and len(records) < sweep.total:
        console.print(f"{len(records)} of {sweep.total} runs were started.")
    if waiting := sweep.recorder.waiting():
        console.print(
            f"[yellow]{counted(waiting, 'run')} not in MLflow yet:[/] {escape(sweep.recorder.problem)}\n"
            "kept in mlruns/spool; the next run sends what is there, or [cyan]edlab sync[/]",
            highlight=False,
        )
    if lost := sweep.recorder.lost():
        console.print(
            f"[red]{counted(len(lost), 'run')} on no disk, since none has room:[/] {escape(', '.join(lost))}\n"
            "free space, then run the same line again",
            highlight=False,
        )
    console.print(
        f"[dim]sweep {sweep.id}; compare runs with `edlab ui`, one run with `edlab show RUN`[/]", highlight=False
    )


def environment_without_telemetry() -> None:
    """MLflow and others ask home unless told not to; a benchmark must not."""
    for name in ("MLFLOW_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY", "OPENVINO_TELEMETRY_DISABLED"):
        os.environ.setdefault(name, "true")
