"""What a file states about its own input is used, and nothing else is marked as read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from file_makers import add_metadata, constant, load, make_onnx, make_tflite
from onnx import TensorProto, helper
from torch import nn

from edlab.agent.preprocess import InputTable
from edlab.cache import Cache
from edlab.config import ModelConfig, ModelOrigin, PreprocessingConfig
from edlab.errors import ModelError
from edlab.models import load as load_source
from edlab.models.files import ModelFile
from edlab.models.files.stated import quantization as stated_by_quantization

RAW = ((0.0,) * 3, (1 / 255,) * 3)
SIGNED = ((0.5,) * 3, (0.5,) * 3)
UNIT = ((0.0,) * 3, (1.0,) * 3)


def values(file: ModelFile) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return file.preprocessing.mean, file.preprocessing.std


def near(expected: tuple[tuple[float, ...], tuple[float, ...]]) -> Any:
    """These values except for a pixel's step: a quantized input rounds."""
    return pytest.approx(np.array(expected), abs=1 / 255 + 1e-6)


def read(file: ModelFile) -> set[str]:
    return {key for key, origin in file.preprocessing_origins.items() if origin == "read"}


class TestTflite:
    @pytest.mark.parametrize("dtype", ["int8", "uint8"])
    @pytest.mark.parametrize(("low", "high", "expected"), [(0, 255, RAW), (-1, 1, SIGNED), (0, 1, UNIT)])
    def test_input_quantization_says_the_range(
        self, tmp_path: Path, dtype: str, low: float, high: float, expected: Any
    ) -> None:
        file = load(make_tflite(tmp_path / "net.tflite", low=low, high=high, dtype=dtype))
        assert np.array(values(file)) == near(expected)
        assert {"mean", "std", "height", "width"} == read(file)
        assert "the input's quantization (scale" in file.preprocessing_note

    @pytest.mark.parametrize(("scale", "zero_point"), [(1 / 128, 128), (2 / 255, 127), (1 / 255, 0), (1.0, 0)])
    @pytest.mark.parametrize("dtype", ["uint8", "int8"])
    def test_a_pixel_goes_in_as_its_own_integer(self, dtype: str, scale: float, zero_point: int) -> None:
        """Like in vendors' examples: with mean 0.5 and std 0.5 every second pixel would be off by a step."""
        shift = 128 if dtype == "int8" else 0
        stated = stated_by_quantization(scale, zero_point - shift, np.dtype(dtype), "")
        mean, std = stated.values["mean"], stated.values["std"]
        table = InputTable(mean, std, "NHWC", dtype, scale, zero_point - shift)
        pixels = np.arange(256, dtype=np.uint8)[None, None, :, None].repeat(3, axis=3)
        np.testing.assert_array_equal(table.apply(pixels)[0, 0, :, 0], np.arange(256) - shift)

    def test_metadata_that_agrees_but_for_rounding_leaves_a_pixel_its_own_integer(self, tmp_path: Path) -> None:
        """Like Coral's MobileNet V2: 127.5 in the metadata, scale 1/128 and zero point 128 of the input."""
        path = make_tflite(tmp_path / "net.tflite", low=-1, high=127 / 128, dtype="uint8")
        file = load(add_metadata(path, mean=[127.5], std=[127.5]))
        assert file.preprocessing.mean == pytest.approx((128 / 255,) * 3)
        assert "metadata" in file.preprocessing_note

    def test_a_float_input_that_is_quantized_first_says_it_as_well(self, tmp_path: Path) -> None:
        assert values(load(make_tflite(tmp_path / "net.tflite", low=0, high=255, dtype="float32"))) == RAW

    def test_another_range_is_refused_until_it_is_set(self, tmp_path: Path) -> None:
        path = make_tflite(tmp_path / "net.tflite", low=-2.12, high=2.64)
        with pytest.raises(ModelError, match=r"covers -2\.1\d*\.\.2\.6\d* by the input's quantization") as caught:
            load(path)
        assert "model.preprocessing.mean" in caught.value.hint
        keys = PreprocessingConfig(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
        file = load(path, preprocessing=keys)
        assert file.preprocessing.mean == (0.485, 0.456, 0.406)
        assert file.preprocessing_origins["mean"] == "given"

    def test_what_the_user_sets_wins(self, tmp_path: Path) -> None:
        path = make_tflite(tmp_path / "net.tflite", low=0, high=255)
        file = load(path, preprocessing=PreprocessingConfig(mean=[0.5] * 3, std=[0.25] * 3))
        assert values(file) == ((0.5,) * 3, (0.25,) * 3)

    def test_metadata_says_normalisation_and_classes(self, tmp_path: Path) -> None:
        path = make_tflite(tmp_path / "net.tflite", low=-1, high=1, dtype="uint8")
        file = load(add_metadata(path, mean=[128.0], std=[128.0], labels=["background", "cat", "dog", "owl"]))
        assert np.array(values(file)) == near(((128 / 255,) * 3, (128 / 255,) * 3))
        assert "TFLite metadata" in file.preprocessing_note
        assert file.class_names == ("background", "cat", "dog", "owl")

    def test_metadata_outside_the_inputs_range_is_not_used(self, tmp_path: Path) -> None:
        path = make_tflite(tmp_path / "net.tflite", low=-1, high=1, dtype="uint8")
        assert np.array(values(load(add_metadata(path, mean=[0.0], std=[1.0])))) == near(SIGNED)


class TestOnnx:
    @pytest.mark.parametrize(
        ("first", "weights", "expected"),
        [
            ([("Div", "x", "c")], {"c": 255.0}, RAW),
            ([("Mul", "x", "c")], {"c": 1 / 255}, RAW),
            ([("Mul", "x", "c"), ("Sub", "t0", "d")], {"c": 1 / 127.5, "d": 1.0}, RAW),
            ([("Sub", "x", "c"), ("Div", "t0", "d")],
             {"c": np.reshape([123.7, 116.3, 103.5], (1, 3, 1, 1)), "d": 57.5}, RAW),
            ([("Sub", "x", "c")], {"c": np.reshape([123.7, 116.8, 103.9], (1, 3, 1, 1))}, RAW),
            ([("Sub", "x", "c"), ("Div", "t0", "d")],
             {"c": 0.45, "d": np.reshape([0.229, 0.224, 0.225], (1, 3, 1, 1))}, UNIT),
        ],
    )  # fmt: skip
    def test_first_operators_say_the_range(self, tmp_path: Path, first: Any, weights: Any, expected: Any) -> None:
        nodes = [helper.make_node(op, [a, b], [f"t{n}"]) for n, (op, a, b) in enumerate(first)]
        constants = [constant(name, value) for name, value in weights.items()]
        file = load(make_onnx(tmp_path / "net.onnx", nodes, last=f"t{len(nodes) - 1}", weights=constants))
        assert values(file) == expected
        assert {"mean", "std"} <= read(file)

    @pytest.mark.parametrize("factor", [1.0, 2.0, 0.458, 17.0])
    def test_an_operator_that_says_nothing_leaves_it_assumed(self, tmp_path: Path, factor: float) -> None:
        node = helper.make_node("Mul", ["x", "c"], ["t"])
        file = load(make_onnx(tmp_path / "net.onnx", [node], last="t", weights=[constant("c", factor)]))
        assert read(file) == {"height", "width"}

    def test_a_batch_norm_of_normalised_images_says_nothing(self, tmp_path: Path) -> None:
        node = helper.make_node("BatchNormalization", ["x", "g", "b", "m", "v"], ["t"])
        for mean, variance, expected in (([0.01] * 3, [1.02] * 3, None), ([120.0] * 3, [4100.0] * 3, RAW)):
            weights = [constant("g", [1.0] * 3), constant("b", [0.0] * 3), constant("m", mean), constant("v", variance)]
            file = load(make_onnx(tmp_path / "net.onnx", [node], last="t", weights=weights))
            assert ("mean" in read(file)) == (expected is not None)
            assert expected is None or values(file) == expected

    def test_a_uint8_input_takes_pixels(self, tmp_path: Path) -> None:
        node = helper.make_node("Cast", ["x"], ["t"], to=TensorProto.FLOAT)
        file = load(make_onnx(tmp_path / "net.onnx", [node], last="t", elem=TensorProto.UINT8))
        assert values(file) == RAW
        assert "uint8" in file.preprocessing_note

    def test_a_quantized_input_says_its_range(self, tmp_path: Path) -> None:
        nodes = [
            helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["t"]),
        ]
        signed = [constant("s", 1 / 127.5), constant("z", 128, np.uint8)]
        assert np.array(values(load(make_onnx(tmp_path / "net.onnx", nodes, last="t", weights=signed)))) == near(SIGNED)
        imagenet = [constant("s", 4.8 / 255), constant("z", 114, np.uint8)]
        with pytest.raises(ModelError, match=r"the preprocessing of .* is missing"):
            load(make_onnx(tmp_path / "net.onnx", nodes, last="t", weights=imagenet))

    @pytest.mark.parametrize(
        ("metadata", "expected", "channels"),
        [
            ({"Image.NominalPixelRange": "NominalRange_0_255", "Image.BitmapPixelFormat": "Bgr8"}, RAW, "bgr"),
            ({"Image.NominalPixelRange": "Normalized_1_1", "Image.BitmapPixelFormat": "Rgb8"}, SIGNED, "rgb"),
            ({"image.nominalpixelrange": "normalized_0_1"}, UNIT, "rgb"),
            ({"mean": "[0.5, 0.5, 0.5]", "std": "0.5 0.5 0.5"}, SIGNED, "rgb"),
            ({"mean": "127.5", "std": "127.5"}, SIGNED, "rgb"),
            ({"preprocessing": json.dumps({"mean": [0.5] * 3, "std": [0.5] * 3})}, SIGNED, "rgb"),
        ],
    )
    def test_metadata(self, tmp_path: Path, metadata: dict[str, str], expected: Any, channels: str) -> None:
        file = load(make_onnx(tmp_path / "net.onnx", metadata=metadata))
        assert values(file) == expected
        assert file.preprocessing.channels == channels
        assert "ONNX metadata" in file.preprocessing_note

    def test_class_names(self, tmp_path: Path) -> None:
        path = make_onnx(tmp_path / "net.onnx", metadata={"names": "{0: 'a', 1: 'b', 2: 'c', 3: 'd'}"})
        assert load(path).class_names == ("a", "b", "c", "d")


def test_an_exported_program_that_scales_pixels(tmp_path: Path) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.tensor([123.7, 116.3, 103.5]).view(1, 3, 1, 1))
            self.head = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.head((images - self.mean) / 58.0)

    torch.export.save(torch.export.export(Net().eval(), (torch.zeros(1, 3, 16, 16),)), tmp_path / "net.pt2")
    assert values(load(tmp_path / "net.pt2")) == RAW


class TestKeras:
    @pytest.mark.parametrize("kind", ["rescaling", "signed", "normalization", "nested", "divide", "uint8", "none"])
    def test_first_layers_say_the_range(self, tmp_path: Path, kind: str) -> None:
        keras = pytest.importorskip("tensorflow").keras
        layers = keras.layers
        images = keras.Input((16, 16, 3), dtype="uint8" if kind == "uint8" else "float32")
        if kind in ("rescaling", "uint8"):
            x = layers.Rescaling(1 / 255)(images)
        elif kind == "signed":
            x = layers.Rescaling(1 / 127.5, offset=-1)(layers.RandomFlip()(images))
        elif kind == "normalization":
            x = layers.Normalization(mean=[123.7, 116.3, 103.5], variance=[3410.0, 3260.0, 3290.0])(images)
        elif kind == "nested":
            x = keras.Sequential([keras.Input((16, 16, 3)), layers.Rescaling(1 / 255)])(images)
        elif kind == "divide":
            x = images / 255.0
        else:
            x = images
        x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(x))
        keras.Model(images, layers.Dense(5)(x)).save(tmp_path / "net.keras")
        file = load(tmp_path / "net.keras")
        assert values(file) == (UNIT if kind == "none" else RAW)
        assert ("mean" in read(file)) == (kind != "none")


class TestLabelOffset:
    """The number of classes before the data set's first one, and its source."""

    @staticmethod
    def offset(path: Path, cache: Cache, **keys: Any) -> tuple[int, str]:
        config = ModelConfig(origin=ModelOrigin.file, path=str(path), **keys)
        source = load_source(config, cache, log=path.with_suffix(".log"))
        return source.label_offset, source.label_offset_origin

    def test_it_is_found_or_assumed(self, tmp_path: Path) -> None:
        cache = Cache(tmp_path / "cache")
        path = make_onnx(tmp_path / "thousand.onnx", classes=1000)
        assert self.offset(path, cache) == (0, "assumed")
        path = make_onnx(tmp_path / "background.onnx", classes=1001)
        assert self.offset(path, cache) == (1, "assumed")
        assert self.offset(path, cache, label_offset=0) == (0, "given")
        names = json.dumps([f"class {n}" for n in range(1001)])
        path = make_onnx(tmp_path / "named.onnx", classes=1001, metadata={"labels": names})
        assert self.offset(path, cache) == (0, "read")

    @pytest.mark.parametrize("dtype", ["int8", "uint8"])
    def test_metadata_of_the_vendors_form(self, tmp_path: Path, dtype: str) -> None:
        """1,001 classes, -1..1, TFLITE_METADATA and a label file, as Coral's MobileNet V2."""
        path = make_tflite(tmp_path / "net.tflite", low=-1, high=1, dtype=dtype, classes=1001)
        assert self.offset(path, Cache(tmp_path / "cache")) == (1, "assumed")
        labels = ["background", *(f"class {n}" for n in range(1000))]
        add_metadata(path, mean=[128.0], std=[128.0], labels=labels)
        config = ModelConfig(origin=ModelOrigin.file, path=str(path))
        source = load_source(config, Cache(tmp_path / "cache"), log=tmp_path / "load.log")
        assert (source.label_offset, source.label_offset_origin, source.precision) == (1, "read", "int8")
        assert source.class_names == tuple(labels)
        assert source.preprocessing.mean == pytest.approx((128 / 255,) * 3, abs=1 / 255 + 1e-6)
        assert source.batchable
