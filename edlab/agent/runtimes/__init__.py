"""The runtimes that this agent can drive: one module each, holding `class Runtime(base.Runtime)`."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from typing import Any

from ..errors import AgentError
from .base import Runtime


def names() -> list[str]:
    """The runtimes that travelled with this agent, installed on the target or not."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name != "base")


def find(name: str) -> type[Runtime]:
    """The runtime of this name. Raises `AgentError` where there is none."""
    if name not in names():
        raise AgentError("the agent has no runtime '%s'" % name, hint="it has " + ", ".join(names()))
    runtime: type[Runtime] = importlib.import_module("." + name, __name__).Runtime
    return runtime


def probe(
    wanted: list[str] | None = None, options: dict[str, dict[str, Any]] | None = None
) -> dict[str, dict[str, str]]:
    """Import each runtime (or those `wanted`) and look for its device by its `options`.

    Gives by name {"version"}, or {"reason", "hint"} where it cannot be used.
    """
    return {name: _probe(name, (options or {}).get(name, {})) for name in wanted or names()}


def not_installed(runtime: type[Runtime], error: ImportError) -> AgentError:
    """The error of a runtime that cannot be imported on the target."""
    return AgentError(
        "%s cannot be imported on the target: %s" % (runtime.name(), error),
        hint="%s -m pip install %s" % (sys.executable, runtime.packages),
    )


def _probe(name: str, options: dict[str, Any]) -> dict[str, str]:
    try:
        runtime = find(name)
        try:
            version = runtime.version()
        except ImportError as error:
            raise not_installed(runtime, error) from error
        runtime.check_device(runtime.complete(options))
        return {"version": version}
    except Exception as error:
        return {"reason": str(error), "hint": getattr(error, "hint", "")}
