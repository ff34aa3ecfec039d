"""The base class of tasks on the host. A task has one class here and one in `edlab.agent.tasks`, with the same name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edlab.config import ModelConfig
from edlab.errors import ModelError
from edlab.metrics import Figures
from edlab.source import Origin, Reason, SourceModel

Outputs = Sequence[tuple[str, Sequence[int | None]]]  # name and shape of each output of a model
Size = tuple[int, int] | None  # height and width of the input, None if they are free
Predictions = NDArray[np.float32]  # what the agent's task reads for each image: (images, ...)


@dataclass(frozen=True)
class OutputFacts:
    """What is known about a model's outputs.

    `num_classes`: the number of classes they distinguish; `label_offset`: how many of them are before the first one of
    a data set; both None if the model does not state it. `options` are those of the agent's task (which also receives
    the model's label_offset), `origins` state the source of those worth showing, `arrays` are options that are sent as
    npy files, `modules` are the modules of the user's own code that the agent's task imports.
    """

    num_classes: int | None
    options: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, Origin] = field(default_factory=dict)
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)
    modules: tuple[str, ...] = ()
    label_offset: int | None = None


class Comparison(ABC):
    """Predictions of a candidate against those of a reference, for the same images."""

    @abstractmethod
    def figures(self) -> Figures:
        """The metrics listed in `Task.agreement`."""


class Task(ABC):
    """What a model's outputs mean: how they are read, compared and scored. All methods are pure functions."""

    name: ClassVar[str]
    headline: ClassVar[str]  # the metric that `accuracy_drop` is the drop of
    scores: ClassVar[tuple[str, ...]]  # the metrics that are missing if nothing can be scored
    agreement: ClassVar[tuple[str, ...]]  # the metrics of a comparison, missing if there is nothing to compare with

    @abstractmethod
    def recognises(self, outputs: Outputs, size: Size) -> bool:
        """Whether outputs of these shapes can only be of this task."""

    @abstractmethod
    def choose_outputs(self, config: ModelConfig, name: str, outputs: Outputs, size: Size) -> tuple[int, ...]:
        """The positions of the outputs that are read. Raises `ModelError` if they cannot be of this task."""

    @abstractmethod
    def read_outputs(
        self, config: ModelConfig, name: str, outputs: Outputs, size: Size, stated: Mapping[str, Any]
    ) -> OutputFacts:
        """What the chosen outputs state; `stated` is what the model's source states about them.

        Raises `ModelError` if they cannot be of this task.
        """

    @abstractmethod
    def find_problem(self, reference: Predictions, candidate: Predictions) -> str:
        """What makes the candidate's predictions useless, to follow "the model outputs"; empty if nothing does."""

    @abstractmethod
    def compare(self, reference: Predictions, candidate: Predictions) -> Comparison:
        """The agreement of predictions in which `find_problem` finds nothing."""

    @abstractmethod
    def difference(self, host: Predictions, target: Predictions, precision: str) -> str:
        """How two runs of one file differ beyond rounding, to follow "outputs"; empty if they do not."""

    @abstractmethod
    def score(
        self, predictions: Predictions, labels: Any, source: SourceModel, baseline: Predictions | None = None
    ) -> Figures:
        """The metrics of accuracy, with `accuracy_drop` if there is a baseline. `labels` belong to these images."""

    @abstractmethod
    def drop(
        self, predictions: Predictions, baseline: Predictions, labels: Any, source: SourceModel, name: str = ""
    ) -> Figures:
        """The headline of the baseline minus that of the predictions, as `accuracy_drop` or `accuracy_drop_<name>`."""

    @abstractmethod
    def doubts(
        self, figures: Mapping[str, float], comparison: Comparison | None, source: SourceModel, precision: str, fix: str
    ) -> Iterator[Reason]:
        """What degrades a run: outputs unlike the source's, labels that do not fit. `fix` is the usual advice."""

    def right(self, predictions: Predictions, labels: Any, source: SourceModel) -> NDArray[np.bool_] | None:
        """For which images the prediction is right, (N,), to compare runs image by image; None: it is not yes or no."""
        return None

    def kept(self, predictions: Predictions) -> NDArray[Any]:
        """The part of its predictions that a run stores."""
        return predictions


def named_output(wanted: str, name: str, outputs: Outputs) -> int:
    """The position of the output that `model.output` names. Raises `ModelError`."""
    names = [output for output, _ in outputs]
    if names.count(wanted) != 1:
        raise ModelError(
            f"{name} has no output '{wanted}'" if outputs else f"{name} has no output",
            hint=f"set model.output to one of: {listing(outputs)}",
        )
    return names.index(wanted)


def listing(outputs: Outputs) -> str:
    """The outputs as text: "logits (1, 10), aux (1, 5)"."""
    return ", ".join(f"{name} ({', '.join('?' if n is None else str(n) for n in shape)})" for name, shape in outputs)
