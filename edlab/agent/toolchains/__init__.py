"""The toolchains of this agent: one module each, with `class Toolchain(base.Toolchain)`."""

from __future__ import annotations

from .. import plugins
from .base import Toolchain


def find(name: str) -> type[Toolchain]:
    """The toolchain of this name, imported. Raises `AgentError` if the agent or the target does not have it."""
    kind: type[Toolchain] = plugins.find(__name__, __path__, "toolchains", name, Toolchain)
    return kind
