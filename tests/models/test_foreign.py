"""Only damaged files are reported as damaged; any other file is named by its type."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from file_makers import edit_tflite, load, make_onnx, make_tflite
from onnx import TensorProto, helper
from torch import nn

from edlab.config import ModelConfig, ModelOrigin, PreprocessingConfig
from edlab.errors import ModelError
from edlab.models.files import load_file


def refusal(path: Path, **keys: Any) -> ModelError:
    with pytest.raises(ModelError) as caught:
        load(path, **keys)
    assert "damaged" not in caught.value.message + caught.value.hint
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize(
    ("name", "content", "message", "hint"),
    [
        ("net.onnx", b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer", "git lfs pull"),
        ("net.tflite", b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer", "git lfs pull"),
        ("net.onnx", b"\n<!DOCTYPE html><html></html>", "a web page", "download"),
        ("net.onnx", b"", "an empty file", "again"),
        ("net.keras", b"\x89HDF\r\n\x1a\n" + bytes(64), "an HDF5 file", "model.save"),
        ("net.onnx", gzip.compress(b"model", mtime=0), "a gzip archive", "unpack"),
        ("net.xml", b"<?xml version='1.0'?><net/>", "unsupported model format", "OpenVINO|converted from"),
    ],
)  # fmt: skip
def test_what_a_file_is_by_its_content(tmp_path: Path, name: str, content: bytes, message: str, hint: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    error = refusal(path)
    assert message in error.message
    assert any(word in error.hint for word in hint.split("|"))


def test_pytorchs_own_files(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    torch.save(net.state_dict(), tmp_path / "weights.pt2")
    assert "model.weights=" in refusal(tmp_path / "weights.pt2").hint
    torch.save(net.state_dict(), tmp_path / "weights.pth", _use_new_zipfile_serialization=False)
    assert "model.weights=" in refusal(tmp_path / "weights.pth").hint
    torch.jit.save(torch.jit.trace(net, torch.zeros(1, 3, 16, 16)), tmp_path / "script.pt2")
    error = refusal(tmp_path / "script.pt2")
    assert "TorchScript" in error.message
    assert "torch.export" in error.hint


def test_another_formats_suffix(tmp_path: Path) -> None:
    make_tflite(tmp_path / "net.tflite", low=0, high=1).rename(tmp_path / "net.onnx")
    assert "rename it to net.tflite" in refusal(tmp_path / "net.onnx").hint
    torch.export.save(torch.export.export(nn.Conv2d(3, 4, 3).eval(), (torch.zeros(1, 3, 8, 8),)), tmp_path / "net.pt2")
    (tmp_path / "net.pt2").rename(tmp_path / "net.keras")
    assert "rename it to net.pt2" in refusal(tmp_path / "net.keras").hint


def test_folders(tmp_path: Path) -> None:
    (tmp_path / "saved").mkdir()
    assert "is a folder" in refusal(tmp_path / "saved").message
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"x")
    assert "SavedModel" in refusal(tmp_path / "saved").message


class TestOnnx:
    def test_custom_operators_are_named(self, tmp_path: Path) -> None:
        node = helper.make_node("MyPool", ["x"], ["t"], domain="acme")
        error = refusal(make_onnx(tmp_path / "net.onnx", [node], last="t", domains=["acme"]))
        assert "acme:MyPool" in error.message
        assert "replace it" in error.hint
        node = helper.make_node("Mish2", ["x"], ["t"])
        assert "Mish2" in refusal(make_onnx(tmp_path / "net.onnx", [node], last="t")).message

    def test_an_operator_without_a_kernel(self, tmp_path: Path) -> None:
        nodes = [
            helper.make_node("Cast", ["x"], ["d"], to=TensorProto.DOUBLE),
            helper.make_node("ConvTranspose", ["d", "k"], ["e"]),
            helper.make_node("Cast", ["e"], ["t"], to=TensorProto.FLOAT),
        ]
        kernel = onnx.numpy_helper.from_array(np.ones((3, 3, 1, 1)), "k")
        assert "ConvTranspose" in refusal(make_onnx(tmp_path / "net.onnx", nodes, last="t", weights=[kernel])).message

    def test_a_newer_ir_version_is_lowered_and_a_newer_opset_is_named(self, tmp_path: Path) -> None:
        file = load(make_onnx(tmp_path / "net.onnx", ir=onnx.IR_VERSION + 3))
        assert file.num_classes == 4
        assert onnx.load(file.path).ir_version <= onnx.IR_VERSION
        error = refusal(make_onnx(tmp_path / "net.onnx", opset=onnx.defs.onnx_opset_version() + 5))
        assert "opset" in error.message
        assert "opset_version=" in error.hint

    def test_a_fixed_batch_is_named(self, tmp_path: Path) -> None:
        assert "fixed batch of 8" in refusal(make_onnx(tmp_path / "net.onnx", shape=(8, 3, 16, 16))).message
        assert load(make_onnx(tmp_path / "net.onnx", shape=("batch", 3, 16, 16))).num_classes == 4

    def test_a_missing_data_file_and_one_outside(self, tmp_path: Path) -> None:
        model = onnx.load(make_onnx(tmp_path / "net.onnx"))
        onnx.save(model, tmp_path / "net.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
        (tmp_path / "weights.bin").unlink()
        assert "weights.bin" in refusal(tmp_path / "net.onnx").message
        model = onnx.load(tmp_path / "net.onnx", load_external_data=False)
        for weight in model.graph.initializer:
            weight.external_data[0].value = "../weights.bin"
        (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
        assert "outside the model's folder" in refusal(tmp_path / "net.onnx").message

    def test_half_precision_and_weights_among_the_inputs(self, tmp_path: Path) -> None:
        node = helper.make_node("Cast", ["x"], ["t"], to=TensorProto.FLOAT)
        assert load(make_onnx(tmp_path / "net.onnx", [node], last="t", elem=TensorProto.FLOAT16)).num_classes == 4
        assert load(make_onnx(tmp_path / "net.onnx", opset=9, ir=3, weights_are_inputs=True)).num_classes == 4


class TestTflite:
    @pytest.mark.parametrize(
        ("code", "message", "hint"),
        [
            ("edgetpu-custom-op", "compiled for the Edge TPU", "device=coral"),
            ("FlexErf", "FlexErf", "TFLITE_BUILTINS"),
            ("AcmePool", "AcmePool", "replace it"),
        ],
    )
    def test_operators_of_others(self, tmp_path: Path, code: str, message: str, hint: str) -> None:
        def rename(model: Any, schema: Any) -> None:
            model.operatorCodes[0].customCode = code
            model.operatorCodes[0].builtinCode = schema.BuiltinOperator.CUSTOM
            model.operatorCodes[0].deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
            for operator in model.subgraphs[0].operators:
                if operator.opcodeIndex == 0:
                    operator.builtinOptions, operator.builtinOptionsType = None, 0

        error = refusal(edit_tflite(make_tflite(tmp_path / "net.tflite", low=0, high=1), rename))
        assert message in error.message
        assert hint in error.hint

    def test_a_free_size_is_set(self, tmp_path: Path) -> None:
        import tensorflow as tf

        class Net(tf.Module):  # type: ignore[misc]
            @tf.function(input_signature=[tf.TensorSpec((1, None, None, 3), tf.float32)])  # type: ignore[untyped-decorator]
            def __call__(self, images: Any) -> Any:
                return tf.reduce_mean(tf.nn.conv2d(images, tf.ones((3, 3, 3, 5)), 1, "VALID"), (1, 2))

        net = Net()
        converter = tf.lite.TFLiteConverter.from_concrete_functions([net.__call__.get_concrete_function()], net)
        path = tmp_path / "net.tflite"
        path.write_bytes(converter.convert())
        assert "input size" in refusal(path).message
        file = load(path, preprocessing=PreprocessingConfig(height=16, width=16))
        assert file.complexity.macs is None or file.complexity.macs > 14 * 14
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(str(file.path))
        interpreter.allocate_tensors()
        assert list(interpreter.get_input_details()[0]["shape"]) == [1, 16, 16, 3]


class TestKeras:
    def test_lambda_and_custom_layers_are_named(self, tmp_path: Path) -> None:
        keras = pytest.importorskip("tensorflow").keras
        layers = keras.layers

        class Mine(layers.Layer):  # type: ignore[misc]
            def call(self, x: Any) -> Any:
                return x

        for name, layer, message in (
            ("lambda", layers.Lambda(lambda x: x * 2), "Lambda layer"),
            ("custom", Mine(name="my_layer"), "Mine 'my_layer'"),
        ):
            images = keras.Input((16, 16, 3))
            x = layers.GlobalAveragePooling2D()(layer(images))
            keras.Model(images, layers.Dense(4)(x)).save(tmp_path / f"{name}.keras")
            error = refusal(tmp_path / f"{name}.keras")
            assert message in error.message
            assert "model=python" in error.hint


def test_a_truncated_archive_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "net.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}" * 500)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ModelError, match="cannot be read"):
        load_file(ModelConfig(origin=ModelOrigin.file, path=str(path)), tmp_path)
