"""The power sensors that the agent can read during inference: one module each, with `survey()`.

A vendor package adds a kind by the entry point group `edlab.sensors`: a module with `survey() -> Found`.

The environment variable EDLAB_SYSFS is the folder that is read instead of /sys, so that a tree of files can stand in
for the hardware. Sensors of such a tree are marked: see `describe`.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Callable

from .. import plugins
from ..errors import AgentError
from ..messages import SensorFound, Sensors, UnusableSensor
from . import hwmon, nvml, rapl
from .base import Found, Sensor

SYSFS_VARIABLE = "EDLAB_SYSFS"
_IN_SYSFS = ("rapl", "hwmon")  # kinds


def survey() -> Found:
    """Every sensor that can be read now, the preferred one first, and the unusable ones. Never raises."""
    sysfs = Path(_stand_in() or "/sys")
    kinds: list[tuple[str, Callable[[], Found]]] = [
        ("rapl", lambda: rapl.survey(sysfs / "class/powercap")),
        ("nvml", nvml.survey),
        ("hwmon", lambda: hwmon.survey(sysfs / "class/hwmon")),
    ]
    kinds += [(name, _survey_of(module)) for name, module in plugins.outside("sensors").items()]
    found = Found([], [])
    for kind, look in kinds:
        try:
            sensors, unusable = look()
        except Exception as error:  # a kind that fails must not hide the others
            sensors, unusable = [], [UnusableSensor(kind, kind, "%s: %s" % (type(error).__name__, error), "")]
        found.sensors.extend(sensors)
        found.unusable.extend(unusable)
    return found


def _survey_of(module: str) -> Callable[[], Found]:
    return lambda: importlib.import_module(module).survey()


def get(name: str) -> Sensor:
    """The sensor of this name. Raises `AgentError` if there is none."""
    found = survey()
    for sensor in found.sensors:
        if sensor.name == name:
            return sensor
    reasons = ["%s cannot be used: %s" % (each.name, each.reason) for each in found.unusable]
    usable = "readable sensors: " + (", ".join(sensor.name for sensor in found.sensors) or "none")
    raise AgentError("the target has no power sensor '%s'" % name, hint="; ".join([usable, *reasons]))


def describe(found: Found) -> Sensors:
    """The result of `survey` as a message."""
    return Sensors(
        [
            SensorFound(each.name, each.kind, each.boundary, each.lag_s, _stand_in() if each.kind in _IN_SYSFS else "")
            for each in found.sensors
        ],
        found.unusable,
    )


def _stand_in() -> str:
    return os.environ.get(SYSFS_VARIABLE, "")
