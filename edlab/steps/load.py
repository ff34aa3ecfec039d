"""Step 1: the model as a file, and the images that it is fed with."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edlab import data, models
from edlab.cache import Cache
from edlab.config import DatasetConfig, EdlabConfig
from edlab.data import PreparedData
from edlab.errors import DataUnavailableError
from edlab.source import SourceModel

if TYPE_CHECKING:
    import torch

OnProgress = Callable[[str, float | None, str], None]  # (phase, fraction 0..1 or None where unknown, message)


@dataclass(frozen=True)
class Inputs:
    """The source model and its images. Where the data set is missing, synthetic images stand in and say so."""

    source: SourceModel
    data: PreparedData
    data_problem: DataUnavailableError | None = None  # why the images are not those of the data set asked for

    @property
    def real(self) -> bool:
        """Whether the images are photographs or the like, not noise."""
        return self.data_problem is None and self.data.kind != "synthetic"


def load(
    config: EdlabConfig, cache: Cache, folder: Path, on_progress: OnProgress, module: torch.nn.Module | None = None
) -> Inputs:
    """Load the model (or take the live `module`) and prepare the data set for its input.

    Where no data set was given, or it cannot be fetched, synthetic images stand in. Raises `ModelError`, and
    `DataError` for a data set that is there and wrong.
    """
    on_progress("load model", None, config.model.name)
    source = models.load(config.model, cache, module=module, log=folder / "load.log")
    on_progress("preprocessing", None, source.describe_inputs())
    if not source.trained:
        on_progress("weights", None, source.weights_note)
    on_progress("prepare data", None, config.dataset.name)

    def prepare(dataset: DatasetConfig) -> PreparedData:
        return data.prepare(
            dataset,
            source.preprocessing,
            cache,
            num_classes=source.num_classes - source.label_offset,
            class_names=source.class_names[source.label_offset :],
            on_progress=lambda fraction: on_progress("prepare data", fraction, dataset.name),
        )

    try:
        return Inputs(source, prepare(config.dataset))
    except DataUnavailableError as error:
        stand_in = dataclasses.replace(config.dataset, name="synthetic", kind="synthetic", path=None, labels=None)
        return Inputs(source, prepare(stand_in), data_problem=error)
