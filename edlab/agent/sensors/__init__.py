"""The power sensors that the agent can read beside inference: one module each, with `survey()`.

The environment variable EDLAB_SYSFS is the folder that is read in place of /sys, so that a tree of files can stand in
for the hardware. What comes from such a tree says so: see `describe`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Callable

from ..errors import AgentError
from . import hwmon, nvml, rapl
from .base import Found, Sensor, Unusable

SYSFS_VARIABLE = "EDLAB_SYSFS"
_IN_SYSFS = ("rapl", "hwmon")  # kinds


def survey() -> Found:
    """Every sensor that can be read now, the one to prefer first, and those that cannot be read. Never raises."""
    sysfs = Path(_stand_in() or "/sys")
    kinds: list[tuple[str, Callable[[], Found]]] = [
        ("rapl", lambda: rapl.survey(sysfs / "class/powercap")),
        ("nvml", nvml.survey),
        ("hwmon", lambda: hwmon.survey(sysfs / "class/hwmon")),
    ]
    found = Found([], [])
    for kind, look in kinds:
        try:
            sensors, unusable = look()
        except Exception as error:  # one kind that breaks must not hide the others
            sensors, unusable = [], [Unusable(kind, kind, "%s: %s" % (type(error).__name__, error), "")]
        found.sensors.extend(sensors)
        found.unusable.extend(unusable)
    return found


def get(name: str) -> Sensor:
    """The sensor of this name. Raises `AgentError` where there is none."""
    found = survey()
    for sensor in found.sensors:
        if sensor.name == name:
            return sensor
    reasons = ["%s cannot be used: %s" % (each.name, each.reason) for each in found.unusable]
    usable = "it has " + (", ".join(sensor.name for sensor in found.sensors) or "none that this user may read")
    raise AgentError("the target has no power sensor '%s'" % name, hint="; ".join([usable, *reasons]))


def describe(found: Found) -> dict[str, Any]:
    """What `survey` gave, as JSON: `sensors` (name, kind, boundary, lag_s, stand_in) and `unusable` (as `Unusable`).

    stand_in is the folder that was read in place of /sys; empty where the readings are the hardware's.
    """
    return {
        "sensors": [
            {
                "name": sensor.name,
                "kind": sensor.kind,
                "boundary": sensor.boundary,
                "lag_s": sensor.lag_s,
                "stand_in": _stand_in() if sensor.kind in _IN_SYSFS else "",
            }
            for sensor in found.sensors
        ],
        "unusable": [each._asdict() for each in found.unusable],
    }


def _stand_in() -> str:
    return os.environ.get(SYSFS_VARIABLE, "")
