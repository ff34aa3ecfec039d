"""Linux hwmon: power meters of boards and cards, and INA3221 rails as current times voltage.

Units of sysfs: power*_input and power*_average in microwatts, curr*_input in milliamperes, in*_input in millivolts
(Linux, Documentation/hwmon/sysfs-interface.rst). Channels of an INA3221 carry their rail's name in in*_label; on
NVIDIA Jetson VDD_IN is the input of the whole module (Jetson Linux developer guide, power monitor).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Callable

from .base import PowerSensor, Sensor

_CHIP_BOUNDARIES = {"amdgpu": "module", "power_meter": "board_dc"}  # any other chip measures a rail
_RAIL_BOUNDARIES = {"VDD_IN": "module"}
_WIDEST_FIRST = ("board_dc", "module", "rail")


def find(root: Path = Path("/sys/class/hwmon")) -> list[Sensor]:
    """The meters that can be read now, those with the widest boundary first."""
    sensors = [sensor for chip in sorted(root.glob("hwmon*")) for sensor in _of_chip(chip)]
    return sorted(sensors, key=lambda sensor: _WIDEST_FIRST.index(sensor.boundary))


class Hwmon(PowerSensor):
    """One channel of a chip."""

    def __init__(self, name: str, boundary: str, watts: Callable[[], float]) -> None:
        super().__init__(name, "hwmon", boundary)
        self._watts = watts

    def watts(self) -> float:
        return self._watts()


def _of_chip(chip: Path) -> list[Sensor]:
    chip_name = _text(chip / "name") or chip.name
    sensors: list[Sensor] = []
    for path in _channels(chip, r"power(\d+)_(?:input|average)"):
        label = _text(chip / (path.name.partition("_")[0] + "_label")) or path.name.partition("_")[0]
        boundary = _CHIP_BOUNDARIES.get(chip_name, "rail")
        sensors.append(Hwmon("hwmon:%s %s" % (chip_name, label), boundary, _microwatts(path)))
    for path in [] if sensors else _channels(chip, r"curr(\d+)_input"):
        channel = path.name[len("curr") : -len("_input")]
        voltage = chip / ("in%s_input" % channel)
        if voltage.exists():
            label = _text(chip / ("in%s_label" % channel)) or "channel %s" % channel
            boundary = _RAIL_BOUNDARIES.get(label, "rail")
            sensors.append(Hwmon("hwmon:%s %s" % (chip_name, label), boundary, _product(path, voltage)))
    return [sensor for sensor in sensors if _readable(sensor)]


def _channels(chip: Path, pattern: str) -> list[Path]:
    """The chip's files of this form, one a channel: a card may have both power1_average and power1_input."""
    by_channel = {}
    for path in sorted(chip.iterdir()):
        match = re.fullmatch(pattern, path.name)
        if match:
            by_channel[int(match.group(1))] = path
    return [by_channel[channel] for channel in sorted(by_channel)]


def _microwatts(path: Path) -> Callable[[], float]:
    return lambda: int(path.read_text()) / 1e6


def _product(milliamperes: Path, millivolts: Path) -> Callable[[], float]:
    return lambda: int(milliamperes.read_text()) * int(millivolts.read_text()) / 1e6


def _readable(sensor: Sensor) -> bool:
    try:
        sensor.read()
        return True
    except (OSError, ValueError):
        return False


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip() or None
    except OSError:
        return None
