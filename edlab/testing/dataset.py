"""The requirements of every kind of data set, as tests that a third party's test class inherits.

class TestAcmeArchive(DatasetConformance):
    dataset = "acme_archive"  # the name of its entry point in edlab.datasets
    classes = 3

    def config(self, folder):
        ...  # write about ten images, two or more of each class
        return DatasetConfig(name="acme", kind=self.dataset, path=str(folder / "images.acme"))

    def change(self, config):
        ...  # replace one image by another picture
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from edlab import data
from edlab.cache import Cache
from edlab.config import DatasetConfig
from edlab.data import Catalogue, PreparedData, Wanted
from edlab.errors import DataError
from edlab.source import ArrayInput, Preprocessing
from edlab.tasks.detection.annotations import Annotations

Prepare = Callable[..., PreparedData]


class DatasetConformance:
    """Subclass with `dataset`, `classes`, `config`, and `change` if there are files that can change."""

    dataset: ClassVar[str]
    classes: ClassVar[int]  # of the model for which it is prepared
    class_names: ClassVar[tuple[str, ...]] = ()  # that the model itself names
    input: ClassVar[Preprocessing | ArrayInput] = Preprocessing(height=16, width=24, mean=(0,) * 3, std=(1,) * 3)

    def config(self, folder: Path) -> DatasetConfig:
        """A small data set of this kind; create its files, if it has any, in `folder`."""
        raise TypeError(f"{type(self).__name__} must define config")

    def change(self, config: DatasetConfig) -> None:
        """Replace one image of the data set by another picture."""
        pytest.skip("change is not overridden")

    @pytest.fixture
    def configured(self, tmp_path: Path) -> DatasetConfig:
        folder = tmp_path / "data"
        folder.mkdir()
        return self.config(folder)

    @pytest.fixture
    def prepare(self, configured: DatasetConfig, tmp_path: Path) -> Prepare:
        """`prepare(classes=..., cache=..., on_progress=..., KEY=...)`; the keys are the configuration's."""

        def run(
            classes: int = self.classes,
            cache: str = "cache",
            on_progress: Callable[[float], None] | None = None,
            **keys: Any,
        ) -> PreparedData:
            return data.prepare(
                dataclasses.replace(configured, **keys),
                self.input,
                Cache(tmp_path / cache),
                num_classes=classes,
                class_names=self.class_names,
                on_progress=on_progress,
            )

        return run

    @pytest.fixture
    def catalogue(self, configured: DatasetConfig, tmp_path: Path) -> Catalogue:
        kind = data.DATASETS.load(self.dataset)(configured)
        if isinstance(self.input, ArrayInput):
            return kind.arrays(self.input)
        cache = Cache(tmp_path / "cache")
        return kind.images(Wanted(self.classes, self.class_names, cache, lambda fraction: None))

    def test_each_image_has_a_name_and_an_identity(self, catalogue: Catalogue) -> None:
        assert catalogue.names
        assert len(set(catalogue.names)) == len(catalogue.names)
        identities = [json.dumps(identity, sort_keys=True) for identity in catalogue.identity]
        assert len(set(identities)) == len(catalogue.names)
        json.dumps(catalogue.origin)

    def test_images_are_decoded_alike_each_time(self, catalogue: Catalogue) -> None:
        if catalogue.open_image is None:
            assert catalogue.arrays is not None
            assert len(catalogue.arrays) == len(catalogue.names)
            return
        first, again = (np.asarray(catalogue.open_image(0).image) for _ in range(2))
        assert first.dtype == np.uint8
        assert first.shape[2:] == (3,)
        np.testing.assert_array_equal(first, again)

    def test_rows_are_inputs_of_the_model(self, prepare: Prepare) -> None:
        prepared = prepare()
        rows: NDArray[Any] = np.load(prepared.images, mmap_mode="r")
        assert len(rows) == len(prepared.files) > 0
        if isinstance(self.input, ArrayInput):
            assert rows.shape[1:] == self.input.shape
        else:
            assert rows.dtype == np.uint8
            assert rows.shape[1:] == (self.input.height, self.input.width, self.input.channel_count)
        assert len(np.unique(rows.reshape(len(rows), -1), axis=0)) > 1

    def test_labels_are_of_its_task_and_classes_of_the_model(self, prepare: Prepare) -> None:
        prepared, task = prepare(), data.task_of(self.dataset)
        labels = prepared.labels
        if task is None:
            assert labels is None
            return
        assert labels is not None
        assert len(labels) == len(prepared.files)
        if isinstance(labels, Annotations):
            assert task == "detection"
            classes = np.concatenate([image.classes for image in labels.images])
            assert len(labels.class_names) <= self.classes
        else:
            classes = labels
            assert labels.dtype == np.int64
        assert ((classes >= 0) & (classes < self.classes)).all()
        assert len(set(classes.tolist())) > 1

    def test_images_that_are_scored_do_not_calibrate(self, prepare: Prepare) -> None:
        fraction = "calibration_fraction" in data.DATASETS.load(self.dataset).options
        prepared = prepare(calibration_fraction=0.4) if fraction else prepare()
        scored, pool = set(prepared.evaluation.tolist()), set(prepared.calibration_pool.tolist())
        assert scored
        assert pool
        assert not scored & pool
        assert scored | pool <= set(range(len(prepared.files)))

    def test_the_seed_decides_and_nothing_else(self, prepare: Prepare) -> None:
        first, again, other = prepare(), prepare(cache="another"), prepare(seed=5)
        assert again.digest == first.digest
        assert [again.files[row] for row in again.evaluation] == [first.files[row] for row in first.evaluation]
        assert [other.files[row] for row in other.evaluation] != [first.files[row] for row in first.evaluation]

    def test_fewer_images_are_the_first_of_all(self, prepare: Prepare) -> None:
        if data.task_of(self.dataset) is None:
            pytest.skip("no metric depends on which they are")
        every, two = prepare(), prepare(images=2)
        assert [two.files[row] for row in two.evaluation] == [every.files[row] for row in every.evaluation[:2]]

    def test_the_second_time_nothing_is_decoded(self, prepare: Prepare) -> None:
        first = prepare()
        again = prepare(on_progress=lambda fraction: pytest.fail("it must be decoded again"))
        assert again.images == first.images

    def test_a_picture_that_changed_is_not_taken_from_the_cache(
        self, configured: DatasetConfig, prepare: Prepare
    ) -> None:
        before = prepare().digest
        self.change(configured)
        assert prepare().digest != before

    def test_a_path_that_is_missing_is_an_error_with_a_hint(self, configured: DatasetConfig, prepare: Prepare) -> None:
        if configured.path is None:
            pytest.skip("this data set has no path")
        with pytest.raises(DataError, match="no_such_place") as caught:
            prepare(path=str(Path(configured.path).with_name("no_such_place")))
        assert caught.value.hint

    def test_a_model_of_other_classes_is_refused(self, prepare: Prepare) -> None:
        if data.task_of(self.dataset) is None:
            pytest.skip("it has no labels")
        if isinstance(self.input, ArrayInput):
            pytest.skip("arrays do not state the number of classes")
        with pytest.raises(DataError) as caught:
            prepare(classes=self.classes + 7)
        assert caught.value.hint
