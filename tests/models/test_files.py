"""Model files are used directly: what they state is read, damage is reported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from edlab.config import ModelConfig, ModelOrigin, PreprocessingConfig
from edlab.errors import ModelError
from edlab.models.files import ModelFile, load_file

MACS = 14 * 14 * 27 * 4 + 4 * 5  # of the network below at 16 x 16
PARAMETERS = 27 * 4 + 4 + 4 * 5 + 5


def net() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)
    return nn.Sequential(*layers).eval()


def export_onnx(path: Path, *, symbolic: bool = False) -> Path:
    torch.onnx.export(
        net(), (torch.zeros(1, 3, 16, 16),), path, dynamo=False, opset_version=17, input_names=["images"],
        output_names=["logits"], dynamic_axes={"images": {0: "batch"}, "logits": {0: "batch"}} if symbolic else None,
    )  # fmt: skip
    return path


def load(path: Path, tmp_path: Path, **keys: Any) -> ModelFile:
    folder = tmp_path / "out"
    folder.mkdir(exist_ok=True)
    return load_file(ModelConfig(origin=ModelOrigin.file, path=str(path), **keys), folder)


@pytest.mark.parametrize("symbolic", [False, True])
def test_onnx_tells_its_layout_size_classes_and_complexity(tmp_path: Path, symbolic: bool) -> None:
    file = load(export_onnx(tmp_path / "net.onnx", symbolic=symbolic), tmp_path)
    assert (file.format, file.layout, file.precision, file.num_classes) == ("onnx", "NCHW", "fp32", 5)
    assert (file.preprocessing.height, file.preprocessing.width) == (16, 16)
    assert (file.complexity.macs, file.complexity.parameters) == (MACS, PARAMETERS)
    assert file.preprocessing_origins["height"] == "read"
    assert {file.preprocessing_origins[key] for key in ("mean", "std", "resize", "channels")} == {"assumed"}
    onnx.checker.check_model(file.path)


def test_keys_stand_over_what_is_assumed_of_a_file(tmp_path: Path) -> None:
    keys = PreprocessingConfig(mean=[0.5, 0.5, 0.5], std=[0.25, 0.25, 0.25], resize=20)
    file = load(export_onnx(tmp_path / "net.onnx"), tmp_path, preprocessing=keys)
    assert (file.preprocessing.mean, file.preprocessing.std) == ((0.5,) * 3, (0.25,) * 3)
    assert file.preprocessing.resize == 20
    assert file.preprocessing_note == ""
    with pytest.raises(ModelError, match="needs 16 x 16 pixels, not 32 x 32"):
        load(tmp_path / "net.onnx", tmp_path, preprocessing=PreprocessingConfig(height=32, width=32))


def test_onnx_with_a_free_size_needs_one(tmp_path: Path) -> None:
    path = export_onnx(tmp_path / "net.onnx")
    model = onnx.load(path)
    for axis in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = f"axis{axis}"
    onnx.save(model, path)
    with pytest.raises(ModelError, match="input size") as caught:
        load(path, tmp_path)
    assert "model.preprocessing.height" in caught.value.hint
    file = load(path, tmp_path, preprocessing=PreprocessingConfig(height=16, width=16))
    assert (file.num_classes, file.complexity.macs) == (5, MACS)


def test_onnx_channel_last_and_weights_outside_the_file(tmp_path: Path) -> None:
    weights = np.random.default_rng(0).standard_normal((8 * 8 * 3, 6)).astype(np.float32)
    nodes = [
        helper.make_node("Flatten", ["images"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 8, 8, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 6])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.save(model, tmp_path / "net.onnx", save_as_external_data=True, location="net.data", size_threshold=0)
    file = load(tmp_path / "net.onnx", tmp_path)
    assert (file.layout, file.num_classes, file.complexity.macs) == ("NHWC", 6, 8 * 8 * 3 * 6)
    assert [path.name for path in file.path.parent.iterdir()] == ["source.onnx"]
    (stored,) = onnx.load(file.path).graph.initializer
    np.testing.assert_array_equal(numpy_helper.to_array(stored), weights)


def test_a_quantized_onnx_is_int8(tmp_path: Path) -> None:
    from onnxruntime.quantization import CalibrationDataReader, quant_pre_process, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches = iter([{"images": np.random.default_rng(0).random((1, 3, 16, 16), np.float32)}])

        def get_next(self) -> dict[str, Any] | None:
            return next(self.batches, None)

    quant_pre_process(export_onnx(tmp_path / "net.onnx"), tmp_path / "ready.onnx", skip_symbolic_shape=True)
    quantize_static(tmp_path / "ready.onnx", tmp_path / "int8.onnx", Reader())
    file = load(tmp_path / "int8.onnx", tmp_path)
    assert (file.precision, file.complexity.macs, file.complexity.parameters) == ("int8", MACS, PARAMETERS)


def test_an_exported_program_is_read(tmp_path: Path) -> None:
    torch.export.save(torch.export.export(net(), (torch.zeros(1, 3, 16, 16),)), tmp_path / "net.pt2")
    file = load(tmp_path / "net.pt2", tmp_path)
    assert (file.format, file.layout, file.num_classes) == ("pt2", "NCHW", 5)
    assert (file.complexity.macs, file.complexity.parameters) == (MACS, PARAMETERS)


class TestKerasAndTflite:
    @pytest.fixture
    def network(self) -> Any:
        keras = pytest.importorskip("tensorflow").keras
        keras.utils.set_random_seed(0)
        layers = keras.layers
        return keras.Sequential(
            [
                layers.Input((16, 16, 3)),
                layers.Conv2D(4, 3),
                layers.GlobalAveragePooling2D(),
                layers.Dense(5, bias_initializer="ones"),
            ]
        )

    @staticmethod
    def to_tflite(network: Any, path: Path, *, int8: bool) -> Path:
        import tensorflow as tf

        converter = tf.lite.TFLiteConverter.from_keras_model(network)
        if int8:
            images = np.random.default_rng(0).random((4, 1, 16, 16, 3), np.float32)
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ([image] for image in images)
            converter.inference_input_type = converter.inference_output_type = tf.int8
        path.write_bytes(converter.convert())
        return path

    def test_a_keras_file_is_read(self, network: Any, tmp_path: Path) -> None:
        network.save(tmp_path / "net.keras")
        file = load(tmp_path / "net.keras", tmp_path)
        assert (file.format, file.layout, file.num_classes) == ("keras", "NHWC", 5)
        assert (file.complexity.macs, file.complexity.parameters) == (MACS, PARAMETERS)

    @pytest.mark.parametrize("int8", [False, True])
    def test_a_tflite_file_is_read(self, network: Any, tmp_path: Path, int8: bool) -> None:
        file = load(self.to_tflite(network, tmp_path / "net.tflite", int8=int8), tmp_path)
        assert (file.format, file.layout, file.num_classes) == ("tflite", "NHWC", 5)
        assert file.precision == ("int8" if int8 else "fp32")
        assert (file.complexity.macs, file.complexity.parameters) == (MACS, PARAMETERS)

    @pytest.mark.parametrize("name", ["net.keras", "net.tflite"])
    def test_a_damaged_file_is_named(self, network: Any, tmp_path: Path, name: str) -> None:
        path = tmp_path / name
        if path.suffix == ".keras":
            network.save(path)
        else:
            self.to_tflite(network, path, int8=False)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(ModelError, match=f"{name} cannot be read as"):
            load(path, tmp_path)


@pytest.mark.parametrize("name", ["net.onnx", "net.pt2"])
@pytest.mark.parametrize("content", ["half", "foreign"])
def test_a_damaged_or_foreign_file_is_named(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    if name == "net.onnx":
        export_onnx(path)
    else:
        torch.export.save(torch.export.export(net(), (torch.zeros(1, 3, 16, 16),)), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if content == "half" else b"something else")
    with pytest.raises(ModelError, match=f"{name} cannot be read as") as caught:
        load(path, tmp_path)
    assert "export it again" in caught.value.hint


def test_what_is_no_model_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"the model file .* is not found"):
        load(tmp_path / "nowhere.onnx", tmp_path)
    (tmp_path / "net.caffemodel").write_text("x")
    with pytest.raises(ModelError, match="unsupported model format") as caught:
        load(tmp_path / "net.caffemodel", tmp_path)
    assert "ONNX" in caught.value.hint
    with pytest.raises(ModelError, match="the file contains its weights"):
        load(export_onnx(tmp_path / "net.onnx"), tmp_path, weights="random")


def test_a_network_that_classifies_no_images_is_refused(tmp_path: Path) -> None:
    torch.onnx.export(nn.Linear(4, 2), (torch.zeros(1, 4),), tmp_path / "linear.onnx", dynamo=False)
    with pytest.raises(ModelError, match="not of a batch of images"):
        load(tmp_path / "linear.onnx", tmp_path)
    torch.onnx.export(nn.Conv2d(3, 3, 1), (torch.zeros(1, 3, 8, 8),), tmp_path / "conv.onnx", dynamo=False)
    with pytest.raises(ModelError, match=r"not \(batch, classes\)"):
        load(tmp_path / "conv.onnx", tmp_path)
    torch.onnx.export(nn.Conv2d(2, 3, 1), (torch.zeros(1, 2, 8, 8),), tmp_path / "two.onnx", dynamo=False)
    with pytest.raises(ModelError, match="layout") as caught:
        load(tmp_path / "two.onnx", tmp_path)
    assert "model.layout=NCHW" in caught.value.hint


def test_quantization_parameters_that_nodes_share_are_made_their_own(tmp_path: Path) -> None:
    """onnxruntime's exact int8 kernels fail on shared ones; exporters that fold equal constants share them."""
    generator = np.random.default_rng(0)
    arrays = {
        "scale": np.float32(2 / 255), "zero": np.uint8(128), "w_scale": np.full(4, 0.01, np.float32),
        "w_zero": np.zeros(4, np.int8), "w": generator.integers(-99, 99, (4, 3, 1, 1)).astype(np.int8),
        "m": generator.integers(-99, 99, (4, 4)).astype(np.int8), "m_scale": np.float32(0.01), "m_zero": np.int8(0),
    }  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "scale", "zero"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w", "w_scale", "w_zero"], ["wd"], axis=0),
        helper.make_node("Conv", ["xd", "wd"], ["c"]),
        helper.make_node("QuantizeLinear", ["c", "scale", "zero"], ["cq"]),
        helper.make_node("DequantizeLinear", ["cq", "scale", "zero"], ["cd"]),
        helper.make_node("DequantizeLinear", ["w", "w_scale", "w_zero"], ["wd2"], axis=0),
        helper.make_node("Conv", ["xd", "wd2"], ["c2"]),
        helper.make_node("QuantizeLinear", ["c2", "scale", "zero"], ["cq2"]),
        helper.make_node("DequantizeLinear", ["cq2", "scale", "zero"], ["cd2"]),
        helper.make_node("Add", ["cd", "cd2"], ["sum"]),
        helper.make_node("GlobalAveragePool", ["sum"], ["p"]),
        helper.make_node("Flatten", ["p"], ["y"]),
    ]
    weights = [numpy_helper.from_array(np.asarray(value), name) for name, value in arrays.items()]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])], weights,
    )  # fmt: skip
    path = tmp_path / "shared.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    (tmp_path / "copy").mkdir()
    file = load_file(ModelConfig(origin=ModelOrigin.file, path=str(path)), tmp_path / "copy")
    images = generator.uniform(-1, 1, (1, 3, 8, 8)).astype(np.float32)
    in_float, settings = onnxruntime.SessionOptions(), onnxruntime.SessionOptions()
    in_float.add_session_config_entry("session.disable_quant_qdq", "1")
    expected = onnxruntime.InferenceSession(path, in_float).run(None, {"x": images})[0]
    settings.add_session_config_entry("session.x64quantprecision", "1")
    given = onnxruntime.InferenceSession(file.path, settings).run(None, {"x": images})[0]
    np.testing.assert_allclose(given, expected, atol=0.02)
