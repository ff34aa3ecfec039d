"""One command: its flags, missing requirements, the runs, their table, and the exit code."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.text import Text

from edlab import predictions_file, signals
from edlab.cache import Cache
from edlab.composition import Composer, with_new_keys
from edlab.config import EdlabConfig, SweepOrder
from edlab.engine import hydra_app
from edlab.engine.launcher import Launcher, Sweep
from edlab.engine.plan import Plan, plan
from edlab.engine.summary import SweepSummary
from edlab.errors import ConfigError, StorageError
from edlab.identity import new_sweep_folder
from edlab.readiness import check_files, preflight
from edlab.record import RunRecord, Status
from edlab.scratch import temporary_folder
from edlab.terminal import counted, tracked
from edlab.tracking import Recorder

INTERRUPTED_EXIT_CODE = 130  # 128 + SIGINT, as shells report it


class Performed(NamedTuple):
    """The records of a command's runs, in order, its exit code, and the folder of the sweep."""

    records: list[RunRecord]
    code: int
    folder: Path


def run(arguments: Sequence[str], console: Console) -> int:
    """Perform the runs of `arguments` (Hydra's command line), print their table, and return the exit code.

    0: no run failed and at least one succeeded; 1: otherwise; 130: interrupted. Raises `ConfigError`, and
    `TrackingError` if runs cannot be recorded, before anything runs.
    """
    arguments = with_new_keys(_flags_first(arguments))
    flags = hydra_app.read_flags(arguments)
    planned = plan(flags.overrides, bool(flags.multirun))
    if flags.cfg or flags.info or flags.hydra_help:
        Composer().compose(planned.samples()[0])
        hydra_app.show(arguments)
        return 0
    return _perform(arguments, planned, console).code


def sweep(overrides: Sequence[str], console: Console) -> Performed:
    """Perform the sweep of these overrides. The process keeps its signal handlers.

    Raises the errors of `run`, and `KeyboardInterrupt` if it was interrupted; what was measured is then recorded.
    """
    arguments = with_new_keys(["-m", *overrides])
    with signals.restored():
        performed = _perform(arguments, plan(hydra_app.read_flags(arguments).overrides, True), console)
    if performed.code == INTERRUPTED_EXIT_CODE:
        raise KeyboardInterrupt
    return performed


def _perform(arguments: Sequence[str], planned: Plan, console: Console) -> Performed:
    """Perform the planned runs, and print their table."""
    total = None if planned.by_hydra else len(planned)
    sweep_id, folder = new_sweep_folder()
    composer = Composer()
    configs = _checked(planned, composer, console)
    order = configs[0].sweep.order
    if planned.by_hydra and order is SweepOrder.random:
        raise ConfigError(
            "sweep.order=random is unsupported: Hydra's sweeper chooses the order",
            hint="remove sweep.order, or the overrides of Hydra's sweeper",
        )
    recorder = Recorder(configs[0].tracking)
    recorder.open()  # creates the database before parallel runs need it; fails in the first seconds without a server
    recorder.flush()
    runs = "runs chosen by Hydra's sweeper" if total is None else f"{total} run{'s' if total > 1 else ''}"
    console.print(f"sweep {sweep_id}: {runs}, in {folder}", highlight=False)
    for number in range(total or 0):  # while there is space for them
        (folder / str(number)).mkdir(parents=True, exist_ok=True)
    cache = Cache()
    cache.tidy(configs[0].cache.max_gb)
    sweep = Sweep(sweep_id, folder.absolute(), total, recorder)
    launcher = Launcher(sweep, composer, console)
    summary = SweepSummary(sweep, planned, {config.model.name for config in configs}, arguments)
    interrupted = False
    try:
        signals.handle()
        with temporary_folder():
            _preflight(configs, cache, console)
            summary.begin()
            if planned.by_hydra:
                _sweep_by_hydra(arguments, planned, sweep, launcher)
            else:
                launcher.launch(planned.jobs(), order)
            records = _all_records(sweep, launcher)
            summary.end(records, Status.failed if launcher.refused or exit_code(records) else Status.ok)
            recorder.flush()
    except KeyboardInterrupt:
        signals.ignore()
        interrupted = True
        summary.end(_all_records(sweep, launcher), Status.interrupted)
        recorder.send_briefly()
    finally:
        records = _all_records(sweep, launcher)
        _report(records, sweep, console)
    if interrupted:
        return Performed(records, INTERRUPTED_EXIT_CODE, sweep.folder)
    return Performed(records, 1 if launcher.refused else exit_code(records), sweep.folder)


def _checked(planned: Plan, composer: Composer, console: Console) -> list[EdlabConfig]:
    """The configurations of runs that together contain every override.

    Raises `ConfigError` for an override that is invalid with all of the others; some are only incompatible with each
    other.
    """
    configs: list[EdlabConfig] = []
    valid: set[str] = set()
    refused: dict[str, ConfigError] = {}  # by override, the first error of its combinations
    for overrides in tracked(planned.samples(), "checking", console):
        try:
            configs.append(composer.compose(overrides))
            valid.update(overrides)
        except ConfigError as error:
            refused = dict.fromkeys(overrides, error) | refused
    for override, reason in refused.items():
        if override not in valid and not any(map(composer.accepts, planned.around(override))):
            raise reason
    check_files(configs)
    return configs


def _sweep_by_hydra(arguments: Sequence[str], planned: Plan, sweep: Sweep, launcher: Launcher) -> None:
    """The runs of Hydra's own application, in the folders of this sweep."""
    folders = [
        f"hydra.sweep.dir={sweep.folder}",
        "hydra.sweep.subdir=${hydra.job.num}",
        f"hydra.run.dir={sweep.folder}/0",
    ]
    hydra_app.sweep(
        [*arguments, *folders],
        lambda number, overrides, config: launcher.run(planned.job(number, overrides), config),
    )


def _preflight(configs: Sequence[EdlabConfig], cache: Cache, console: Console) -> None:
    """Report in the first seconds what these runs are missing; they still run as far as possible."""
    findings = preflight(configs, cache)
    for finding in findings:
        console.print(f"[yellow]missing[/] {escape(finding.part)}", highlight=False)
        console.print(Padding(Text(finding.details), (0, 0, 0, 3)))
        console.print(Padding(Text(finding.fix, "cyan"), (0, 0, 0, 3)))
    if findings:
        console.print("runs that need what is missing will fail; the others continue", highlight=False)


def _flags_first(arguments: Sequence[str]) -> list[str]:
    """The arguments with the overrides at the end: Hydra's parser needs them together."""
    overrides = [argument for argument in arguments if "=" in argument and not argument.startswith("-")]
    return [*(argument for argument in arguments if argument not in overrides), *overrides]


def exit_code(records: Sequence[RunRecord]) -> int:
    """0 only if no run failed and at least one succeeded."""
    failed = any(record.status is Status.failed for record in records)
    return 0 if any(record.status is Status.ok for record in records) and not failed else 1


def read_records(folder: Path) -> list[RunRecord]:
    """The records that a sweep has written so far, in the order of its runs."""
    return [RunRecord.read(path) for path in sorted(folder.glob("*/result.json"), key=lambda p: int(p.parent.name))]


def _all_records(sweep: Sweep, launcher: Launcher) -> list[RunRecord]:
    """The records on the disk, and those that a full disk could not store, in the order of their runs."""
    records = dict(launcher.unwritten)
    for path in sweep.folder.glob("*/result.json"):
        with suppress(StorageError):  # damaged: the one in memory is used
            records[path.parent] = RunRecord.read(path)
    return [records[folder] for folder in sorted(records, key=lambda folder: int(folder.name))]


def _report(records: Sequence[RunRecord], sweep: Sweep, console: Console) -> None:
    from edlab.reports.sheet import Format
    from edlab.reports.table import table

    if not records:
        return
    sheet = table(records, right=predictions_file.below(sweep.folder))
    with suppress(OSError):  # a full disk has already failed rows
        (sweep.folder / "table.md").write_text(sheet.write(Format.markdown))
    console.print()
    console.print(sheet)
    if sweep.total and len(records) < sweep.total:
        console.print(f"{len(records)} of {sweep.total} runs were started.")
    waiting = sweep.recorder.waiting()
    if not waiting and sweep.id in sweep.recorder.unsent_summaries():
        console.print(
            f"[yellow]the sweep's summary is not in MLflow yet:[/] {escape(sweep.recorder.problem)}\n"
            "the next run sends it, or [cyan]edlab sync[/]",
            highlight=False,
        )
    if waiting:
        console.print(
            f"[yellow]{counted(waiting, 'run')} not in MLflow yet:[/] {escape(sweep.recorder.problem)}\n"
            "kept in mlruns/spool; the next run sends them, or [cyan]edlab sync[/]",
            highlight=False,
        )
    if lost := sweep.recorder.lost():
        console.print(
            f"[red]{counted(len(lost), 'run')} not saved, because all disks are full:[/] {escape(', '.join(lost))}\n"
            "free space, then run the same command again",
            highlight=False,
        )
    compare = [f"edlab compare {sweep.id}"] if len(records) > 1 else []
    profiled = [record.run_id[:8] for record in records if "profile" in record.details.get("phases", {})]
    profile = [f"edlab profile {profiled[0]}"] if profiled else []
    next_steps = [*compare, *profile, "edlab show RUN", "edlab pull RUN", "edlab ui"]
    console.print(f"[dim]next: {escape(' | '.join(next_steps))}[/]", highlight=False, soft_wrap=True)


def environment_without_telemetry() -> None:
    """The environment with telemetry disabled: MLflow and others send data by default; a benchmark must not."""
    for name in ("MLFLOW_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY", "OPENVINO_TELEMETRY_DISABLED"):
        os.environ.setdefault(name, "true")
