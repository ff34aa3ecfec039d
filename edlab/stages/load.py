"""Stage 1: the model as a file, and its input images."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edlab import data, models, tasks
from edlab.cache import Cache
from edlab.config import DatasetConfig, EdlabConfig, InputKind, ModelConfig
from edlab.data import PreparedData
from edlab.errors import DataUnavailableError, ModelError
from edlab.source import SourceModel
from edlab.tasks import Task

if TYPE_CHECKING:
    import torch

_DATASETS = {
    "classification": "dataset=image_folder dataset.path=FOLDER",
    "detection": "dataset=coco or dataset=yolo with dataset.path=FOLDER",
}

OnProgress = Callable[[str, float | None, str], None]  # (phase, fraction 0..1 or None if unknown, message)
OnWarning = Callable[[str], None]  # (message)


@dataclass(frozen=True)
class Inputs:
    """The source model and its images. If the data set is missing, synthetic images are used and marked as such."""

    source: SourceModel
    data: PreparedData
    data_problem: DataUnavailableError | None = None  # why the images are not from the requested data set

    @property
    def task(self) -> Task:
        """The task of the model."""
        return tasks.get(self.source.task)

    @property
    def real(self) -> bool:
        """Whether the images are real ones, such as photographs, not noise."""
        return self.data_problem is None and self.data.kind != "synthetic"


def _completed(config: EdlabConfig) -> ModelConfig:
    """The model's configuration with the task and the kind of input from the settings, or else from the data set."""
    task, kind = config.task or config.model.task, config.model.input
    if task is None and data.task_of(config.dataset.kind) != "classification":  # the default
        task = data.task_of(config.dataset.kind)
    if kind is None and not data.DATASETS.load(config.dataset.kind).has_images():
        kind = InputKind.array
    return dataclasses.replace(config.model, task=task, input=kind)


def _ensure_same_task(source: SourceModel, dataset: DatasetConfig) -> None:
    """Raise `ModelError` for a data set with labels of another task than the model."""
    if data.task_of(dataset.kind) not in (None, source.task):
        raise ModelError(
            f"{source.name} is a {source.task} model, and dataset={dataset.name} is for {data.task_of(dataset.kind)}",
            hint=f"set {_DATASETS.get(source.task, f'dataset to one for {source.task}')}, or dataset=synthetic to "
            "measure speed alone; if edlab misread the outputs, set task=...",
        )


def load(
    config: EdlabConfig, cache: Cache, folder: Path, on_progress: OnProgress, module: torch.nn.Module | None = None
) -> Inputs:
    """Load the model (or take the live `module`) and prepare the data set for its input.

    If no data set is given, or it cannot be downloaded, synthetic images are used. Raises `ModelError`, and `DataError`
    for an invalid data set.
    """
    on_progress("load model", None, config.model.name)

    def on_search(place: str) -> None:
        name = config.model.arch or config.model.name
        on_progress("weights", None, f"looking for {name} in the local cache and on {place}")

    source = models.load(_completed(config), cache, module=module, log=folder / "load.log", on_search=on_search)
    _ensure_same_task(source, config.dataset)
    on_progress("preprocessing", None, source.describe_inputs())
    if not source.trained:
        on_progress("weights", None, source.weights_note)
    on_progress("prepare data", None, config.dataset.name)

    def prepare(dataset: DatasetConfig) -> PreparedData:
        return data.prepare(
            dataset,
            source.preprocessing,
            cache,
            num_classes=source.classes,
            class_names=source.class_names[source.label_offset :],
            on_progress=lambda fraction: on_progress("prepare data", fraction, dataset.name),
        )

    try:
        inputs = Inputs(source, prepare(config.dataset))
        if inputs.data.label_map:
            on_progress("label map", None, inputs.data.label_map)
        return inputs
    except DataUnavailableError as error:
        stand_in = DatasetConfig("synthetic", "synthetic", images=config.dataset.images, seed=config.dataset.seed)
        return Inputs(source, prepare(stand_in), data_problem=error)
