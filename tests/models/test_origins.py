"""timm, torchvision and Keras state their own preprocessing; Table I's models have its size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from edlab.composition import compose_config
from edlab.config import ModelConfig, ModelOrigin, PreprocessingConfig
from edlab.errors import ConfigError, ModelError
from edlab.models import keras_models, timm_models, torchvision_models
from edlab.models.complexity import count_keras, count_torch
from edlab.models.network import Network, override_preprocessing
from edlab.source import Preprocessing

# EDLAB, Table I: MACs, parameters, and how far ours may be. The MnasNet paper says 312 M multiply-adds of its A1
# network, as counted here; Table I's 0.32 G is 2.6 % more. Its 27.16 M parameters of Inception V3 include a head that
# only training uses; 3.33 M less are exported.
TABLE_I = {
    "inception_v3": (5.73e9, 23.83e6, 0.02),
    "mobilenet_v2": (0.30e9, 3.47e6, 0.02),
    "mnasnet": (0.32e9, 3.9e6, 0.03),
}


def build(name: str) -> tuple[ModelConfig, Network]:
    config = compose_config([f"model={name}", "model.weights=random"]).model
    origins: dict[ModelOrigin, Any] = {ModelOrigin.timm: timm_models, ModelOrigin.torchvision: torchvision_models}
    return config, origins[config.origin].build(config)


@pytest.mark.parametrize("name", TABLE_I)
def test_complexity_is_that_of_table_1(name: str) -> None:
    _, network = build(name)
    size = network.preprocessing.height
    complexity = count_torch(network.weights.network.eval(), torch.zeros(1, 3, size, size))
    macs, parameters, tolerance = TABLE_I[name]
    assert complexity.macs == pytest.approx(macs, rel=tolerance)
    assert complexity.parameters == pytest.approx(parameters, rel=0.02)
    assert complexity.flops == 2 * complexity.macs
    assert complexity.thop_macs == complexity.macs


def test_table_1_models_have_their_claims_and_preprocessing() -> None:
    expected = {"inception_v3": (0.780, 299, 342), "mobilenet_v2": (0.718, 224, 256), "mnasnet": (0.745, 224, 256)}
    for name, (claimed, size, resize) in expected.items():
        config, network = build(name)
        own = override_preprocessing(network.preprocessing, config.preprocessing)
        assert (config.claimed_top1, own.height, own.width, own.resize) == (claimed, size, size, resize)
        assert network.license in ("BSD-3-Clause", "apache-2.0")


def test_inception_takes_its_normalisation_from_outside() -> None:
    config, network = build("inception_v3")
    assert network.weights.network.transform_input is False
    assert override_preprocessing(network.preprocessing, config.preprocessing).mean == (0.5, 0.5, 0.5)


def test_torchvision_weights_bring_their_own_preprocessing() -> None:
    sizes = {}
    for tag in ("IMAGENET1K_V1", "IMAGENET1K_V2"):
        config = ModelConfig(origin=ModelOrigin.torchvision, arch=f"mobilenet_v2.{tag}", weights="random")
        sizes[tag] = torchvision_models.build(config).preprocessing.resize
    assert sizes == {"IMAGENET1K_V1": 256, "IMAGENET1K_V2": 232}


def test_timm_gives_the_size_crop_and_interpolation_of_the_weights() -> None:
    config = ModelConfig(origin=ModelOrigin.timm, arch="resnet18.a1_in1k", weights="random")
    assert timm_models.build(config).preprocessing == Preprocessing(
        height=224, width=224, resize=235, interpolation="bicubic",
        mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("origin", "build_", "arch", "hint"),
    [
        (ModelOrigin.timm, timm_models.build, "resnet81", "resnet18"),
        (ModelOrigin.torchvision, torchvision_models.build, "mobilenet_v4", "mobilenet_v2"),
        (ModelOrigin.torchvision, torchvision_models.build, "mobilenet_v2.V9", "IMAGENET1K_V1"),
        (ModelOrigin.torchvision, torchvision_models.build, "fcn_resnet50", "resnet50"),
        (ModelOrigin.keras, keras_models.build, "MobileNetV4", "MobileNetV2"),
    ],
)
def test_an_unknown_architecture_is_answered_with_the_nearest(
    origin: ModelOrigin, build_: Any, arch: str, hint: str
) -> None:
    if origin == ModelOrigin.keras:
        pytest.importorskip("tensorflow")
    with pytest.raises(ModelError) as caught:
        build_(ModelConfig(origin=origin, arch=arch, weights="random"))
    assert hint in caught.value.hint


class TestKeras:
    @pytest.fixture(autouse=True)
    def keras(self) -> Any:
        pytest.importorskip("tensorflow")
        return keras_models.require_keras()

    def test_preprocessing_is_read_back_from_the_code(self, keras: Any) -> None:
        apps = keras.applications
        image = np.random.default_rng(0).integers(0, 256, (1, 2, 2, 3)).astype(np.float32)
        for module in (apps.mobilenet_v2, apps.densenet, apps.efficientnet, apps.resnet50):
            mean, std, reversed_channels = keras_models.affine(module.preprocess_input)
            ours = (image / 255 - np.array(mean)) / np.array(std)
            theirs = np.asarray(module.preprocess_input(image.copy()))
            np.testing.assert_allclose(ours[..., ::-1] if reversed_channels else ours, theirs, rtol=1e-4, atol=1e-3)
        assert reversed_channels  # of ResNet50

    def test_a_network_for_bgr_takes_rgb_and_says_the_same(self, keras: Any) -> None:
        keras.utils.set_random_seed(0)
        layers = keras.layers
        network = keras.Sequential([layers.Input((8, 8, 3)), layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(3)])
        image = np.random.default_rng(0).random((2, 8, 8, 3), np.float32)
        before = np.asarray(network(image[..., ::-1]))
        keras_models.swap_input_channels(network)
        np.testing.assert_allclose(np.asarray(network(image)), before, rtol=1e-5, atol=1e-6)

    def test_complexity_counts_each_kind_of_layer(self, keras: Any) -> None:
        layers = keras.layers
        network = keras.Sequential(
            [
                layers.Input((8, 8, 3)),
                layers.Conv2D(4, 3, padding="same", use_bias=False),  # 64 positions x 27 x 4
                layers.DepthwiseConv2D(3, strides=2, padding="same", use_bias=False),  # 16 positions x 9 x 4
                layers.BatchNormalization(),
                layers.GlobalAveragePooling2D(),
                layers.Dense(5),  # 4 x 5
            ]
        )
        complexity = count_keras(network)
        assert complexity.macs == 64 * 27 * 4 + 16 * 9 * 4 + 4 * 5
        assert complexity.parameters == 27 * 4 + 9 * 4 + 2 * 4 + 4 * 5 + 5


def test_a_new_input_size_keeps_the_ratio_of_the_crop() -> None:
    own = Preprocessing(height=224, width=224, resize=256)
    assert override_preprocessing(own, PreprocessingConfig(height=112, width=112)).resize == 128
    assert override_preprocessing(own, PreprocessingConfig(height=112, width=112, resize=120)).resize == 120
    assert override_preprocessing(own, PreprocessingConfig()) == own


def test_a_resize_mode_is_set_with_or_without_a_resize() -> None:
    cropped, plain = Preprocessing(height=8, width=8, resize=9), Preprocessing(height=8, width=8)

    def modes(own: Preprocessing, **keys: Any) -> tuple[str, int | None]:
        merged = override_preprocessing(own, PreprocessingConfig(**keys))
        return merged.resize_mode, merged.resize

    assert modes(plain, resize=10) == ("crop", 10)
    assert modes(plain, resize_mode="squash", resize=10) == ("squash", 10)
    assert modes(cropped, resize_mode="squash") == ("squash", None)
    assert modes(cropped, resize_mode="letterbox") == ("letterbox", None)
    assert modes(cropped, resize_mode="crop", resize=6) == ("crop", 6)  # a crop with borders, said in full
    assert modes(cropped, channels="bgr") == ("crop", 9)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (PreprocessingConfig(resize_mode="stretch"), "model.preprocessing.resize_mode: Input should be 'crop'"),
        (PreprocessingConfig(resize_mode="letterbox", resize=230), "letterbox .* remove resize"),
        (PreprocessingConfig(channels="grey"), "model.preprocessing.channels: Input should be 'rgb', 'bgr' or 'gray'"),
        (PreprocessingConfig(border=[0, 0, 256]), "model.preprocessing.border"),
        (PreprocessingConfig(std=[1.0, 0.0, 1.0]), "std is what values are divided by"),
        (PreprocessingConfig(interpolation="cubic"), "model.preprocessing.interpolation"),
        (PreprocessingConfig(mean=[0.5, 0.5]), "mean and std need one number for each of the 3 channels"),
        (PreprocessingConfig(resize=200), "resize=200 is smaller than the crop"),
    ],
)
def test_an_impossible_preprocessing_is_named(overrides: PreprocessingConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        override_preprocessing(Preprocessing(height=224, width=224, resize=256), overrides)
