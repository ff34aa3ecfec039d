"""What a kind of data set is. A package adds one by the entry point group `edlab.datasets`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from edlab.cache import Cache
from edlab.config import DatasetConfig
from edlab.data.catalogue import Catalogue
from edlab.errors import DataError
from edlab.source import ArrayInput

OPTIONS_OF_ALL = ("name", "kind", "images", "seed")  # of `DatasetConfig`


@dataclass(frozen=True)
class Wanted:
    """What a list of images is for: a model of `num_classes` classes, its background not counted.

    `num_classes` is None where a detector's file does not say it; `class_names` are those that the model itself names,
    in order. What is downloaded goes into `cache`; `on_progress` is told the fraction done.
    """

    num_classes: int | None
    class_names: Sequence[str]
    cache: Cache
    on_progress: Callable[[float], None]

    @property
    def classes(self) -> int:
        """Their number. Raises `DataError` where it is not known."""
        if self.num_classes is None:
            raise DataError("how many classes the model has is not known", hint="set model.num_classes=NUMBER")
        return self.num_classes


class Dataset:
    """Lists what a data set holds; nothing is decoded yet. A kind overrides one of the two methods, or both."""

    task: ClassVar[str | None] = "classification"  # what its labels are for; None: it has none
    # Fields of `DatasetConfig` that it reads in addition to OPTIONS_OF_ALL; any other that is set is refused.
    options: ClassVar[tuple[str, ...]] = ("path", "exif_orientation", "calibration_fraction", "calibration_path")

    def __init__(self, config: DatasetConfig) -> None:
        self.config = config

    @classmethod
    def has_images(cls) -> bool:
        """False for a kind that holds arrays alone."""
        return cls.images is not Dataset.images

    def images(self, wanted: Wanted) -> Catalogue:
        """Images with their labels. Raises `DataError` for a data set that is not there, or wrong."""
        raise DataError(
            f"{self.config.name} holds arrays, and the model takes images",
            hint="set model.input=array to feed it with them",
        )

    def arrays(self, wanted: ArrayInput) -> Catalogue:
        """Inputs other than images, for a model that takes such."""
        raise DataError(
            f"{self.config.name} holds images, and the model takes arrays of {wanted.shape}",
            hint="set dataset=arrays dataset.path=FILE.npz, or leave model.input=array out",
        )
