"""The runtimes of this agent: one module each, with `class Runtime(base.Runtime)`."""

from __future__ import annotations

from typing import Any

from .. import plugins
from ..errors import AgentError
from ..messages import Availability
from .base import Runtime


def names() -> list[str]:
    """The runtimes that were sent with this agent, installed on the target or not."""
    return plugins.names(__path__, "runtimes")


def find(name: str) -> type[Runtime]:
    """The runtime of this name, imported. Raises `AgentError` if the agent or the target does not have it."""
    kind: type[Runtime] = plugins.find(__name__, __path__, "runtimes", name, Runtime)
    return kind


def available(wanted: list[str] | None, options: dict[str, dict[str, Any]]) -> dict[str, Availability]:
    """Import each runtime (or those `wanted`), and find its device by its `options`."""
    return {name: _availability(name, options.get(name, {})) for name in wanted or names()}


def _availability(name: str, options: dict[str, Any]) -> Availability:
    try:
        runtime = find(name)
        runtime.check_device(runtime.complete(options))
        return Availability(version=runtime.version())
    except AgentError as error:
        return Availability(reason=str(error), hint=error.hint)
    except Exception as error:
        return Availability(reason="%s: %s" % (type(error).__name__, error))
