"""Facts about an agent's runtimes, read on this machine without an agent."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from edlab.agent import runtimes
from edlab.agent.errors import AgentError
from edlab.agent.runtimes.base import Runtime
from edlab.devices import agent_zip
from edlab.errors import ConfigError, UnsupportedError
from edlab.registry import load_target, plugins


def load(name: str) -> type[Runtime]:
    """The class of a runtime, without importing its library. Raises `ConfigError`."""
    return _load(name, module(name))


def module(name: str) -> str:
    """The module that the agent imports for a runtime."""
    return _modules().get(name, f"{runtimes.__name__}.{name}")


def ensure_found(name: str) -> None:
    """Raise `ConfigError` if a package adds this runtime, but its module is not found: then no agent has it."""
    if error := agent_zip.lost().get(f"runtime '{name}'"):
        raise error


def on_processors() -> dict[str, str]:
    """By artifact format, the runtime that opens it on any processor. If there are several, a built-in one."""
    found: dict[str, str] = {}
    for name, module in _modules().items():
        with suppress(ConfigError):  # a package that cannot be imported affects only its users
            for file_format in _load(name, module).formats:
                found.setdefault(file_format, name)
    return found


def check_profiler(name: str, options: Mapping[str, Any]) -> None:
    """Raise `UnsupportedError` if this runtime cannot time the layers of a model with these options."""
    kind = load(name)
    try:
        kind.check_profiler(kind.complete(dict(options)))
    except AgentError as error:
        able = f"runtimes with a profiler: {', '.join(_with_profiler())}"
        hint = "; ".join(filter(None, [error.hint, able]))
        raise UnsupportedError(f"profile not available: {error}", hint=hint) from error


def _with_profiler() -> list[str]:
    """The runtimes that can time the layers of a model with their default options."""
    found = []
    for name, module in _modules().items():
        with suppress(ConfigError, AgentError):
            kind = _load(name, module)
            kind.check_profiler(kind.complete({}))
            found.append(name)
    return found


def _modules() -> dict[str, str]:
    """The module of each runtime by name, the built-in ones first."""
    built_in = {name: f"{runtimes.__name__}.{name}" for name in runtimes.names()}
    return {**built_in, **{name: entry.value for name, entry in plugins("runtimes").items()}}


def _load(name: str, module: str) -> type[Runtime]:
    kind = load_target(f"{module}:Runtime")
    if not (isinstance(kind, type) and issubclass(kind, Runtime)):
        raise ConfigError(
            f"{module}:Runtime is not a runtime", hint=f"derive the class from {Runtime.__module__}.{Runtime.__name__}"
        )
    kind.name = name
    return kind
