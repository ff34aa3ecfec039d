"""RAPL: the energy counters of Intel and AMD packages, through Linux's powercap files.

`energy_uj` counts microjoules up to `max_energy_range_uj` and then starts again from 0
(Linux, Documentation/power/powercap/powercap.rst). Since Linux 5.10 only root may read it.
"""

from __future__ import annotations

import re
from pathlib import Path

from ..messages import UnusableSensor
from .base import EnergyCounter, Found

_NAME = "rapl"


def survey(root: Path = Path("/sys/class/powercap")) -> Found:
    """One sensor for all packages (sockets); the domains inside a package are part of it.

    A sum without one of the packages would be too small, so one that cannot be read makes the sensor unusable.
    """
    packages: list[Path] = []
    unreadable: dict[Path, Exception] = {}
    for zone in sorted(root.glob("intel-rapl:*")):
        if not re.match(r"intel-rapl:\d+$", zone.name):
            continue  # a domain inside a package
        try:
            if (zone / "name").read_text().startswith("package-"):
                packages.append(zone)
                Rapl([zone]).joules()
        except (OSError, ValueError) as error:
            unreadable[zone] = error
    if not unreadable:
        return Found([Rapl(packages)] if packages else [], [])
    zone, problem = next(iter(unreadable.items()))
    count = len({*packages, *unreadable})
    reason = "%d of %d packages cannot be read: %s" % (len(unreadable), count, problem)
    if isinstance(problem, PermissionError):
        hint = "sudo chmod a+r %s/intel-rapl:*/energy_uj" % root
    else:
        hint = "check the files in %s: name, an integer in energy_uj, and one above 0 in max_energy_range_uj" % zone
    return Found([], [UnusableSensor(_NAME, _NAME, reason, hint)])


class Rapl(EnergyCounter):
    """The sum of the packages' counters."""

    def __init__(self, zones: list[Path]) -> None:
        """Raises `OSError` or `ValueError` if a package does not state the range of its counter."""
        super().__init__(_NAME, _NAME, "package")
        self._counters = [zone / "energy_uj" for zone in zones]
        self._spans = [_span(zone / "max_energy_range_uj") for zone in zones]

    def joules(self) -> list[float]:
        return [int(counter.read_text()) / 1e6 for counter in self._counters]

    def spans(self) -> list[float]:
        return self._spans


def _span(path: Path) -> float:
    """The joules after which a counter starts again."""
    microjoules = int(path.read_text())
    if microjoules <= 0:
        raise ValueError("%s is %d, which is not a valid range of the counter" % (path, microjoules))
    return microjoules / 1e6
