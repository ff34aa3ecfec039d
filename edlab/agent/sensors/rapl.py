"""RAPL: the energy counters of Intel and AMD packages, through Linux's powercap files.

`energy_uj` counts microjoules up to `max_energy_range_uj` and then starts again from 0
(Linux, Documentation/power/powercap/powercap.rst). Since Linux 5.10 only root may read it. AMD's processors have the
same names (drivers/powercap/intel_rapl_msr.c).

A package's zone is named `package-N`, and has zones inside: `core`, `dram` and others. `psys`, of some laptops, counts
the energy of the platform. The processor updates a counter about every millisecond, in steps of some 61 microjoules
(Intel 64 and IA-32 Architectures Software Developer's Manual, volume 3, 15.10): the power that this resolves depends
on the time between two readings, so no resolution is stated.
"""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import NamedTuple

from ..messages import UnusableSensor
from .base import EnergyCounter, Found

_KIND = "rapl"
_UNTIL_IT_MOVES_S = 0.05  # many times the time in which the processor updates it


class _Domain(NamedTuple):
    """The zones that one sensor adds up."""

    sensor: str
    zone: str  # regular expression of the zones' names
    boundary: str
    zones: str  # what they are called in messages


#: The packages first: `power=auto` uses the first sensor. `dram` is not a part of the package, the cores are.
_DOMAINS = (
    _Domain("rapl", r"package-\d.*", "package", "packages"),
    _Domain("rapl core", "core", "rail", "core domains"),
    _Domain("rapl dram", "dram", "rail", "dram domains"),
    _Domain("rapl psys", "psys", "board_dc", "psys domains"),
)


def survey(root: Path = Path("/sys/class/powercap")) -> Found:
    """One sensor for each domain, over all packages (sockets).

    A sum without one of the zones would be too small, so one that cannot be read makes the sensor unusable. Without the
    packages there is no sensor at all: their cores alone must not be used instead of them.
    """
    names = {zone: _name(zone) for zone in sorted(root.glob("intel-rapl:*"))}
    found = Found([], [])
    for domain in _DOMAINS:
        zones = [zone for zone, name in names.items() if re.fullmatch(domain.zone, name)]
        unreadable = {zone: problem for zone in zones for problem in [_problem(zone)] if problem}
        if unreadable:
            found.unusable.append(_unusable(root, domain, len(zones), unreadable))
            if domain is _DOMAINS[0]:
                return found
        elif zones:
            found.sensors.append(Rapl(zones, domain.sensor, domain.boundary))
    return found


class Rapl(EnergyCounter):
    """The sum of the counters of some zones."""

    renewed_s = 0.001

    def __init__(self, zones: list[Path], name: str = _KIND, boundary: str = "package") -> None:
        """Raises `OSError` or `ValueError` if a zone does not state the range of its counter."""
        super().__init__(name, _KIND, boundary)
        self._counters = [zone / "energy_uj" for zone in zones]
        self._spans = [_span(zone / "max_energy_range_uj") for zone in zones]

    def joules(self) -> list[float]:
        return [int(counter.read_text()) / 1e6 for counter in self._counters]

    def spans(self) -> list[float]:
        return self._spans


def _name(zone: Path) -> str:
    """The zone's name. One at the top that cannot be read counts as a package, so that its energy is not ignored."""
    try:
        return (zone / "name").read_text().strip()
    except OSError:
        return "package-0" if re.fullmatch(r"intel-rapl:\d+", zone.name) else ""


def _problem(zone: Path) -> Exception | None:
    """Why the zone cannot be read; None if it can be."""
    try:
        (zone / "name").read_text()
        counter = Rapl([zone])
        if not any(counter.joules()):
            time.sleep(_UNTIL_IT_MOVES_S)
            if not any(counter.joules()):
                raise ValueError("energy_uj stays 0: many virtual machines have the files without the counter")
    except (OSError, ValueError) as error:
        return error
    return None


def _unusable(root: Path, domain: _Domain, count: int, unreadable: dict[Path, Exception]) -> UnusableSensor:
    zone, problem = next(iter(unreadable.items()))
    reason = "%d of %d %s cannot be read: %s" % (len(unreadable), count, domain.zones, problem)
    if isinstance(problem, PermissionError):
        hint = "sudo chmod a+r %s/intel-rapl:*/energy_uj" % root
    else:
        hint = "check the files in %s: name, an integer in energy_uj, and one above 0 in max_energy_range_uj" % zone
    return UnusableSensor(domain.sensor, _KIND, reason, hint)


def _span(path: Path) -> float:
    """The joules after which a counter starts again."""
    microjoules = int(path.read_text())
    if microjoules <= 0:
        raise ValueError("%s is %d, which is not a valid range of the counter" % (path, microjoules))
    return microjoules / 1e6
