"""The power sensors that the agent can read during inference: one module each, with `survey()`.

A vendor package adds a kind by the entry point group `edlab.sensors`: a module with `survey() -> Found`.

The environment variable EDLAB_SYSFS is the folder that is read instead of /sys, so that a tree of files can stand in
for the hardware. Sensors of such a tree are marked: see `describe`.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any, Callable

from .. import plugins
from ..errors import AgentError
from ..messages import SensorFound, Sensors, UnusableSensor
from . import hwmon, ina3221, nvml, pmic, power_supply, rapl
from .base import BOUNDARIES, Found, Sensor

SYSFS_VARIABLE = "EDLAB_SYSFS"

#: The kinds, the preferred one first: its module, and the folder of sysfs that it reads; None: it does not read sysfs.
_KINDS = {
    "rapl": (rapl, "class/powercap"),
    "nvml": (nvml, None),
    "ina3221": (ina3221, ""),
    "hwmon": (hwmon, "class/hwmon"),
    "pmic": (pmic, None),
    "battery": (power_supply, "class/power_supply"),
}


def survey() -> Found:
    """Every sensor that can be read now, the preferred one first, and the unusable ones. Never raises."""
    looks = {kind: _look(module, folder) for kind, (module, folder) in _KINDS.items()}
    looks.update({name: _look_outside(module) for name, module in plugins.outside("sensors").items()})
    found = Found([], [])
    for kind, look in looks.items():
        try:
            sensors, unusable = _checked(kind, look())
        except Exception as error:  # a kind that fails must not hide the others
            sensors, unusable = [], [UnusableSensor(kind, kind, "%s: %s" % (type(error).__name__, error), "")]
        found.sensors.extend(sensors)
        found.unusable.extend(unusable)
    return found


def _checked(kind: str, found: Any) -> Found:
    """What a module's `survey` returned, without sensors that break the rules: those cannot be used."""
    if not isinstance(found, Found):
        reason = "survey() returned %s, not edlab.agent.sensors.base.Found" % type(found).__name__
        return Found([], [UnusableSensor(kind, kind, reason, "fix the module of the sensor")])
    wrong = [sensor for sensor in found.sensors if sensor.boundary not in BOUNDARIES]
    unusable = [
        UnusableSensor(
            sensor.name,
            sensor.kind,
            "its boundary '%s' is not one of %s" % (sensor.boundary, ", ".join(BOUNDARIES)),
            "fix the module of the sensor",
        )
        for sensor in wrong
    ]
    return Found([sensor for sensor in found.sensors if sensor not in wrong], [*found.unusable, *unusable])


def _look(module: Any, folder: str | None) -> Callable[[], Found]:
    """How to look for the sensors of a kind; `folder` is what it reads in sysfs."""
    if folder is None:
        return lambda: module.survey()
    return lambda: module.survey(Path(_stand_in() or "/sys") / folder)


def _look_outside(module: str) -> Callable[[], Found]:
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
    return Sensors([_describe(sensor) for sensor in found.sensors], found.unusable)


def _describe(sensor: Sensor) -> SensorFound:
    return SensorFound(
        sensor.name,
        sensor.kind,
        sensor.boundary,
        sensor.lag_s,
        _stand_in() if _in_sysfs(sensor.kind) else "",
        sensor.resolution_w,
        sensor.accuracy,
        sensor.renewed_s,
    )


def _in_sysfs(kind: str) -> bool:
    return kind in _KINDS and _KINDS[kind][1] is not None


def _stand_in() -> str:
    return os.environ.get(SYSFS_VARIABLE, "")
