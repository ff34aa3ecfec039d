"""The requirements of every source of models, as tests that a third party's test class inherits.

    class TestAcmeHub(ModelOriginConformance):
        origin = "acme_hub"  # the name of its entry point in edlab.model_origins
        classes = 10

        def config(self, folder):
            return ModelConfig(origin=self.origin, arch="acme_tiny", weights="random")

The suite builds the model several times, each in a separate process, and runs it on this machine.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from edlab import devices, models
from edlab.artifact import Artifact
from edlab.cache import Cache, sha256_files
from edlab.config import ModelConfig, PreprocessingConfig
from edlab.devices import Pool
from edlab.errors import EdlabError
from edlab.source import Preprocessing, SourceModel
from edlab.stages.reference import this_machine

_IMAGES = 4


class ModelOriginConformance:
    """Subclass with `origin`, `classes` and `config`; the model must accept images with 3 channels."""

    origin: ClassVar[str]
    classes: ClassVar[int]

    def config(self, folder: Path) -> ModelConfig:
        """A small model of this source, without a download; create its files, if it has any, in `folder`."""
        raise TypeError(f"{type(self).__name__} must define config")

    def unknown(self, config: ModelConfig) -> ModelConfig:
        """The configuration of a missing model, "no_such_model". Override it if `arch` does not name the model."""
        return dataclasses.replace(config, arch="no_such_model")

    # Class-scoped, so that all tests of a class share one build.

    @pytest.fixture(scope="class")
    @classmethod
    def folder(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return tmp_path_factory.mktemp("conformance")

    @pytest.fixture(scope="class")
    @classmethod
    def configured(cls, folder: Path) -> ModelConfig:
        return cls().config(folder)

    @pytest.fixture(scope="class")
    @classmethod
    def source(cls, configured: ModelConfig, folder: Path) -> SourceModel:
        return models.load(configured, Cache(folder / "cache"), log=folder / "load.log")

    def test_it_gives_a_file_and_says_what_must_be_known(self, source: SourceModel) -> None:
        assert source.path.is_file()
        assert source.sha256 == sha256_files([source.path])
        assert source.num_classes == self.classes
        assert source.task
        assert source.output
        assert isinstance(source.preprocessing, Preprocessing)
        assert source.preprocessing_origins.keys() == Preprocessing.model_fields.keys()
        assert source.weights_note

    def test_the_file_runs_and_tells_images_apart(self, source: SourceModel, folder: Path) -> None:
        outputs = self._run(source, folder / "first.npy")
        assert outputs.shape == (_IMAGES, self.classes)
        assert np.isfinite(outputs).all()
        assert len(np.unique(outputs, axis=0)) == _IMAGES

    def test_the_same_configuration_gives_the_same_model(
        self, configured: ModelConfig, source: SourceModel, folder: Path
    ) -> None:
        again = models.load(configured, Cache(folder / "another"), log=folder / "again.log")
        assert again.model_dump(exclude={"path", "sha256"}) == source.model_dump(exclude={"path", "sha256"})
        np.testing.assert_array_equal(self._run(again, folder / "again.npy"), self._run(source, folder / "first.npy"))

    def test_the_second_time_nothing_is_built(self, configured: ModelConfig, source: SourceModel, folder: Path) -> None:
        kind = models.ORIGINS.load(self.origin)
        if not kind.cached:
            pytest.skip("it is unknown what determines its models")
        log = folder / "second.log"
        assert models.load(configured, Cache(folder / "cache"), log=log) == source
        assert not log.exists()

    def test_what_is_given_stands_over_what_the_source_says(self, configured: ModelConfig, folder: Path) -> None:
        mean = [0.125, 0.25, 0.5]
        given = dataclasses.replace(
            configured,
            preprocessing=dataclasses.replace(configured.preprocessing or PreprocessingConfig(), mean=mean),
            label_offset=1,
            claimed_top1=0.75,
        )
        source = models.load(given, Cache(folder / "cache"), log=folder / "given.log")
        assert isinstance(source.preprocessing, Preprocessing)
        assert source.preprocessing.mean == tuple(mean)
        assert source.preprocessing_origins["mean"] == "given"
        assert (source.label_offset, source.label_offset_origin) == (1, "given")
        assert source.claimed_top1 == 0.75

    def test_a_model_that_there_is_not_is_named_with_a_hint(self, configured: ModelConfig, folder: Path) -> None:
        with pytest.raises(EdlabError, match="no_such_model") as caught:
            models.load(self.unknown(configured), Cache(folder / "cache"), log=folder / "unknown.log")
        assert caught.value.hint

    @pytest.mark.parametrize("content", [None, b"these are no weights"], ids=["missing", "unreadable"])
    def test_weights_that_cannot_be_loaded_are_never_ignored(
        self, content: bytes | None, configured: ModelConfig, folder: Path
    ) -> None:
        path = folder / ("no_such_weights.pt" if content is None else "bad_weights.pt")
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(EdlabError, match=path.stem) as caught:
            models.load(
                dataclasses.replace(configured, weights=str(path)), Cache(folder / "cache"), log=folder / "weights.log"
            )
        assert caught.value.hint

    def _run(self, source: SourceModel, out: Path) -> NDArray[np.float32]:
        """The outputs (N, classes) of some images of noise, each with a different colour."""
        assert isinstance(source.preprocessing, Preprocessing)
        generator = np.random.default_rng(0)
        shape = (_IMAGES, source.preprocessing.height, source.preprocessing.width, 3)
        colours = generator.integers(0, 200, (_IMAGES, 1, 1, 3))
        images = out.with_name("images.npy")
        np.save(images, (colours + generator.integers(0, 56, shape)).astype(np.uint8))
        device = this_machine()
        with devices.connect(device, Cache(out.parent / "cache"), source.reader.modules) as session:
            session.open(Artifact.of(source), source.preprocessing, device, source.task, source.reader)
            session.predict(Pool(str(images), list(range(_IMAGES))), out)
        outputs: NDArray[np.float32] = np.load(out)
        return outputs
