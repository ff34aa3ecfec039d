"""`edlab doctor`: what is installed, what each converter and device is missing, and the command that fixes it."""

from __future__ import annotations

import dataclasses
import platform
import shutil
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edlab import converters, readiness
from edlab.cache import Cache
from edlab.composition import compose_config, options
from edlab.config import ConverterConfig
from edlab.errors import EdlabError
from edlab.readiness import Finding

_CORE = ("torch", "torchvision", "timm", "onnx", "onnxruntime", "mlflow", "hydra-core", "numpy")

_LOW_DISK_GB = 5.0  # conversions and prepared images take more room here than what a target is sent


def run(console: Console, overrides: Sequence[str]) -> int:
    """Print the report: of everything, or of the run that `overrides` name (`device=jetson device.address=nano`).

    Exit code 0 if all but what is optional can be used, else 1. Raises `ConfigError` for an invalid override.
    """
    cache = Cache()
    sections = _of_run(overrides, cache) if overrides else _of_everything(cache)
    for title, findings in sections.items():
        console.print(_section(title, findings))
    return 0 if all(finding.ok or finding.optional for part in sections.values() for finding in part) else 1


def _of_run(overrides: Sequence[str], cache: Cache) -> dict[str, list[Finding]]:
    """What the run of these overrides needs; it needs all of it, so nothing is optional."""
    findings = readiness.of_run(compose_config(overrides), cache)
    return {" ".join(overrides): [dataclasses.replace(finding, optional=False) for finding in findings]}


def _of_everything(cache: Cache) -> dict[str, list[Finding]]:
    toolchains = [readiness.converter(ConverterConfig(name=name), cache) for name in converters.available()]
    targets = [_device(name, cache) for name in options("device")]
    return {
        "core": [*_core(cache), *readiness.plugins()],
        "converters": [finding for toolchain in toolchains for finding in toolchain],
        "devices": [finding for target in targets for finding in target],
    }


def _device(name: str, cache: Cache) -> Iterator[Finding]:
    """A device by its name, whose yaml file may be wrong: a vendor package's."""
    try:
        config = compose_config([f"device={name}"]).device
    except EdlabError as error:
        yield Finding(f"device={name}", False, error.message, error.hint, optional=True)
        return
    yield from readiness.device(config, cache)


def _section(title: str, findings: list[Finding]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, show_header=False, pad_edge=False)
    for column in ("mark", "part", "details"):
        table.add_column(column, overflow="fold")
    for finding in findings:
        mark = "[green]✓[/]" if finding.ok else "[yellow]–[/]" if finding.optional else "[red]✗[/]"
        fix = f"\n[cyan]{escape(finding.fix)}[/]" if finding.fix else ""
        table.add_row(mark, finding.part, escape(finding.details) + fix)
    return table


def _core(cache: Cache) -> Iterator[Finding]:
    yield Finding("python", sys.version_info >= (3, 11), f"{platform.python_version()} on {platform.machine()}")
    for package in _CORE:
        try:
            yield Finding(package, True, version(package))
        except PackageNotFoundError:
            yield Finding(package, False, "not installed", "pip install edlab")
    free_gb = shutil.disk_usage(_existing(cache.root)).free / 1e9
    ok = free_gb > _LOW_DISK_GB
    fix = "" if ok else "free space, or set EDLAB_CACHE to a folder with room"
    yield Finding("cache", ok, f"{cache.root}, {free_gb:.0f} GB free", fix)


def _existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.exists())
