"""Runs the steps that a converter plans, each in its workshop and cached by content."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

from edlab.artifact import Artifact, StepRecord, StepReport
from edlab.cache import Cache, digest, sha256_files
from edlab.config import ConverterConfig
from edlab.converters.base import Step, Workshop
from edlab.converters.calibration import CalibrationData
from edlab.errors import ConversionError

_RECORD, _LOG = "step.json", "step.log"


def run_steps(
    steps: Iterable[Step],
    artifact: Artifact,
    workshops: Mapping[str, Workshop],
    config: ConverterConfig,
    *,
    calibration: Callable[[], CalibrationData],
    cache: Cache,
    portable: Collection[str],
    on_progress: Callable[[str], None] = lambda step: None,
    on_made: Callable[[Artifact], None] = lambda artifact: None,
) -> Artifact:
    """Run these steps on the artifact, each in its workshop; those found in the cache are not run again.

    `portable` are the formats that this machine's CPU can open. `calibration` is called only if a step needs it,
    `on_progress` with the name of each step as it begins, `on_made` with what it wrote. A step that fails leaves
    nothing in the cache but its log. Raises `MissingDependencyError`, `ConversionError`, or what the workshop raises.
    """
    for step in steps:
        on_progress(step.name)
        images = calibration() if step.calibrates else None
        artifact = _run_step(step, artifact, workshops[step.workshop], images, config, cache, portable)
        on_made(artifact)
    return artifact


def _run_step(
    step: Step,
    given: Artifact,
    workshop: Workshop,
    calibration: CalibrationData | None,
    config: ConverterConfig,
    cache: Cache,
    portable: Collection[str],
) -> Artifact:
    versions = workshop.versions(step)
    key = digest(
        [
            given.sha256,
            step.name,
            step.version,
            step.function or step.toolchain,
            step.output,
            dict(step.options),
            versions,
            calibration.key() if calibration else None,
        ]
    )
    ran = False

    def make(folder: Path) -> None:
        nonlocal ran
        ran = True
        log = _failure_log(cache, key)
        seconds = workshop.run(step, given.files, folder / step.output, calibration, config, log)
        _write_record(step, folder, versions, seconds, log)

    folder = cache.get_or_make("steps", key, make)
    record = json.loads((folder / _RECORD).read_text())
    done = StepRecord(
        name=step.name,
        seconds=record["seconds"],
        cached=not ran,
        tools=versions,
        options=dict(step.options),
        log=folder / _LOG,
        format=step.format,
        precision=step.precision,
        layout=step.layout,
        files=tuple(folder / name for name in record["files"]),
        report=StepReport.read(folder),
    )
    return Artifact(
        format=step.format,
        precision=step.precision,
        layout=step.layout,
        files=tuple(folder / name for name in record["files"]),
        sha256=record["sha256"],
        steps=(*given.steps, done),
        portable=None if step.format in portable else given.on_host,
        unquantized=given.before_quantization(step.precision),
    )


def _write_record(step: Step, folder: Path, versions: dict[str, str], seconds: float, log: Path) -> None:
    """Check what the step wrote, and store its log and its record next to it."""
    _ensure_files(folder, step)
    names = [step.output, *sorted({path.name for path in folder.iterdir()} - {step.output, StepReport.FILE})]
    log.rename(folder / _LOG)
    record = {
        "step": step.name,
        "version": step.version,
        "seconds": seconds,
        "tools": versions,
        "options": dict(step.options),
        "files": names,
        "sha256": sha256_files(folder / name for name in names),
    }
    (folder / _RECORD).write_text(json.dumps(record, indent=2) + "\n")


def _ensure_files(folder: Path, step: Step) -> None:
    """Raise `ConversionError` if the step did not write its output, or wrote anything other than files."""
    maker = step.function.partition(":")[0] or f"the toolchain {step.toolchain}"
    fix = f"{maker} must write the file {step.output}, and only regular files next to it"
    if not (folder / step.output).exists():
        raise ConversionError(
            f"{step.name} finished without an error, but its output {step.output} is missing", hint=fix
        )
    if others := sorted(path.name for path in folder.iterdir() if not path.is_file() or path.is_symlink()):
        raise ConversionError(f"{step.name} wrote {others[0]}, which is not a file", hint=fix)


def _failure_log(cache: Cache, key: str) -> Path:
    """Where a running step logs: outside its folder, so that the log of a failed step can be read."""
    folder = cache.root / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{key}.log"
    log.unlink(missing_ok=True)
    return log
