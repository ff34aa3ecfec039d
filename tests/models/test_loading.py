"""Any model becomes one file with everything that is needed to use it, and is cached by its content."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import edlab
from edlab.agent.preprocess import normalise
from edlab.cache import Cache, sha256_files
from edlab.composition import compose_config
from edlab.config import DatasetConfig, ModelConfig, ModelOrigin, PreprocessingConfig
from edlab.data import prepare
from edlab.errors import ConfigError, ModelError
from edlab.models import load, registered
from edlab.source import SourceModel

SIZE = PreprocessingConfig(height=16, width=16)


def net(classes: int = 5) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.Dropout(0.9), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes)
    )


def logits(source: SourceModel, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        program = torch.export.load(source.path).module()
        return torch.cat([program(image[None]) for image in images])


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "load.log"


@pytest.fixture(scope="module")
def digits_cnn(tmp_path_factory: pytest.TempPathFactory) -> tuple[SourceModel, Cache]:
    folder = tmp_path_factory.mktemp("digits")
    cache = Cache(folder / "cache")
    return load(compose_config(["model=digits_cnn"]).model, cache, log=folder / "load.log"), cache


def test_the_embedded_model_is_right_on_97_of_100_digits(digits_cnn: tuple[SourceModel, Cache]) -> None:
    source, cache = digits_cnn
    wanted = DatasetConfig(name="digits", kind="digits")
    data = prepare(wanted, source.preprocessing, cache, num_classes=source.num_classes)
    images = normalise(
        np.load(data.images)[data.evaluation], source.preprocessing.mean, source.preprocessing.std, "NCHW"
    )
    assert data.labels is not None
    correct = logits(source, torch.from_numpy(images)).argmax(1).numpy() == data.labels[data.evaluation]
    assert correct.mean() >= 0.975


def test_a_source_model_describes_its_file(digits_cnn: tuple[SourceModel, Cache]) -> None:
    source, _ = digits_cnn
    assert (source.format, source.layout, source.num_classes) == ("pt2", "NCHW", 10)
    assert source.sha256 == sha256_files([source.path])
    assert source.weights == "pretrained"
    assert source.trained
    assert source.complexity is not None
    assert source.complexity.parameters * 4 < 1e6
    assert source.license == "Apache-2.0"


def test_a_model_found_again_needs_no_framework(digits_cnn: tuple[SourceModel, Cache], tmp_path: Path) -> None:
    source, cache = digits_cnn
    program = f"""
        import sys
        from pathlib import Path
        from edlab.cache import Cache
        from edlab.composition import compose_config
        from edlab.models import load
        cache = Cache(Path({str(cache.root)!r}))
        source = load(compose_config(["model=digits_cnn"]).model, cache, log=Path("load.log"))
        assert not {{"torch", "tensorflow", "onnx", "keras"}} & set(sys.modules), "a framework was imported"
        print(source.sha256)
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert result.stdout.strip() == source.sha256, result.stderr
    assert not (tmp_path / "load.log").exists()  # nothing was built


def test_a_live_module_is_exported_as_it_is(cache: Cache, log: Path) -> None:
    module = net().train()
    config = ModelConfig(name="mine", origin=ModelOrigin.python, preprocessing=SIZE)
    source = load(config, cache, module=module, log=log)
    assert module.training  # the caller's own is left alone
    images = torch.rand(3, 3, 16, 16)
    torch.testing.assert_close(logits(source, images), net().eval()(images))
    assert (source.name, source.num_classes, source.weights) == ("mine", 5, "given")
    assert {"mean", "std", "resize_mode"} <= set(source.assumed)
    assert load(config, cache, module=module, log=log).sha256 == source.sha256
    assert load(config, cache, module=net(classes=6), log=log).sha256 != source.sha256


@pytest.mark.parametrize(
    ("module", "size", "message"),
    [
        (net(), PreprocessingConfig(), "input size of mine is missing"),
        (nn.Conv2d(3, 3, 1), SIZE, r"not \(batch, classes\)"),
        (nn.Conv2d(4, 3, 1), SIZE, "does not accept an image of 16 x 16"),
        (nn.Sequential(nn.Flatten(), nn.GRU(768, 5)), SIZE, "mine has 2 outputs: 0 "),
    ],
)
def test_a_module_that_cannot_be_measured_is_refused(
    cache: Cache, log: Path, module: nn.Module, size: PreprocessingConfig, message: str
) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        load(ModelConfig(name="mine", origin=ModelOrigin.python, preprocessing=size), cache, module=module, log=log)
    assert caught.value.hint


def test_a_registered_factory_is_found_by_name(cache: Cache, log: Path) -> None:
    @edlab.register_model("own_net", height=16, width=20, resize=24, mean=(0.5,) * 3, claimed_top1=0.7, license="MIT")
    def own_net(classes: int = 4) -> nn.Module:
        return net(classes)

    assert "own_net" in registered()
    assert isinstance(own_net(), nn.Module)
    config = ModelConfig(name="own_net", origin=ModelOrigin.python, arguments={"classes": 3})
    source = load(config, cache, log=log)
    assert (source.num_classes, source.claimed_top1, source.license) == (3, 0.7, "MIT")
    assert source.preprocessing == edlab.Preprocessing(height=16, width=20, resize=24, mean=(0.5,) * 3)
    assert source.preprocessing_note == ""
    with pytest.raises(ModelError, match="no model is registered as 'other_net'"):
        load(ModelConfig(name="other_net", origin=ModelOrigin.python), cache, log=log)


class TestFactory:
    @pytest.fixture(autouse=True)
    def package(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        folder = tmp_path / "own_package"
        folder.mkdir()
        (folder / "__init__.py").touch()
        self.write(folder, classes=4)
        monkeypatch.syspath_prepend(str(tmp_path))
        return folder

    @staticmethod
    def write(folder: Path, classes: int) -> None:
        program = f"""
            import torch
            from torch import nn

            def build():
                torch.manual_seed(0)
                return nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, {classes}))

            def broken():
                raise RuntimeError("no such layer")

            def word():
                return "resnet"
        """
        (folder / "nets.py").write_text(textwrap.dedent(program))

    @staticmethod
    def config(factory: str, **keys: str) -> ModelConfig:
        target = f"own_package.nets:{factory}"
        return ModelConfig(origin=ModelOrigin.python, target=target, preprocessing=SIZE, **keys)  # type: ignore[arg-type]

    def test_it_is_called_anew_each_time_as_its_code_may_have_changed(
        self, package: Path, cache: Cache, log: Path
    ) -> None:
        first = load(self.config("build"), cache, log=log)
        assert (first.name, first.num_classes, first.weights) == ("build", 4, "given")
        assert load(self.config("build"), cache, log=log) == first
        self.write(package, classes=6)
        assert load(self.config("build"), cache, log=log).num_classes == 6

    def test_what_it_raises_is_told_with_the_log(self, cache: Cache, log: Path) -> None:
        with pytest.raises(ModelError, match="no such layer") as caught:
            load(self.config("broken"), cache, log=log)
        assert "in broken" in caught.value.log

    def test_what_is_no_network_is_refused(self, cache: Cache, log: Path) -> None:
        with pytest.raises(ModelError, match="returned a str"):
            load(self.config("word"), cache, log=log)

    def test_it_must_exist_and_decides_on_its_weights(self, cache: Cache, log: Path) -> None:
        with pytest.raises(ConfigError, match="has no 'nothing'"):
            load(self.config("nothing"), cache, log=log)
        with pytest.raises(ModelError, match="its factory chooses the weights"):
            load(self.config("build", weights="random"), cache, log=log)


def test_settings_and_weights_are_part_of_what_is_found_again(
    digits_cnn: tuple[SourceModel, Cache], tmp_path: Path, log: Path
) -> None:
    source, cache = digits_cnn
    weights = tmp_path / "own.pt"
    state = dict(torch.export.load(source.path).state_dict)
    torch.save(state | {"7.bias": state["7.bias"] + 1}, weights)
    words = ["model=digits_cnn", f"model.weights={weights}", "model.label_offset=1", "model.claimed_top1=0.9"]
    own = load(compose_config(words).model, cache, log=log)
    assert own.sha256 != source.sha256
    assert (own.weights, own.label_offset, own.claimed_top1) == ("file", 1, 0.9)
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(logits(own, images), logits(source, images) + 1)


def test_without_the_hub_weights_are_untrained_for_this_process_only(
    cache: Cache, log: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # where nothing listens
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    config = ModelConfig(origin=ModelOrigin.timm, arch="test_vit", weights="auto")
    searched: list[str] = []
    source = load(config, cache, log=log, on_search=searched.append)
    assert searched == ["http://127.0.0.1:9"]
    assert not source.trained
    assert "UNTRAINED" in source.weights_note
    assert load(config, cache, log=log, on_search=searched.append) == source
    assert len(searched) == 1
    with pytest.raises(ModelError, match="pretrained weights of test_vit are not available"):
        load(ModelConfig(origin=ModelOrigin.timm, arch="test_vit", weights="pretrained"), cache, log=log)
    assert "Retrying" not in log.read_text()


@pytest.mark.samples
def test_real_weights_score_the_sample_images(test_data: Path, cache: Cache, log: Path) -> None:
    config = compose_config(
        [
            "model=mobilenet_v2",
            f"model.weights={test_data / 'weights' / 'mobilenet_v2_torchvision.pt'}",
            "model.preprocessing.mean=[.5,.5,.5]",
            "model.preprocessing.std=[.5,.5,.5]",
            "dataset=image_folder",
            f"dataset.path={test_data / 'imagenet_samples'}",
            "dataset.images=100",
        ]
    )
    source = load(config.model, cache, log=log)
    data = prepare(config.dataset, source.preprocessing, cache, num_classes=source.num_classes)
    assert data.labels is not None
    images = normalise(
        np.load(data.images)[data.evaluation], source.preprocessing.mean, source.preprocessing.std, "NCHW"
    )
    correct = logits(source, torch.from_numpy(images)).argmax(1).numpy() == data.labels[data.evaluation]
    assert 0.65 <= correct.mean() <= 0.95
