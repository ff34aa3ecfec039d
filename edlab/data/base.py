"""The base class of data sets. A package adds a kind with the entry point group `edlab.datasets`."""

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
    """The model for which images are listed: it has `num_classes` classes, its background not counted.

    `num_classes` is None if a detector's file does not state it; `class_names` are those that the model itself names,
    in order. Downloads go into `cache`; `on_progress` receives the fraction done.
    """

    num_classes: int | None
    class_names: Sequence[str]
    cache: Cache
    on_progress: Callable[[float], None]

    @property
    def classes(self) -> int:
        """Their number. Raises `DataError` if it is unknown."""
        if self.num_classes is None:
            raise DataError("the number of classes of the model is missing", hint="set model.num_classes=NUMBER")
        return self.num_classes


class Dataset:
    """Lists the contents of a data set; nothing is decoded yet. A kind overrides one of the two methods, or both."""

    task: ClassVar[str | None] = "classification"  # what its labels are for; None: no labels
    # Fields of `DatasetConfig` that it reads in addition to OPTIONS_OF_ALL; other fields are refused if they are set.
    options: ClassVar[tuple[str, ...]] = ("path", "exif_orientation", "calibration_fraction", "calibration_path")

    needs_path: ClassVar[bool] = False  # nothing can be listed without `dataset.path`

    def __init__(self, config: DatasetConfig) -> None:
        self.config = config

    @classmethod
    def has_images(cls) -> bool:
        """False for a kind that has only arrays."""
        return cls.images is not Dataset.images

    def images(self, wanted: Wanted) -> Catalogue:
        """Images with their labels. Raises `DataError` for a data set that is missing or invalid."""
        raise DataError(
            f"{self.config.name} contains arrays, and the model needs images",
            hint="set model.input=array to feed it arrays",
        )

    def arrays(self, wanted: ArrayInput) -> Catalogue:
        """Inputs other than images, for a model that needs them."""
        raise DataError(
            f"{self.config.name} contains images, and the model needs arrays of {wanted.shape}",
            hint="set dataset=arrays dataset.path=FILE.npz, or remove model.input=array",
        )
