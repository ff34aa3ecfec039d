"""`edlab doctor`: what is installed, what each converter and device lacks, and the command that mends it."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edlab import converters, devices
from edlab.cache import Cache
from edlab.composition import compose_config, options
from edlab.config import DeviceConfig
from edlab.errors import EdlabError

_CORE = ("torch", "torchvision", "timm", "onnx", "onnxruntime", "mlflow", "hydra-core", "numpy")
_LOW_DISK_GB = 5.0


@dataclass(frozen=True)
class Finding:
    """One line of the report: a part, whether it is fit to use, the facts, and the mend where it is not.

    `optional` is a part that edlab does without: the runtime of an extra.
    """

    part: str
    fit: bool
    facts: str
    mend: str = ""
    optional: bool = False


def run(console: Console) -> int:
    """Print the report. Exit code 0 where all but what is optional is fit, else 1."""
    cache = Cache()
    sections = {
        "core": list(_core(cache)),
        "converters": list(_converters()),
        "devices": [finding for name in options("device") for finding in _device(name, cache)],
    }
    for title, findings in sections.items():
        console.print(_section(title, findings))
    return 0 if all(finding.fit or finding.optional for part in sections.values() for finding in part) else 1


def _section(title: str, findings: list[Finding]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, show_header=False, pad_edge=False)
    for column in ("mark", "part", "facts"):
        table.add_column(column, overflow="fold")
    for finding in findings:
        mark = "[green]✓[/]" if finding.fit else "[yellow]–[/]" if finding.optional else "[red]✗[/]"
        mend = f"\n[cyan]{escape(finding.mend)}[/]" if finding.mend else ""
        table.add_row(mark, finding.part, escape(finding.facts) + mend)
    return table


def _core(cache: Cache) -> Iterator[Finding]:
    yield Finding("python", sys.version_info >= (3, 11), f"{platform.python_version()} on {platform.machine()}")
    for package in _CORE:
        try:
            yield Finding(package, True, version(package))
        except PackageNotFoundError:
            yield Finding(package, False, "not installed", "pip install edlab")
    free_gb = shutil.disk_usage(_existing(cache.root)).free / 1e9
    yield Finding(
        "cache",
        free_gb > _LOW_DISK_GB,
        f"{cache.root}, {free_gb:.0f} GB free",
        "" if free_gb > _LOW_DISK_GB else "free space, or set EDLAB_CACHE to a folder with room",
    )


def _existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _converters() -> Iterator[Finding]:
    for name in converters.available():
        kind = converters.load(name)
        missing = kind.missing()
        mends = sorted({kind.requirements[package] for package in missing})
        facts = f"lacks {', '.join(missing)}" if missing else f"{', '.join(kind.takes)} → {kind.format}"
        yield Finding(name, not missing, facts, " && ".join(f"pip install '{mend}'" for mend in mends), optional=True)


def _device(name: str, cache: Cache) -> Iterator[Finding]:
    device = compose_config([f"device={name}"]).device
    try:
        with devices.connect(device, cache) as session:
            hello = session.hello()
            found = session.probe(sorted(set(device.runtimes.values())))
            sensors = session.sensors()
    except EdlabError as error:
        yield Finding(name, False, error.message, error.hint)
        return
    yield Finding(name, True, f"{hello['cpu']}, Python {hello['python']}")
    yield from _runtimes(name, device, found)
    names = ", ".join(sensor["name"] for sensor in sensors)
    yield Finding(f"{name}: power", True, names or "no sensor: power is estimated from device.specification")


def _runtimes(name: str, device: DeviceConfig, found: dict[str, dict[str, str]]) -> Iterator[Finding]:
    for file_format, runtime in device.runtimes.items():
        answer = found[runtime]
        if "version" in answer:
            yield Finding(f"{name}: {runtime}", True, f"{answer['version']} runs {file_format}")
        else:
            yield Finding(f"{name}: {runtime}", False, answer["reason"], answer["hint"], optional=True)
