"""Checks of a meter's options, as a user sets them in `meter.options`.

Each returns the value, or raises `ConfigError` with the option's name.
"""

from __future__ import annotations

import importlib
import math
import re
from typing import Any
from urllib.parse import urlsplit

from edlab.agent.sensors.base import BOUNDARIES
from edlab.errors import ConfigError, MissingDependencyError
from edlab.packages import install


def package(needed_by: str, module: str, *requirements: str) -> Any:
    """The module of an optional package. Raises `MissingDependencyError` with the command that installs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        names = re.split("[<>=]", requirements[0])[0]
        raise MissingDependencyError(f"{needed_by} needs the package {names}", hint=install(requirements)) from error


def text(name: str, value: object) -> str:
    """A text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(f"the meter option {name} is {value!r}, not a text", hint=f"set meter.options.{name}")
    return value.strip()


def integer(name: str, value: object, least: int = 0) -> int:
    """A whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"the meter option {name} is {value!r}", hint=f"set meter.options.{name} to {least} or more")
    return value


def number(name: str, value: object, least: float = 0.0) -> float:
    """A finite number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < least:
        raise ConfigError(
            f"the meter option {name} is {value!r}",
            hint=f"set meter.options.{name} to a number, {least:g} or more",
        )
    return float(value)


def boundary(value: object) -> str:
    """One of BOUNDARIES."""
    if value not in BOUNDARIES:
        raise ConfigError(
            f"the meter option boundary is {value!r}",
            hint=f"set meter.options.boundary to one of {', '.join(BOUNDARIES)}",
        )
    return str(value)


def host(value: object) -> str:
    """A host name or address, with `:port` if the port is not the usual one."""
    name = text("host", value)
    try:
        parts = urlsplit(f"//{name}")
        valid = bool(parts.hostname) and parts.netloc == name and "@" not in name and parts.port != 0
    except ValueError:  # a port that is not a number, or half of an IPv6 address
        valid = False
    if not valid or any(character.isspace() for character in name):
        raise ConfigError(
            f"the meter option host is {value!r}",
            hint="set meter.options.host to a name or an address, without http://: 192.168.1.20",
        )
    return name
