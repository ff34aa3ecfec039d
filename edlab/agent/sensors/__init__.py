"""The power sensors that the agent can read beside inference: one module each, with `find() -> list of sensors`."""

from __future__ import annotations

from ..errors import AgentError
from . import hwmon, nvml, rapl
from .base import Sensor


def find() -> list[Sensor]:
    """Every sensor that can be read now, the one to prefer first."""
    return [sensor for kind in (rapl, nvml, hwmon) for sensor in kind.find()]


def get(name: str) -> Sensor:
    """The sensor of this name. Raises `AgentError` where it is not there."""
    found = find()
    for sensor in found:
        if sensor.name == name:
            return sensor
    raise AgentError(
        "the target has no power sensor '%s'" % name,
        hint="it has " + (", ".join(sensor.name for sensor in found) or "none that this user may read"),
    )
