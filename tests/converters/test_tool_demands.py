"""A file is converted to what a tool needs, or refused with the reason; its function stays the same."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from file_makers import CLASSES, edit_tflite, make_onnx

from edlab.converters import onnx_prepare
from edlab.converters.litert import ensure_signature, quantize_tflite
from edlab.converters.onnxruntime import onnx_to_fp16, quantize_onnx, quantize_onnx_dynamic
from edlab.errors import UnsupportedError

IMAGES = np.random.default_rng(0).random((1, 3, 16, 16), np.float32)
INT8 = {"exclude": [], "layout": "NCHW", "per_channel": True, "symmetric": False, "method": "minmax"}


@pytest.fixture
def calibration(tmp_path: Path) -> dict[str, Any]:
    pixels = np.random.default_rng(1).integers(0, 256, (4, 16, 16, 3), np.uint8)
    np.save(tmp_path / "images.npy", pixels)
    return {
        "images": str(tmp_path / "images.npy"),
        "indices": [0, 1, 2, 3],
        "mean": [0.0] * 3,
        "std": [1.0] * 3,
        "channels": "rgb",
    }


def run(path: Path | str, images: Any = IMAGES) -> Any:
    return onnxruntime.InferenceSession(path).run(None, {"x": images})[0]


def close(path: Path | str, expected: Any, images: Any = IMAGES) -> bool:
    return bool(np.abs(run(path, images) - expected).max() < 0.05 * np.abs(expected).max())


def make_with_function(path: Path) -> Path:
    twice = helper.make_function(
        "local", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 13)]
    )
    node = helper.make_node("Twice", ["x"], ["t"], domain="local")
    return make_onnx(path, [node], last="t", domains=["local"], functions=[twice])


@pytest.mark.parametrize(
    ("opset", "ir", "weights_are_inputs"), [(11, 8, False), (9, 4, False), (9, 3, True), (7, 3, True)]
)
@pytest.mark.parametrize("per_channel", [True, False])
def test_int8_of_an_old_opset(
    tmp_path: Path, calibration: dict[str, Any], opset: int, ir: int, weights_are_inputs: bool, per_channel: bool
) -> None:
    path = make_onnx(tmp_path / "net.onnx", opset=opset, ir=ir, weights_are_inputs=weights_are_inputs)
    out = tmp_path / "int8.onnx"
    quantize_onnx([str(path)], str(out), {**INT8, "per_channel": per_channel}, calibration)
    assert close(out, run(path))
    assert {file.name for file in tmp_path.iterdir()} == {"net.onnx", "int8.onnx", "images.npy"}


def test_an_opset_that_cannot_be_upgraded_names_the_need(tmp_path: Path) -> None:
    path = make_onnx(tmp_path / "net.onnx", [helper.make_node("Upsample", ["x", "s"], ["t"])], last="t", opset=9,
                     weights=[onnx.numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "s")])  # fmt: skip
    model = onnx.load(path)
    model.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(model, path)
    with pytest.raises(UnsupportedError, match="needs opset 13; the model has opset 9") as caught:
        onnx_prepare.prepare(path, tmp_path / "out.onnx", opset=13)
    assert "per_tensor" in caught.value.hint


def test_local_functions_are_inlined(tmp_path: Path, calibration: dict[str, Any]) -> None:
    path = make_with_function(tmp_path / "net.onnx")
    expected = run(path)
    for name, convert in (("fp16", onnx_to_fp16), ("int8", quantize_onnx), ("dynamic", quantize_onnx_dynamic)):
        out = tmp_path / f"{name}.onnx"
        convert([str(path)], str(out), INT8, calibration if name == "int8" else None)  # type: ignore[arg-type]
        assert close(out, expected)
        assert not onnx.load(out).functions
    onnx_prepare.inline_functions([str(path)], str(tmp_path / "inlined.onnx"), {}, None)
    np.testing.assert_array_equal(run(tmp_path / "inlined.onnx"), expected)


def test_a_file_that_needs_nothing_is_left_as_it_is(tmp_path: Path) -> None:
    path = make_onnx(tmp_path / "net.onnx")
    assert onnx_prepare.prepare(path, tmp_path / "out.onnx", opset=13, shape=[1, 3, 16, 16]) == path
    free = make_onnx(tmp_path / "free.onnx", shape=("batch", 3, "height", "width"))
    fixed = onnx_prepare.prepare(free, tmp_path / "out.onnx", shape=[1, 3, 16, 16])
    dimensions = onnx.load(fixed).graph.output[0].type.tensor_type.shape.dim
    assert [dimension.dim_value for dimension in dimensions] == [1, CLASSES]


@pytest.mark.parametrize(("elem", "dtype"), [(TensorProto.UINT8, np.uint8), (TensorProto.FLOAT16, np.float16)])
def test_int8_of_a_file_that_takes_bytes_or_halves(
    tmp_path: Path, calibration: dict[str, Any], elem: int, dtype: Any
) -> None:
    path = make_onnx(tmp_path / "net.onnx", [helper.make_node("Cast", ["x"], ["t"], to=1)], last="t", elem=elem)
    scale = 255 if dtype is np.uint8 else 1
    images = (IMAGES * scale).astype(dtype)
    quantize_onnx([str(path)], str(tmp_path / "int8.onnx"), INT8, {**calibration, "std": [1 / scale] * 3})
    assert close(tmp_path / "int8.onnx", run(path, images), images)


def test_a_tflite_without_a_signature_can_be_calibrated(tmp_path: Path, calibration: dict[str, Any]) -> None:
    tf = pytest.importorskip("tensorflow")
    from ai_edge_litert.interpreter import Interpreter

    kernel = tf.constant(np.random.default_rng(0).standard_normal((3, 3, 3, 5)).astype(np.float32))

    class Net(tf.Module):  # type: ignore[misc]
        @tf.function(input_signature=[tf.TensorSpec((1, 16, 16, 3), tf.float32)])  # type: ignore[untyped-decorator]
        def __call__(self, images: Any) -> Any:
            return tf.reduce_mean(tf.nn.conv2d(images, kernel, 1, "VALID"), (1, 2))

    net = Net()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([net.__call__.get_concrete_function()], net)
    path = tmp_path / "net.tflite"
    path.write_bytes(converter.convert())

    def forget(model: Any, schema: Any) -> None:
        model.signatureDefs = None

    edit_tflite(path, forget)
    copy = ensure_signature(str(path), tmp_path / "signed.tflite")
    assert Interpreter(copy).get_signature_list()
    assert ensure_signature(copy, tmp_path / "again.tflite") == copy
    options = {"precision": "int8", "per_channel": True, "symmetric": False, "exclude": [], "layout": "NHWC"}
    quantize_tflite([str(path)], str(tmp_path / "int8.tflite"), options, calibration)
    assert Interpreter(str(tmp_path / "int8.tflite")).get_input_details()[0]["dtype"] == np.int8
