"""Ratios of pairs that were measured in turn, and a description of the machine."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeVar

from edlab.agent import system

Item = TypeVar("Item")

GOAL, LIMIT = 0.01, 0.03  # how far the median of the ratios may be from 1


class Ratios(NamedTuple):
    """The ratios of all rounds: their median, lowest and highest, and how many there are."""

    median: float
    lowest: float
    highest: float
    rounds: int

    def __str__(self) -> str:
        return f"{self.median:.3f} ({self.lowest:.3f} to {self.highest:.3f}; {self.rounds})"

    def verdict(self) -> str:
        """`holds` within the goal, `within 3 %`, else `FAILS`."""
        distance = round(abs(self.median - 1), 6)  # 1.01 - 1 is a little more than 0.01
        return "holds" if distance <= GOAL else f"within {LIMIT:.0%}" if distance <= LIMIT else "FAILS"


def ratios(pairs: Iterable[tuple[float, float]]) -> Ratios:
    """Ratios of (value, reference) of each round. Raises `ValueError` for none, or a reference that is not positive."""
    pairs = list(pairs)
    if not pairs or any(reference <= 0 for _, reference in pairs):
        raise ValueError(f"no ratios can be taken of {pairs}")
    each = [value / reference for value, reference in pairs]
    return Ratios(statistics.median(each), min(each), max(each), len(each))


def in_turn(items: Sequence[Item], number: int) -> list[Item]:
    """The items, reversed in every second round, so that drift affects the first and the last alike."""
    return list(items) if number % 2 == 0 else list(reversed(items))


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def machine(packages: Sequence[str]) -> str:
    """One markdown paragraph: day, processor, cores, kernel, and the versions of these packages."""
    versions = [f"{name} {version}" for name in packages if (version := _version(name))]
    virtual = "a virtual machine" if "hypervisor" in system.cpu_flags() else "no virtual machine"
    return (
        f"{datetime.date.today():%Y-%m-%d}, {system.cpu_model()} ({len(system.allowed_cpus())} cores, {virtual}; "
        f"{system.instruction_sets()}), Linux {platform.release()}, Python {platform.python_version()}, "
        + ", ".join(versions)
        + "."
    )


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
