"""`edlab doctor`: what is installed, what each converter and device is missing, and the command that fixes it."""

from __future__ import annotations

import dataclasses
import platform
import shutil
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rich.console import Console, OverflowMethod
from rich.table import Table
from rich.text import Text

from edlab import converters, readiness
from edlab.cache import Cache
from edlab.composition import compose_config, options
from edlab.config import ConverterConfig, DeviceConfig
from edlab.errors import EdlabError
from edlab.packages import install
from edlab.readiness import Finding
from edlab.reports.sheet import Cell, Heading, Sheet

_CORE = ("torch", "torchvision", "timm", "onnx", "onnxruntime", "mlflow", "hydra-core", "numpy")

_LOW_DISK_GB = 5.0  # conversions and prepared images need more space here than files on a target


def sheet(overrides: Sequence[str]) -> tuple[Sheet, int]:
    """The findings of `run` as rows, for programs and documents, and its exit code."""
    cache = Cache()
    sections = {" ".join(overrides): _of_run(overrides, cache)} if overrides else _overview(cache)
    found = Sheet([Heading(name, folds=True) for name in ("section", "state", "part", "details", "fix")])
    for section, findings in sections.items():
        for each in findings:
            state = "ok" if each.ok and not each.absent else "optional" if each.absent or each.optional else "missing"
            values = (section, state, each.part, each.details, each.fix)
            found.rows.append([Cell(value) for value in values])
            found.data.append({heading.text: value for heading, value in zip(found.headings, values, strict=True)})
    return found, _exit_code([finding for findings in sections.values() for finding in findings])


def run(console: Console, overrides: Sequence[str]) -> int:
    """Print the report: a line for each part, or everything that the run of `overrides` needs.

    Exit code 0 if everything that is not optional can be used, else 1. Raises `ConfigError` for an invalid override.
    """
    cache = Cache()
    if overrides:
        findings = _of_run(overrides, cache)
        console.print(_section(" ".join(overrides), findings))
        return _exit_code(findings)
    sections = _overview(cache)
    for title, findings in sections.items():
        console.print(_section(title, findings, one_line=title != "core"))
    console.print("[cyan]edlab doctor converter=NAME device=NAME[/] shows more, and how to fix it", highlight=False)
    return _exit_code([finding for findings in sections.values() for finding in findings])


def _exit_code(findings: Sequence[Finding]) -> int:
    return 0 if all(finding.ok or finding.optional for finding in findings) else 1


def _of_run(overrides: Sequence[str], cache: Cache) -> list[Finding]:
    """Everything that the run of these overrides needs; nothing is optional here."""
    findings = readiness.of_run(compose_config(overrides), cache)
    return [dataclasses.replace(finding, optional=False) for finding in findings]


def _overview(cache: Cache) -> dict[str, list[Finding]]:
    """One finding for each part, and each problem of edlab itself."""
    toolchains = [readiness.converter(ConverterConfig(name=name), cache) for name in converters.available()]
    return {
        "core": [*_core(cache), *readiness.plugins()],
        "converters": [finding for toolchain in toolchains for finding in toolchain],
        "devices": [_device(name, cache) for name in options("device")],
    }


def _device(name: str, cache: Cache) -> Finding:
    """A device by name; the yaml file of a vendor package may be invalid."""
    try:
        config = compose_config([f"device={name}"]).device
    except EdlabError as error:
        return Finding(f"device={name}", False, error.message, error.hint, optional=True)
    return summary(config, list(readiness.device(config, cache)))


def summary(config: DeviceConfig, findings: list[Finding]) -> Finding:
    """A device in one line: it can be used if one of its runtimes can, and nothing that it needs is missing."""
    device, parts = findings[0], findings[1:]
    unusable = {part.part.removeprefix(f"{config.name}: "): part for part in parts if not part.ok}
    if not unusable:
        return device
    required = {name: part for name, part in unusable.items() if not part.optional}
    if required or set(config.runtimes.values()) <= unusable.keys():
        name, part = next(iter((required or unusable).items()))
        return Finding(device.part, False, f"{name}: {part.details}", part.fix, optional=not required)
    return dataclasses.replace(device, details=f"{device.details}; not usable: {', '.join(unusable)}")


def _section(title: str, findings: Sequence[Finding], *, one_line: bool = False) -> Table:
    """A table of findings. `one_line` cuts each to the width of the terminal, and shows only the fixes of errors."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, show_header=False, pad_edge=False)
    table.add_column("mark", no_wrap=True)
    table.add_column("part", no_wrap=True)
    table.add_column("details")
    overflow: OverflowMethod = "ellipsis" if one_line else "fold"
    for finding in findings:
        mark = _mark(finding)
        details = Text(finding.details, overflow=overflow, no_wrap=one_line)
        if finding.fix and not (one_line and finding.optional):
            details.append(f"\n{finding.fix}", "cyan")
        table.add_row(mark, finding.part, details)
    return table


def _mark(finding: Finding) -> str:
    if finding.ok and not finding.absent:
        return "[green]✓[/]"
    return "[yellow]–[/]" if finding.absent or finding.optional else "[red]✗[/]"


def _core(cache: Cache) -> Iterator[Finding]:
    """Python, the packages that every run needs, and the disk; packages that are installed share a line."""
    yield Finding("python", sys.version_info >= (3, 11), f"{platform.python_version()} on {platform.machine()}")
    installed = []
    for package in _CORE:
        try:
            installed.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            yield Finding(package, False, "not installed", install(["edlab"]))
    yield Finding("packages", True, ", ".join(installed))
    free_gb = shutil.disk_usage(_existing(cache.root)).free / 1e9
    ok = free_gb > _LOW_DISK_GB
    fix = "" if ok else "free space, or set EDLAB_CACHE to a folder on a disk with free space"
    yield Finding("cache", ok, f"{cache.root}, {free_gb:.0f} GB free", fix)


def _existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.exists())
