"""Modules that travel with the agent, found by name: one class in each."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from typing import Any, Iterable, TypeVar

from .errors import AgentError

T = TypeVar("T")


def names(path: Iterable[str]) -> list[str]:
    """The modules of a package, whether what they drive is installed on the target or not."""
    return sorted(module.name for module in pkgutil.iter_modules(path) if module.name != "base")


def load(package: str, path: Iterable[str], name: str, base: type[T]) -> type[T]:
    """The class in module `name` that has the name of its base. Raises `AgentError` if there is no such module."""
    noun, known = base.__name__.lower(), names(path)
    if name not in known:
        raise AgentError("the agent has no %s '%s'" % (noun, name), hint="it has " + ", ".join(known))
    kind: type[T] = getattr(importlib.import_module("." + name, package), base.__name__)
    return kind


def find(package: str, path: Iterable[str], name: str, base: Any) -> Any:
    """The same, with what it drives imported. Raises `AgentError` if that is not installed on the target."""
    kind = load(package, path, name, base)
    try:
        kind.version()
    except ImportError as error:
        raise not_installed(kind, error) from error
    return kind


def not_installed(kind: Any, error: ImportError) -> AgentError:
    """The error of a runtime or toolchain that cannot be imported on the target."""
    return AgentError(
        "%s cannot be imported on the target: %s" % (kind.name(), error),
        hint="%s -m pip install %s" % (sys.executable, kind.packages),
    )
