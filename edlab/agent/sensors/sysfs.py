"""Reading sysfs, for the kinds of sensors whose drivers are in it."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Callable, Sequence

from ..messages import UnusableSensor
from .base import Found, PowerSensor


class ChannelSensor(PowerSensor):
    """One channel of a chip, whose `folder` is in sysfs; `watts` reads it."""

    def __init__(
        self, name: str, kind: str, boundary: str, lag_s: float, folder: Path, channel: str, watts: Callable[[], float]
    ) -> None:
        super().__init__(name, kind, boundary, lag_s)
        self.folder = folder
        self.channel = channel
        self._watts = watts

    def watts(self) -> float:
        return self._watts()


def readable(sensors: Sequence[ChannelSensor]) -> Found:
    """The sensors, read once: those that fail are unusable, with the driver's error."""
    found = Found([], [])
    for sensor in sensors:
        try:
            sensor.read()
            found.sensors.append(sensor)
        except (OSError, ValueError) as error:
            hint = "read the files of %s as the user that runs the agent to see the driver's error" % sensor.folder
            found.unusable.append(UnusableSensor(sensor.name, sensor.kind, str(error), hint))
    return found


def text(path: Path) -> str | None:
    """The content of a file; None if it is empty or cannot be read."""
    try:
        return path.read_text().strip() or None
    except OSError:
        return None


def integer(path: Path) -> int:
    """The content of a file. Raises `OSError` or `ValueError`, which names the file."""
    content = path.read_text().strip()
    try:
        return int(content)
    except ValueError:
        raise ValueError("%s is '%s', not an integer" % (path, content)) from None


def scaled(path: Path, steps: float) -> Callable[[], float]:
    """Reads a file of integers, of which `steps` are one."""
    return lambda: integer(path) / steps


def channels(folder: Path, pattern: str) -> dict[int, Path]:
    """The files whose name is `pattern`, by the number in its first group, in order of that number.

    Of two files with one number, as power1_average and power1_input, the last by name counts.
    """
    found = {}
    for path in sorted(folder.glob("*")):  # empty for a folder that is not readable
        match = re.fullmatch(pattern, path.name)
        if match:
            found[int(match.group(1))] = path
    return {number: found[number] for number in sorted(found)}


def lag_s(folder: Path, *intervals: str) -> float:
    """Twice the first of the `intervals` that the driver states: a reading is the mean of one, and stays for one.

    They are files with milliseconds (Linux, Documentation/hwmon/sysfs-interface.rst). 0: none is stated.
    """
    for name in intervals:
        content = text(folder / name)
        if content and content.isdigit():
            return 2 * int(content) / 1000
    return 0.0


def tell_apart(sensors: Sequence[ChannelSensor]) -> None:
    """Add the chip's place (its bus address), and then the channel, to names that several sensors have."""
    marks: list[Callable[[ChannelSensor], str]] = [
        lambda sensor: place(sensor.folder),
        lambda sensor: sensor.channel,
        lambda sensor: sensor.folder.name,
    ]
    for mark in marks:
        uses = Counter(sensor.name for sensor in sensors)
        for sensor in sensors:
            if uses[sensor.name] > 1:
                sensor.name = "%s @%s" % (sensor.name, mark(sensor))


def place(folder: Path) -> str:
    """The chip's address on its bus ("1-0040"), unchanged when the kernel numbers hwmon again; else the folder."""
    device = folder / "device"
    return device.resolve().name if device.is_symlink() else folder.name
