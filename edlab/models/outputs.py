"""Which outputs of a model are read, and what they state: by the model's task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edlab import tasks
from edlab.config import ModelConfig
from edlab.tasks import OutputFacts, Outputs, Size, Task

Shapes = Sequence[Sequence[int | None]]


@dataclass(frozen=True)
class ChosenOutputs:
    """The outputs of a model that its task reads: `positions` among all of `outputs`."""

    config: ModelConfig
    model: str  # its name, for errors
    task: Task
    outputs: Outputs
    positions: tuple[int, ...]

    @property
    def all(self) -> bool:
        """Whether all outputs are read."""
        return len(self.positions) == len(self.outputs)

    @property
    def names(self) -> tuple[str, ...]:
        """The shapes of the chosen outputs."""
        return tuple(self.outputs[position][0] for position in self.positions)

    def read(self, size: Size, stated: Mapping[str, Any] | None = None, shapes: Shapes | None = None) -> ReadOutputs:
        """What they state; `stated` is what the source states about them. Raises `ModelError`.

        `shapes` are those of the chosen outputs, if they are known better than when they were chosen.
        """
        shapes = shapes or [self.outputs[position][1] for position in self.positions]
        pairs = list(zip(self.names, shapes, strict=True))
        facts = self.task.read_outputs(self.config, self.model, pairs, size, stated or {})
        return ReadOutputs(self.task.name, self.names, tuple(name for name, _ in self.outputs), facts)


@dataclass(frozen=True)
class ReadOutputs:
    """The outputs that are read, all outputs, and what the task knows about those that are read."""

    task: str
    names: tuple[str, ...]
    all_names: tuple[str, ...]
    facts: OutputFacts


def choose_outputs(config: ModelConfig, model: str, outputs: Outputs, size: Size) -> ChosenOutputs:
    """The outputs that are read; shapes may have None. Raises `ModelError` if they fit no task, or not the one set."""
    task = tasks.of_outputs(config, outputs, size)
    positions = task.choose_outputs(config, model, outputs, size)
    return ChosenOutputs(config, model, task, outputs, positions)


def shapes_of(tensors: Sequence[tuple[str, Any]]) -> Outputs:
    """Named tensors of torch or Keras as names and shapes."""
    return [(name, list(tensor.shape)) for name, tensor in tensors]
