"""Built-in sources of models pass the suite that third parties subclass; sources that break a rule do not."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path

import pytest
from conformance import Part
from file_makers import CLASSES, make_onnx

from edlab.composition import compose_config
from edlab.config import ModelConfig, PreprocessingConfig
from edlab.errors import ConfigError
from edlab.testing.model_origin import ModelOriginConformance

SIZE = PreprocessingConfig(height=32, width=32)


def tiny() -> object:
    """A factory for `model.target`."""
    from torch import nn

    return nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))


class TestBuiltin(ModelOriginConformance):
    origin = "builtin"
    classes = 10

    def config(self, folder: Path) -> ModelConfig:
        return ModelConfig(origin=self.origin, arch="digits_cnn")


@pytest.mark.slow
class TestTimm(ModelOriginConformance):
    origin = "timm"
    classes = 10

    def config(self, folder: Path) -> ModelConfig:
        arguments = {"num_classes": 10}
        return ModelConfig(
            origin=self.origin, arch="mobilenetv3_small_050", arguments=arguments, weights="random", preprocessing=SIZE
        )


@pytest.mark.slow
class TestTorchvision(ModelOriginConformance):
    origin = "torchvision"
    classes = 10

    def config(self, folder: Path) -> ModelConfig:
        arguments = {"num_classes": 10}
        return ModelConfig(
            origin=self.origin, arch="squeezenet1_1", arguments=arguments, weights="random", preprocessing=SIZE
        )


class TestFile(ModelOriginConformance):
    origin = "file"
    classes = CLASSES

    def config(self, folder: Path) -> ModelConfig:
        return ModelConfig(origin=self.origin, path=str(make_onnx(folder / "net.onnx")))

    def unknown(self, config: ModelConfig) -> ModelConfig:
        return dataclasses.replace(config, path="no_such_model.onnx")


@pytest.mark.slow
class TestPython(ModelOriginConformance):
    origin = "python"
    classes = 5

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _importable(cls) -> object:
        """The factory is imported in a separate process."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=":")
            yield

    def config(self, folder: Path) -> ModelConfig:
        return ModelConfig(origin=self.origin, target=f"{__name__}:tiny", preprocessing=SIZE)

    def unknown(self, config: ModelConfig) -> ModelConfig:
        return dataclasses.replace(config, target=f"{__name__}:no_such_model")


@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="TensorFlow is not installed")
@pytest.mark.slow
class TestKeras(ModelOriginConformance):
    origin = "keras"
    classes = 10

    def config(self, folder: Path) -> ModelConfig:
        arguments = {"input_shape": [32, 32, 3], "classes": 10, "alpha": 0.35}
        return ModelConfig(
            origin=self.origin, arch="MobileNetV2", arguments=arguments, weights="random", preprocessing=SIZE
        )


HUB = Part(
    name="acme_hub",
    source="""
from edlab.errors import ModelError
from edlab.models import Network, Origin, Weights
from edlab.models.weights import choose, load_state_dict, seed_torch
from edlab.source import Preprocessing


class Hub(Origin):
    cached = True

    def build(self, config, folder):
        from torch import nn

        if config.arch != "acme_tiny":
            raise ModelError(f"Acme's hub has no model '{config.arch}'", hint="set model.arch=acme_tiny")

        def untrained():
            seed_torch()
            body = [nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)]
            return nn.Sequential(*body)

        own = Preprocessing(height=16, width=16, mean=(0.5,) * 3, std=(0.5,) * 3)
        weights = choose(config, pretrained=untrained, untrained=untrained, load_file=load_state_dict)
        return Network(weights, own)
""",
    entries=("edlab.model_origins: acme_hub = acme_hub:Hub",),
    suite="""
from edlab.config import ModelConfig
from edlab.testing.model_origin import ModelOriginConformance


@pytest.mark.slow
class TestHub(ModelOriginConformance):
    origin = "acme_hub"
    classes = 10

    def config(self, folder):
        return ModelConfig(origin=self.origin, arch="acme_tiny")
""",
)

# What of the hub above is replaced, by what, and the test of the suite that must see it.
BROKEN = [
    ("nn.Linear(8, 10)]", "nn.Linear(8, 9)]", "test_it_gives_a_file_and_says_what_must_be_known"),
    ("nn.ReLU(), ", "nn.ReLU(), nn.Threshold(1e9, 0.0), ", "test_the_file_runs_and_tells_images_apart"),
    ("            seed_torch()\n", "", "test_the_same_configuration_gives_the_same_model"),
    (
        "    cached = True\n",
        "    def files(self, config):\n"
        "        import pathlib, tempfile\n"
        "        path = pathlib.Path(tempfile.mkdtemp(), 'now')\n"
        "        path.write_text(str(path))\n"
        "        return [path]\n",
        "test_the_second_time_nothing_is_built",
    ),
    (', hint="set model.arch=acme_tiny"', "", "test_a_model_that_there_is_not_is_named_with_a_hint"),
    (
        "load_file=load_state_dict",
        "load_file=lambda network, path: None",
        "test_weights_that_cannot_be_loaded_are_never_ignored[unreadable]",
    ),
]


@pytest.mark.slow
def test_the_suite_fails_sources_that_break_a_rule(tmp_path: Path) -> None:
    HUB.check_suite(tmp_path, BROKEN)


def test_an_unknown_source_is_refused_with_near_names() -> None:
    with pytest.raises(ConfigError, match=r"unknown model\.origin 'tim'") as caught:
        compose_config(["model=timm", "model.origin=tim", "model.arch=resnet18"])
    assert "did you mean 'timm'" in caught.value.hint
