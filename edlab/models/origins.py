"""The sources of models. A package adds a source with the entry point group `edlab.model_origins`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from edlab.config import ModelConfig, ModelOrigin
from edlab.models import builtin, factories, keras_models, timm_models, torchvision_models
from edlab.models.files import ModelFile, inputs_of, load_file
from edlab.models.network import Network
from edlab.registry import Group


class Origin(ABC):
    """Builds the models of one source, each in a separate process."""

    libraries: ClassVar[tuple[str, ...]] = ("torch",)  # packages whose versions may change the file that it builds
    cached: ClassVar[bool] = True  # False: it is unknown what determines the model, for example the code of a factory

    def files(self, config: ModelConfig) -> list[Path]:
        """The files that are read to build it, besides `model.weights`: other content is another model.

        Raises `ModelError` if one is missing.
        """
        return []

    @abstractmethod
    def build(self, config: ModelConfig, folder: Path) -> Network | ModelFile:
        """A live network, or what `edlab.models.files.load_file` reads from a file in `folder`.

        Raises `ModelError` for an unknown model, or weights that cannot be loaded.
        """


class Builtin(Origin):
    def files(self, config: ModelConfig) -> list[Path]:
        found = builtin.MODELS.get(config.arch or "")
        return [builtin.WEIGHTS / found.file] if found else []

    def build(self, config: ModelConfig, folder: Path) -> Network:
        return builtin.build(config)


class Timm(Origin):
    libraries = ("torch", "timm")

    def build(self, config: ModelConfig, folder: Path) -> Network:
        return timm_models.build(config)


class Torchvision(Origin):
    libraries = ("torch", "torchvision")

    def build(self, config: ModelConfig, folder: Path) -> Network:
        return torchvision_models.build(config)


class Keras(Origin):
    libraries = ("keras", "tensorflow")

    def build(self, config: ModelConfig, folder: Path) -> Network:
        return keras_models.build(config)


class File(Origin):
    libraries = ("onnx", "torch", "keras", "ai-edge-litert")

    def files(self, config: ModelConfig) -> list[Path]:
        return inputs_of(config)

    def build(self, config: ModelConfig, folder: Path) -> ModelFile:
        return load_file(config, folder)


class Python(Origin):
    cached = False

    def build(self, config: ModelConfig, folder: Path) -> Network:
        return factories.build(config)


ORIGINS = Group(
    "model_origins",
    Origin,  # type: ignore[type-abstract]
    {name.value: f"{__name__}:{name.value.capitalize()}" for name in ModelOrigin},
)
