"""One run: load model -> convert -> deploy -> measure -> record. Whatever happens, it is recorded."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from edlab import durable, signals
from edlab.cache import Cache
from edlab.composition import decide, describe, weaker_settings
from edlab.config import EdlabConfig
from edlab.errors import EdlabError, UnsupportedError
from edlab.record import RunRecord, Stage, Status
from edlab.registry import culprit
from edlab.stages.convert import check, convert, read_weights
from edlab.stages.deploy import deploy
from edlab.stages.load import Inputs, OnProgress, OnWarning, load
from edlab.stages.measure import derive, join_repeats, measure, measure_again
from edlab.stages.phases import Bench
from edlab.stages.record import Outcome, draw_plots, fill_record, run_files
from edlab.tracking import Files, Recorder

if TYPE_CHECKING:
    import torch


def run(
    config: EdlabConfig,
    *,
    sweep_id: str,
    folder: Path,
    on_progress: OnProgress = lambda phase, fraction, message: None,
    on_warning: OnWarning = lambda message: None,
    cache: Cache | None = None,
    module: torch.nn.Module | None = None,
    recorder: Recorder | None = None,
) -> RunRecord:
    """Perform one run and record it in `folder`/result.json and in MLflow. Errors are recorded, not raised.

    `module` is a live model that replaces the one in `config.model`.
    """
    cache = cache or Cache()
    recorder = recorder or Recorder(config.tracking)
    record = _new_record(config, sweep_id)
    outcome = Outcome()
    with _ended_early(record), _stage(record, Stage.record):
        folder.mkdir(parents=True, exist_ok=True)
        recorder.begin(record)
    begun = record.status is Status.ok
    if begun:
        with _ended_early(record), cache.in_use():
            with _stage(record, Stage.load):
                outcome.inputs = load(config, cache, folder, on_progress, module)
                config = decide(config, outcome.inputs.source, len(outcome.inputs.data.calibration_pool))
                record.name, record.params = _name(config), describe(config, outcome.inputs.source)
            _make(config, outcome.inputs, outcome, record, cache, folder, on_progress, on_warning)
        record.params.setdefault("quantization.name", config.quantization.name)  # of a row that failed early
    try:
        with signals.deferred():  # the measurements are on the disk before Ctrl-C is handled
            files = _fill(record, config, outcome, folder, on_progress) if begun else Files()
            record.details["cache_dropped"] = cache.dropped
            record.ended_at = _now()
            recorder.keep(record, files, folder)
        recorder.end(record, folder, lambda: draw_plots(record, config, outcome.measurement, folder))
    except Exception as error:  # Ctrl-C is passed on to the sweep: the run itself has ended
        _end_early(record, error)
    return record


def _fill(record: RunRecord, config: EdlabConfig, outcome: Outcome, folder: Path, on_progress: OnProgress) -> Files:
    """Write everything known about the run into the record, whether it succeeded or not, and collect its files."""
    with _ended_early(record), _stage(record, Stage.record):
        on_progress("record", None, "")
        fill_record(record, config, outcome, weaker_settings(config))
        return run_files(record, outcome, config, folder)
    return Files()


def _make(
    config: EdlabConfig,
    inputs: Inputs,
    outcome: Outcome,
    record: RunRecord,
    cache: Cache,
    folder: Path,
    on_progress: OnProgress,
    on_warning: OnWarning,
) -> None:
    """The stages between the first and the last; `outcome` keeps their results."""
    with _stage(record, Stage.convert):
        converted = outcome.artifact = convert(config, inputs, cache, on_progress, outcome.keep_artifact)
        outcome.weights = read_weights(outcome.artifact, config.quantization.precision, cache)
        if outcome.artifact.on_host.precision == config.quantization.precision:  # else only the target can open it
            outcome.check = check(outcome.artifact, inputs, config.device, cache, on_progress)
    with ExitStack() as target:
        with _stage(record, Stage.deploy):
            deployment = outcome.deployment = target.enter_context(
                deploy(config, inputs, outcome.artifact, cache, on_progress, outcome.keep_artifact)
            )
        with _stage(record, Stage.measure):
            bench = Bench(
                config, inputs, deployment, outcome.measurement, cache, folder, on_progress, on_warning=on_warning
            )
            measure(bench)
    for number in range(2, config.protocol.repeats + 1):
        with ExitStack() as target:
            progress = _numbered(on_progress, number, config.protocol.repeats)
            with _stage(record, Stage.deploy):
                again = target.enter_context(deploy(config, inputs, converted, cache, progress))
            with _stage(record, Stage.measure):
                measure_again(bench, again, progress)
    join_repeats(outcome.measurement, folder)
    derive(bench)


def _numbered(on_progress: OnProgress, number: int, total: int) -> OnProgress:
    """The same progress, with the number of the repeat."""
    return lambda phase, fraction, message: on_progress(f"{phase} (repeat {number} of {total})", fraction, message)


def title(config: EdlabConfig) -> str:
    """The title of this run: model, quantization, converter and device."""
    return " · ".join((config.model.name, config.quantization.name, config.converter.name, config.device.name))


def _name(config: EdlabConfig) -> str:
    return "-".join((config.model.name, config.quantization.name, config.converter.name, config.device.name))


def _new_record(config: EdlabConfig, sweep_id: str) -> RunRecord:
    return RunRecord(
        name=_name(config),
        sweep_id=sweep_id,
        started_at=_now(),
        params=describe(config),
    )


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="milliseconds")


@contextmanager
def _stage(record: RunRecord, stage: Stage) -> Iterator[None]:
    """Time a stage, and keep its name in the record if it fails."""
    start = time.perf_counter()
    try:
        yield
    except BaseException:
        record.stage = stage
        raise
    finally:
        record.seconds[stage] = record.seconds.get(stage, 0.0) + time.perf_counter() - start


@contextmanager
def _ended_early(record: RunRecord) -> Iterator[None]:
    """Write errors into the record and continue: there is more to record."""
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        _end_early(record, error)


def _end_early(record: RunRecord, error: BaseException) -> None:
    error = durable.storage_error(error, "a file") or error
    if _is_interruption(error):
        record.status, record.reason = Status.interrupted, "interrupted by the user"
        record.hint = "run the same command again: finished conversions are in the cache"
    elif isinstance(error, EdlabError):
        record.status = Status.skipped if isinstance(error, UnsupportedError) else Status.failed
        record.reason, record.hint, record.log_tail = error.message, error.hint, error.log
    else:
        record.status, record.reason = Status.failed, f"{type(error).__name__}: {error}"
        package, place = culprit(error)
        record.hint = "this is a bug in edlab: please report it and attach the run's failure.log"
        if package:
            record.hint = f"this is a bug in the package {package} ({place}); the run's failure.log has the traceback"
        record.log_tail = "".join(traceback.format_exception(error))


def _is_interruption(error: BaseException | None) -> bool:
    """Whether Ctrl-C ended the run: code that it interrupts may raise another error as a consequence.

    In the standard library, a queue's `get` raises "cannot release un-acquired lock" if its wait is interrupted.
    """
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False
