"""Facts about an agent's runtimes, read on this machine without an agent."""

from __future__ import annotations

from contextlib import suppress

from edlab.agent import runtimes
from edlab.agent.runtimes.base import Runtime
from edlab.devices import agent_zip
from edlab.errors import ConfigError
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
