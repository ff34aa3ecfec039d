"""Tasks on the host: how a model's outputs are read, compared and scored."""

from __future__ import annotations

from edlab.config import ModelConfig
from edlab.registry import Group
from edlab.tasks.base import Comparison, OutputFacts, Outputs, Predictions, Size, Task

__all__ = ["TASKS", "Comparison", "OutputFacts", "Outputs", "Predictions", "Size", "Task", "get", "of_outputs"]

TASKS = Group(
    "tasks",
    Task,  # type: ignore[type-abstract]
    {"classification": "edlab.tasks.classification:Task", "detection": "edlab.tasks.detection:Task"},
)


def get(name: str) -> Task:
    """The task of this name. Raises `ConfigError` if there is none."""
    return TASKS.load(name)()


def of_outputs(config: ModelConfig, outputs: Outputs, size: Size) -> Task:
    """The task of a model: the one that is set, else the only one that its outputs fit, else classification."""
    if config.task:
        return get(config.task)
    others = (get(name) for name in TASKS.names() if name != "classification")
    return next((task for task in others if task.recognises(outputs, size)), get("classification"))
