"""Runs the steps that a converter plans, each in a process of its own and cached by its content."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from functools import cache as memoize
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path

from edlab.artifact import Artifact, StepRecord, StepReport
from edlab.cache import Cache, digest, sha256_files
from edlab.config import ConverterConfig, QuantizationConfig
from edlab.converters.base import Converter, Step
from edlab.converters.calibration import CalibrationData
from edlab.errors import ConversionError, MissingDependencyError
from edlab.isolation import run_isolated
from edlab.source import SourceModel

_RECORD, _LOG = "step.json", "step.log"


def run_chain(
    converter: Converter,
    source: SourceModel,
    quantization: QuantizationConfig,
    config: ConverterConfig,
    *,
    calibration: Callable[[], CalibrationData],
    cache: Cache,
    portable: bool = False,
    on_progress: Callable[[str], None] = lambda step: None,
    on_made: Callable[[Artifact], None] = lambda artifact: None,
) -> Artifact:
    """Convert `source` by the steps that `converter` plans here; those found in the cache are not run again.

    Steps that run on the target are left to it; `portable` also leaves out all from the first whose output this
    machine's CPU cannot open. `calibration` is called only if a step needs it, `on_progress` with
    the name of each step as it begins, `on_made` with what it wrote.
    Raises `UnsupportedError`, `MissingDependencyError` or `ConversionError`; a step that fails leaves nothing in the
    cache but its log.
    """
    steps = converter.plan(source, quantization)
    artifact = Artifact.of(source)
    for step in steps:
        if step.on_target or (portable and not step.portable):
            break
        on_progress(step.name)
        artifact = _run_step(step, artifact, calibration() if step.calibrates else None, config, cache)
        on_made(artifact)
    return artifact


def _run_step(
    step: Step, given: Artifact, calibration: CalibrationData | None, config: ConverterConfig, cache: Cache
) -> Artifact:
    tools = {package: _installed_version(package, requirement) for package, requirement in step.tools.items()}
    if step.identity:
        tools |= step.identity(step.options)
    key = digest(
        [
            given.sha256,
            step.name,
            step.version,
            step.function,
            step.output,
            dict(step.options),
            tools,
            calibration.key() if calibration else None,
        ]
    )
    ran = False

    def make(folder: Path) -> None:
        nonlocal ran
        ran = True
        _run(step, given.files, folder, tools, calibration, config, log=_failure_log(cache, key))

    folder = cache.get_or_make("steps", key, make)
    record = json.loads((folder / _RECORD).read_text())
    files = tuple(folder / name for name in record["files"])
    done = StepRecord(
        name=step.name,
        seconds=record["seconds"],
        cached=not ran,
        tools=tools,
        options=dict(step.options),
        log=folder / _LOG,
        report=StepReport.read(folder),
    )
    return Artifact(
        format=step.format,
        precision=step.precision,
        layout=step.layout,
        files=files,
        sha256=record["sha256"],
        steps=(*given.steps, done),
        portable=None if step.portable else given.on_host,
        unquantized=given.before_quantization(step.precision),
    )


def _run(
    step: Step,
    inputs: Sequence[Path],
    folder: Path,
    tools: dict[str, str],
    calibration: CalibrationData | None,
    config: ConverterConfig,
    log: Path,
) -> None:
    """Fill `folder` with what the step writes, its log and its record."""
    started = time.monotonic()
    run_isolated(
        step.function,
        {
            "inputs": [str(path) for path in inputs],
            "out": str(folder / step.output),
            "options": dict(step.options),
            "calibration": calibration.describe() if calibration else None,
        },
        log=log,
        timeout_s=config.timeout_s,
        memory_limit_gb=config.memory_limit_gb,
        log_limit_mb=config.log_limit_mb,
        environment={"PYTHONHASHSEED": "0"},  # tools that iterate over sets write the same file twice
    )
    seconds = time.monotonic() - started
    _ensure_files(folder, step)
    names = [step.output, *sorted({path.name for path in folder.iterdir()} - {step.output, StepReport.FILE})]
    log.rename(folder / _LOG)
    record = {
        "step": step.name,
        "version": step.version,
        "seconds": seconds,
        "tools": tools,
        "options": dict(step.options),
        "files": names,
        "sha256": sha256_files(folder / name for name in names),
    }
    (folder / _RECORD).write_text(json.dumps(record, indent=2) + "\n")


def _ensure_files(folder: Path, step: Step) -> None:
    """Raise `ConversionError` where a step did not write what it has to, or anything but files."""
    fix = f"{step.function.partition(':')[0]} has to write the file {step.output}, and beside it nothing but files"
    if not (folder / step.output).exists():
        raise ConversionError(f"{step.name} ended without an error and wrote no {step.output}", hint=fix)
    if others := sorted(path.name for path in folder.iterdir() if not path.is_file() or path.is_symlink()):
        raise ConversionError(f"{step.name} wrote {others[0]}, which is no file", hint=fix)


def _failure_log(cache: Cache, key: str) -> Path:
    """Where a running step logs: outside its folder, so that the log of one that fails can be read."""
    folder = cache.root / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{key}.log"
    log.unlink(missing_ok=True)
    return log


@memoize
def _installed_version(package: str, requirement: str) -> str:
    """The version of an importable package. Raises `MissingDependencyError` where there is none."""
    try:
        return version(package)
    except PackageNotFoundError:  # some are installed under another name: tensorflow-cpu, onnxruntime-gpu
        distributions = packages_distributions().get(package)
    if not distributions:
        raise MissingDependencyError(f"{package} is not installed", hint=f"pip install '{requirement}'")
    return version(distributions[0])
