"""RAPL: the energy counters of Intel and AMD packages, through Linux's powercap files.

`energy_uj` counts microjoules up to `max_energy_range_uj` and then starts again from 0
(Linux, Documentation/power/powercap/powercap.rst). Since Linux 5.10 only root may read it.
"""

from __future__ import annotations

from pathlib import Path

from .base import EnergyCounter, Sensor


def find(root: Path = Path("/sys/class/powercap")) -> list[Sensor]:
    """One sensor over all packages (sockets) whose counter may be read; the domains inside a package are part of it."""
    zones = [zone for zone in sorted(root.glob("intel-rapl:*")) if _is_package(zone)]
    return [Rapl(zones)] if zones else []


class Rapl(EnergyCounter):
    """The sum of the packages' counters."""

    def __init__(self, zones: list[Path]) -> None:
        super().__init__("rapl", "rapl", "package")
        self._counters = [zone / "energy_uj" for zone in zones]
        self._spans = [int((zone / "max_energy_range_uj").read_text()) / 1e6 for zone in zones]

    def joules(self) -> list[float]:
        return [int(counter.read_text()) / 1e6 for counter in self._counters]

    def spans(self) -> list[float]:
        return self._spans


def _is_package(zone: Path) -> bool:
    try:
        (zone / "energy_uj").read_text()
        return (zone / "name").read_text().startswith("package-")
    except OSError:
        return False
