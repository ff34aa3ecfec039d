"""MACs and parameters of Keras models and of the TFLite files made from them, against hand counts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edlab.config import ModelConfig, ModelOrigin
from edlab.models.complexity import count_keras
from edlab.models.files import load_file

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")
layers = keras.layers

SIDE, TOKENS, WIDTH = 32, 32, 96


def network(*stack: Any, batch: int | None = None, tokens: bool = False) -> Any:
    """A stack of layers on an image, or on its rows."""
    image = keras.Input((SIDE, SIDE, 3), batch_size=batch)
    output = layers.Reshape((TOKENS, WIDTH))(image) if tokens else image
    for layer in stack:
        output = layer(output)
    return without_zeros(keras.Model(image, output))


def without_zeros(model: Any) -> Any:
    """A converter drops biases of 0, and merges layers that do the same."""
    random = np.random.default_rng(0)
    model.set_weights([random.uniform(0.1, 0.2, weight.shape) for weight in model.get_weights()])
    return model


def attention(batch: int | None) -> Any:
    image = keras.Input((SIDE, SIDE, 3), batch_size=batch)
    rows = layers.Reshape((TOKENS, WIDTH))(image)
    return without_zeros(keras.Model(image, layers.MultiHeadAttention(4, 24)(rows, rows)))


def twice(batch: int | None) -> Any:
    layer = layers.Conv2D(3, 3, padding="same")
    return network(layer, layer, batch=batch)


# Network by its batch -> MACs and trained or frozen weights.
Case = tuple[Callable[[int | None], Any], int, int]
SAME: dict[str, Any] = {"padding": "same"}
COMMON: dict[str, Case] = {
    "convolution": (lambda b: network(layers.Conv2D(8, 3, **SAME), batch=b), 8 * 27 * 1024, 8 * 28),
    "depthwise": (lambda b: network(layers.DepthwiseConv2D(3, **SAME), batch=b), 27 * 1024, 30),
    "separable": (lambda b: network(layers.SeparableConv2D(8, 3, **SAME), batch=b), (27 + 24) * 1024, 27 + 24 + 8),
    "transposed": (
        lambda b: network(layers.Conv2DTranspose(8, 3, strides=2, **SAME), batch=b), 8 * 27 * 1024, 8 * 28,
    ),
    "3D": (
        lambda b: network(
            layers.Reshape((SIDE, SIDE, 3, 1)), layers.Conv3D(8, 3, **SAME), layers.Conv3DTranspose(4, 3, strides=2),
            batch=b,
        ),
        8 * 27 * 3072 + 8 * 27 * 4 * 3072, 8 * 28 + 8 * 27 * 4 + 4,
    ),
    "dense over tokens": (lambda b: network(layers.Dense(64), batch=b, tokens=True), 32 * 96 * 64, 97 * 64),
    "1D": (lambda b: network(layers.Conv1D(8, 3, **SAME), batch=b, tokens=True), 32 * 3 * 96 * 8, 3 * 96 * 8 + 8),
    "attention": (attention, 32 * 96 * 96 * 4 + 2 * 32 * 32 * 96, 4 * 97 * 96),
    "a layer used twice": (twice, 2 * 81 * 1024, 84),
}  # fmt: skip


@pytest.mark.parametrize("name", COMMON)
def test_keras_and_tflite_count_the_same(name: str, tmp_path: Path) -> None:
    make, macs, parameters = COMMON[name]
    model = make(None)
    complexity = count_keras(model)
    assert (complexity.macs, complexity.parameters, complexity.note) == (macs, parameters, "")
    converter = tf.lite.TFLiteConverter.from_keras_model(model)  # its batch is free
    (tmp_path / "net.tflite").write_bytes(converter.convert())
    stored = count_tflite_file(tmp_path / "net.tflite")
    assert (stored.macs, stored.note) == (macs, "")
    assert stored.parameters == pytest.approx(parameters, abs=3)  # the converter adds a bias to a depthwise one


def count_tflite_file(path: Path) -> Any:
    from ai_edge_litert import schema_py_generated as schema

    from edlab.models.complexity.tflite import count_tflite

    return count_tflite(path, schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0))


KERAS: dict[str, Case] = {
    "grouped": (lambda b: network(layers.Conv2D(9, 3, groups=3, **SAME), batch=b), 9 * 9 * 1024, 90),
    "einsum": (
        lambda b: network(layers.EinsumDense("abc,cd->abd", output_shape=(None, 7)), batch=b, tokens=True),
        32 * 96 * 7, 96 * 7,
    ),
    "LSTM": (lambda b: network(layers.LSTM(64), batch=b, tokens=True), 32 * 256 * 160, 161 * 256),
    "GRU, then an RNN both ways": (
        lambda b: network(
            layers.GRU(8, return_sequences=True), layers.Bidirectional(layers.SimpleRNN(16)), batch=b, tokens=True
        ),
        32 * (24 * 104 + 2 * 16 * 24), 24 * 104 + 2 * 24 + 2 * 16 * 25,
    ),
    "a layer at each step": (
        lambda b: network(layers.TimeDistributed(layers.Dense(3)), batch=b, tokens=True), 32 * 96 * 3, 97 * 3,
    ),
    "nested": (lambda b: network(twice(b), layers.Dense(2), batch=b), 2 * 81 * 1024 + 1024 * 6, 84 + 8),
    "normalisation": (
        lambda b: network(
            layers.Normalization(mean=[0.0] * 3, variance=[1.0] * 3), layers.Conv2D(4, 1), layers.BatchNormalization(),
            batch=b,
        ),
        1024 * 12, 16 + 8,
    ),
    "whatever a Lambda does": (
        lambda b: network(layers.Lambda(lambda x: tf.matmul(x, x, transpose_b=True)), batch=b, tokens=True),
        32 * 32 * 96, 0,
    ),
    "a loop of TensorFlow": (
        lambda b: network(
            layers.Lambda(lambda x: tf.map_fn(lambda row: tf.matmul(row, row, transpose_a=True), x)), batch=b,
            tokens=True,
        ),
        32 * 96 * 96, 0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("batch", [None, 4])
@pytest.mark.parametrize("name", KERAS)
def test_each_layer_counts_what_it_runs(name: str, batch: int | None) -> None:
    make, macs, parameters = KERAS[name]
    complexity = count_keras(make(batch))
    assert (complexity.macs, complexity.parameters, complexity.note) == (macs, parameters, "")


def test_frozen_layers_have_parameters(tmp_path: Path) -> None:
    model = network(layers.Conv2D(8, 3, **SAME), layers.GlobalAveragePooling2D(), layers.Dense(10))
    model.layers[1].trainable = False
    assert len(model.trainable_weights) == 2
    model.save(tmp_path / "net.keras")
    (tmp_path / "out").mkdir()
    file = load_file(ModelConfig(origin=ModelOrigin.file, path=str(tmp_path / "net.keras")), tmp_path / "out")
    assert (file.complexity.macs, file.complexity.parameters) == (8 * 27 * 1024 + 80, 8 * 28 + 90)


def test_a_free_size_takes_the_one_that_is_given() -> None:
    image = keras.Input((None, None, 3))
    model = keras.Model(image, layers.GlobalAveragePooling2D()(layers.Conv2D(4, 1)(image)))
    assert count_keras(model, (1, 16, 8, 3)).macs == 16 * 8 * 12
    assert count_keras(model).note.startswith("cannot be counted by running it")


def test_an_unknown_operator_is_named() -> None:
    model = network(layers.Conv2D(4, 1), layers.Lambda(lambda x: tf.abs(tf.signal.rfft(x))))
    complexity = count_keras(model)
    assert (complexity.macs, complexity.parameters) == (None, 16)
    assert complexity.note == "cannot be counted: the graph has RFFT"


@pytest.mark.parametrize(
    ("arch", "macs", "parameters"),
    # https://keras.io/api/applications has the parameters, with running statistics; the papers the MACs.
    [("MobileNetV2", 0.300e9, 3.50e6), ("EfficientNetB0", 0.386e9, 5.29e6), ("ResNet50V2", 3.48e9, 25.57e6)],
)
def test_the_zoo_has_its_published_macs(arch: str, macs: float, parameters: float) -> None:
    complexity = count_keras(getattr(keras.applications, arch)(weights=None))
    assert complexity.macs == pytest.approx(macs, rel=0.005)
    assert complexity.parameters == pytest.approx(parameters, rel=0.005)
