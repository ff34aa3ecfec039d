"""One network has one count, in any format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edlab.config import ModelConfig, ModelOrigin
from edlab.models.complexity import count_keras, count_torch
from edlab.models.files import load_file
from edlab.source import Complexity
from edlab.torchvision_import import import_torchvision

TOLERANCE = 0.005


class Recurrent(nn.Module):
    """The rows of an image as 32 steps."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(96, 64, 2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(128, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        steps, _ = self.lstm(images.permute(0, 2, 1, 3).reshape(images.shape[0], 32, 96))
        return self.head(steps[:, -1])


class Encoder(nn.Module):
    """The rows of an image as 32 tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(96, 4, 384, batch_first=True), 2)
        self.head = nn.Linear(96, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = images.permute(0, 2, 1, 3).reshape(images.shape[0], 32, 96)
        return self.head(self.encoder(tokens).mean(1))


# Network -> side of its images, and of some the keywords that make it that small.
TIMM: dict[str, tuple[int, dict[str, Any]]] = {
    "vit_tiny_patch16_224": (64, {"img_size": 64}),
    "mobilevit_s": (64, {}),
    "swin_tiny_patch4_window7_224": (64, {"img_size": 64}),
    "convnext_atto": (64, {}),
    "mobilenetv2_100": (64, {}),
    "semnasnet_100": (64, {}),
    "resnet18": (64, {}),
    "inception_v3": (96, {}),
    "efficientnet_b0": (64, {}),
    "regnety_002": (64, {}),
}
OWN: dict[str, Callable[[], nn.Module]] = {"lstm": Recurrent, "encoder": Encoder}


def build(name: str) -> tuple[nn.Module, torch.Tensor]:
    """The network with random weights; none is 0, because converters fold multiplications by 0."""
    torch.manual_seed(0)
    if name in OWN:
        network, side = OWN[name](), 32
    else:
        import_torchvision()
        import timm

        side, keywords = TIMM[name]
        network = timm.create_model(name, **keywords)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.01 * torch.rand_like(parameter)
    return network.eval(), torch.rand(1, 3, side, side)


def read(path: Path) -> Complexity:
    folder = path.with_name(f"copy_of_{path.name}")
    folder.mkdir()
    return load_file(ModelConfig(origin=ModelOrigin.file, path=str(path)), folder).complexity


@pytest.mark.parametrize("name", [*TIMM, *OWN])
def test_torch_its_exported_program_and_onnx_count_the_same(name: str, tmp_path: Path) -> None:
    network, image = build(name)
    live = count_torch(network, image)
    assert live.note == ""
    assert live.macs
    program = torch.export.export(network, (image,))
    torch.export.save(program, tmp_path / "net.pt2")
    torch.onnx.export(network, (image,), tmp_path / "net.onnx", dynamo=False, opset_version=17)
    for path in (tmp_path / "net.pt2", tmp_path / "net.onnx"):
        stored = read(path)
        assert stored.note == ""
        assert stored.macs == pytest.approx(live.macs, rel=TOLERANCE), path.suffix
        # batch normalisation is folded into the bias of a convolution
        assert stored.parameters == pytest.approx(live.parameters, rel=0.03), path.suffix


def test_a_tflite_file_of_torch_counts_the_same(tmp_path: Path) -> None:
    litert_torch = pytest.importorskip("litert_torch")
    network, image = build("encoder")
    litert_torch.convert(network, (image,), strict_export=False).export(str(tmp_path / "net.tflite"))
    from ai_edge_litert import schema_py_generated as schema

    from edlab.models.complexity.tflite import count_tflite

    path = tmp_path / "net.tflite"
    stored = count_tflite(path, schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0))
    live = count_torch(network, image)
    assert (stored.macs, stored.note) == (pytest.approx(live.macs, rel=TOLERANCE), "")
    assert stored.parameters == pytest.approx(live.parameters, rel=TOLERANCE)


@pytest.mark.parametrize(
    ("keras_name", "arch", "side"),
    [
        ("MobileNetV2", "mobilenet_v2", 96),
        ("InceptionV3", "inception_v3", 96),
        ("EfficientNetB0", "efficientnet_b0", 64),
    ],
)
def test_keras_and_torchvision_count_the_same(keras_name: str, arch: str, side: int) -> None:
    keras = pytest.importorskip("keras")
    twin = getattr(keras.applications, keras_name)(weights=None, input_shape=(side, side, 3))
    with torch.device("meta"):
        network = import_torchvision().models.get_model(arch, weights=None).eval()
        expected = count_torch(network, torch.zeros(1, 3, side, side), cross_check=False).macs
    assert count_keras(twin).macs == pytest.approx(expected, rel=TOLERANCE)


def test_a_recurrent_network_counts_the_same_in_keras_and_tflite(tmp_path: Path) -> None:
    keras = pytest.importorskip("keras")
    tf = pytest.importorskip("tensorflow")
    layers = keras.layers
    steps = [layers.Bidirectional(layers.LSTM(64, return_sequences=True)) for _ in range(2)]
    twin = keras.Sequential(
        [layers.Input((32, 96)), *steps, layers.Lambda(lambda outputs: outputs[:, -1]), layers.Dense(10)]
    )
    twin.set_weights([weight + np.float32(0.01) for weight in twin.get_weights()])
    network, image = build("lstm")
    macs = count_torch(network, image).macs
    assert count_keras(twin).macs == pytest.approx(macs, rel=TOLERANCE)

    function = tf.function(lambda rows: twin(rows, training=False))
    concrete = function.get_concrete_function(tf.TensorSpec((1, 32, 96)))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], twin)
    converter._experimental_lower_tensor_list_ops = True  # loops, no operators of TensorFlow
    path = tmp_path / "net.tflite"
    path.write_bytes(converter.convert())
    from ai_edge_litert import schema_py_generated as schema

    from edlab.models.complexity.tflite import count_tflite

    stored = count_tflite(path, schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0))
    assert (stored.macs, stored.note) == (pytest.approx(macs, rel=TOLERANCE), "")
