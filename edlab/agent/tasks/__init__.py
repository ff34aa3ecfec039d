"""The tasks of this agent: one module each, with `class Task(base.Task)`."""

from __future__ import annotations

from .. import plugins
from .base import Task

__all__ = ["Task", "find"]


def find(name: str) -> type[Task]:
    """The task of this name. Raises `AgentError` if the agent does not have it."""
    return plugins.load(__name__, __path__, "agent_tasks", name, Task)  # type: ignore[type-abstract]
