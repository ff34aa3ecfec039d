"""The modules that the agent finds by name: its own, and those of outside packages that were sent with it."""

from __future__ import annotations

import importlib
import json
import pkgutil
import sys
from typing import Any, Iterable, TypeVar

from .errors import AgentError

T = TypeVar("T")

GROUPS = ("runtimes", "toolchains", "agent_tasks", "sensors", "knobs")  # of entry points, as edlab.<group>
FILE = "plugins.json"  # in the agent's zip: group -> name -> module


def outside(group: str) -> dict[str, str]:
    """The modules that outside packages add to a group, by name; none if the agent is not in a zip."""
    try:
        content = pkgutil.get_data(__package__, FILE)
    except OSError:
        return {}
    found: dict[str, str] = json.loads((content or b"{}").decode()).get(group, {})
    return found


def names(path: Iterable[str], group: str) -> list[str]:
    """The modules of a package and of a group, whether their libraries are installed on the target or not."""
    own = {module.name for module in pkgutil.iter_modules(path) if module.name != "base"}
    return sorted(own | set(outside(group)))


def load(package: str, path: Iterable[str], group: str, name: str, base: type[T]) -> type[T]:
    """The class in module `name` that is named like its base. Raises `AgentError` if there is no such module."""
    noun, known = base.__name__.lower(), names(path, group)
    if name not in known:
        raise AgentError("the agent has no %s '%s'" % (noun, name), hint="available: " + ", ".join(known))
    module = importlib.import_module(outside(group).get(name) or "%s.%s" % (package, name))
    kind: type[T] = getattr(module, base.__name__)
    kind.name = name  # type: ignore[attr-defined]
    return kind


def find(package: str, path: Iterable[str], group: str, name: str, base: Any) -> Any:
    """The same class, with its library imported. Raises `AgentError` if that is not installed on the target."""
    kind = load(package, path, group, name, base)
    try:
        kind.version()
    except ImportError as error:
        raise not_installed(kind, error) from error
    return kind


def not_installed(kind: Any, error: ImportError) -> AgentError:
    """The error of a runtime or toolchain that cannot be imported here."""
    return AgentError(
        "%s cannot be imported by %s: %s" % (kind.name, sys.executable, error),
        hint="%s -m pip install %s" % (sys.executable, kind.packages),
    )
