"""Batteries: the power that a laptop or a board takes from its own battery.

power_now is in microwatts; without it, current_now in microamperes, negative for some drivers while the battery is
discharged, times voltage_now in microvolts (Linux, Documentation/ABI/testing/sysfs-class-power).

The watts include everything that the battery supplies: the display too. They say nothing while a charger is connected.
How often the battery's controller updates them is not reported (`lag_s` is 0); for ACPI batteries it takes seconds.
"""

from __future__ import annotations

from pathlib import Path

from ..messages import UnusableSensor
from . import sysfs
from .base import Found, PowerSensor

_NAME = "battery"
_HINT = "unplug the charger, so that the battery supplies the machine"


def survey(root: Path = Path("/sys/class/power_supply")) -> Found:
    """One sensor for all batteries of the machine, if they supply it now."""
    sensor = Battery(_of_type(root, "Battery"), _of_type(root, "Mains"))
    if not sensor.batteries:
        return Found([], [])
    try:
        sensor.read()
    except (OSError, ValueError) as error:
        return Found([], [UnusableSensor(_NAME, _NAME, str(error), _HINT)])
    return Found([sensor], [])


class Battery(PowerSensor):
    """The sum of the batteries: a machine with two discharges one after the other."""

    def __init__(self, batteries: list[Path], chargers: list[Path]) -> None:
        super().__init__(_NAME, _NAME, "board_dc")
        self.batteries = batteries
        self._chargers = chargers

    def watts(self) -> float:
        """Raises `ValueError` unless the batteries, and nothing else, supply the machine."""
        states = {battery.name: sysfs.text(battery / "status") or "Unknown" for battery in self.batteries}
        online = [charger.name for charger in self._chargers if sysfs.text(charger / "online") == "1"]
        if online:
            raise ValueError("the charger is connected (%s is online): unplug the charger" % ", ".join(online))
        if "Discharging" not in states.values():
            described = ", ".join("%s is %s" % state for state in states.items())
            raise ValueError("the battery is not discharging (%s): unplug the charger" % described)
        return sum(_watts(battery) for battery in self.batteries if states[battery.name] == "Discharging")


def _of_type(root: Path, kind: str) -> list[Path]:
    """The machine's supplies of a type; scope Device is one of a mouse or a headset."""
    supplies = [folder for folder in sorted(root.glob("*")) if sysfs.text(folder / "type") == kind]
    return [folder for folder in supplies if sysfs.text(folder / "scope") != "Device"]


def _watts(battery: Path) -> float:
    if (battery / "power_now").exists():
        return abs(sysfs.integer(battery / "power_now")) / 1e6
    return abs(sysfs.integer(battery / "current_now") * sysfs.integer(battery / "voltage_now")) / 1e12
