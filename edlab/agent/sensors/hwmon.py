"""Linux hwmon: power meters of boards and cards, and INA3221 rails as current times voltage.

Units of sysfs: power*_input and power*_average in microwatts, curr*_input in milliamperes, in*_input in millivolts;
power*_average_interval and update_interval in milliseconds (Linux, Documentation/hwmon/sysfs-interface.rst). Channels
of an INA3221 carry their rail's name in in*_label; on NVIDIA Jetson VDD_IN is the input of the entire module (Jetson
Linux developer guide, power monitor).
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Callable, Iterator

from ..messages import UnusableSensor
from .base import Found, PowerSensor

_CHIP_BOUNDARIES = {"amdgpu": "module", "power_meter": "board_dc"}  # other chips measure a rail
_RAIL_BOUNDARIES = {"VDD_IN": "module"}
_WIDEST_FIRST = ("board_dc", "module", "rail")


def survey(root: Path = Path("/sys/class/hwmon")) -> Found:
    """The meters, those with the widest boundary first, each with a unique name."""
    meters = [meter for chip in sorted(root.glob("hwmon*")) for meter in _of_chip(chip)]
    _tell_apart(meters)
    found = Found([], [])
    for meter in sorted(meters, key=lambda meter: _WIDEST_FIRST.index(meter.boundary)):
        try:
            meter.read()
            found.sensors.append(meter)
        except (OSError, ValueError) as error:
            hint = "read the files of %s as the user that runs the agent to see the driver's error" % meter.chip
            found.unusable.append(UnusableSensor(meter.name, "hwmon", str(error), hint))
    return found


class Hwmon(PowerSensor):
    """One channel of a chip, whose folder is `chip`."""

    def __init__(self, name: str, boundary: str, lag_s: float, chip: Path, channel: str, watts: Callable[[], float]):
        super().__init__(name, "hwmon", boundary, lag_s)
        self.chip = chip
        self.channel = channel
        self._watts = watts

    def watts(self) -> float:
        return self._watts()


def _of_chip(chip: Path) -> Iterator[Hwmon]:
    chip_name = _text(chip / "name") or chip.name
    powers = _channels(chip, r"power(\d+)_(?:input|average)")
    for path in powers:
        channel = path.name.partition("_")[0]
        label = _text(chip / (channel + "_label")) or channel
        boundary = _CHIP_BOUNDARIES.get(chip_name, "rail")
        name = "hwmon:%s %s" % (chip_name, label)
        yield Hwmon(name, boundary, _lag_s(chip, channel), chip, channel, _microwatts(path))
    for path in [] if powers else _channels(chip, r"curr(\d+)_input"):
        number = path.name[len("curr") : -len("_input")]
        voltage = chip / ("in%s_input" % number)
        if _text(voltage) is not None:
            label = _text(chip / ("in%s_label" % number)) or "channel %s" % number
            boundary = _RAIL_BOUNDARIES.get(label, "rail")
            name = "hwmon:%s %s" % (chip_name, label)
            yield Hwmon(name, boundary, _lag_s(chip, ""), chip, "channel " + number, _product(path, voltage))


def _channels(chip: Path, pattern: str) -> list[Path]:
    """The chip's files of this form, one per channel: a card may have both power1_average and power1_input."""
    by_channel = {}
    for path in sorted(chip.glob("*")):  # empty for a folder that is not readable
        match = re.fullmatch(pattern, path.name)
        if match:
            by_channel[int(match.group(1))] = path
    return [by_channel[channel] for channel in sorted(by_channel)]


def _lag_s(chip: Path, channel: str) -> float:
    """Twice the interval that the driver states: a reading is the mean of one, and stays for one. 0: not stated."""
    for name in (channel + "_average_interval", "update_interval"):
        text = _text(chip / name)
        if text and text.isdigit():
            return 2 * int(text) / 1000
    return 0.0


def _tell_apart(meters: list[Hwmon]) -> None:
    """Add the chip's place (its bus address), and then the channel, to names that several meters have."""
    marks: list[Callable[[Hwmon], str]] = [_place, lambda meter: meter.channel, lambda meter: meter.chip.name]
    for mark in marks:
        uses = Counter(meter.name for meter in meters)
        for meter in meters:
            if uses[meter.name] > 1:
                meter.name = "%s @%s" % (meter.name, mark(meter))


def _place(meter: Hwmon) -> str:
    """The chip's address on its bus ("1-0040"), unchanged when the kernel numbers hwmon again; else hwmonN."""
    device = meter.chip / "device"
    return device.resolve().name if device.is_symlink() else meter.chip.name


def _microwatts(path: Path) -> Callable[[], float]:
    return lambda: int(path.read_text()) / 1e6


def _product(milliamperes: Path, millivolts: Path) -> Callable[[], float]:
    return lambda: int(milliamperes.read_text()) * int(millivolts.read_text()) / 1e6


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip() or None
    except OSError:
        return None
