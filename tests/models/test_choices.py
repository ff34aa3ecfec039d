"""Several outputs, signatures or subgraphs need a choice by the user; training mode and randomness are reported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from file_makers import constant, edit_tflite, load, make_onnx, make_tflite
from onnx import TensorProto, helper
from torch import nn
from torch.nn import functional

from edlab.errors import ModelError


def codes(file: Any) -> list[str]:
    return [reason.code for reason in file.reasons]


def two_outputs(path: Path) -> Path:
    model = onnx.load(make_onnx(path))
    model.graph.node.append(helper.make_node("MatMul", ["flat", "other"], ["aux"]))
    model.graph.initializer.append(constant("other", np.ones((5, 7))))
    model.graph.output.insert(0, helper.make_tensor_value_info("aux", TensorProto.FLOAT, [1, 7]))
    onnx.save(model, path)
    return path


def test_an_onnx_file_with_two_outputs(tmp_path: Path) -> None:
    path = two_outputs(tmp_path / "net.onnx")
    with pytest.raises(ModelError, match=r"has 2 outputs: aux \(1, 7\), logits \(1, 4\)") as caught:
        load(path)
    assert "set model.output" in caught.value.hint
    with pytest.raises(ModelError, match="no output 'logit'"):
        load(path, output="logit")
    file = load(path, output="logits")
    assert (file.outputs.names, file.outputs.all_names, file.num_classes) == (("logits",), ("aux", "logits"), 4)
    session = onnxruntime.InferenceSession(file.path)
    assert [output.name for output in session.get_outputs()] == ["logits"]
    images = np.random.default_rng(0).random((1, 3, 16, 16), np.float32)
    (whole,) = onnxruntime.InferenceSession(path).run(["logits"], {"x": images})
    np.testing.assert_array_equal(session.run(None, {"x": images})[0], whole)
    assert "other" not in {weight.name for weight in onnx.load(file.path).graph.initializer}


def test_a_file_with_one_output_is_left_as_it_is(tmp_path: Path) -> None:
    for path in (make_onnx(tmp_path / "net.onnx"), make_tflite(tmp_path / "net.tflite", low=0, high=1)):
        assert load(path).path.read_bytes() == path.read_bytes()


def test_an_exported_program_with_a_dictionary(tmp_path: Path) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())

        def forward(self, images: torch.Tensor) -> Any:
            features = self.body(images)
            return {"features": features, "heads": (features * 2, features[:, :3])}

    net = Net().eval()
    torch.export.save(torch.export.export(net, (torch.zeros(1, 3, 16, 16),)), tmp_path / "net.pt2")
    with pytest.raises(ModelError, match=r"3 outputs: features \(1, 4\), heads.0 \(1, 4\), heads.1 \(1, 3\)"):
        load(tmp_path / "net.pt2")
    file = load(tmp_path / "net.pt2", output="heads.0")
    images = torch.rand(1, 3, 16, 16)
    torch.testing.assert_close(torch.export.load(file.path).module()(images), net(images)["heads"][0])


def test_keras_with_two_outputs(tmp_path: Path) -> None:
    keras = pytest.importorskip("tensorflow").keras
    images = keras.Input((16, 16, 3))
    x = keras.layers.GlobalAveragePooling2D()(images)
    x = keras.layers.Dropout(0.5)(x, training=True)
    outputs = {"logits": keras.layers.Dense(4)(x), "aux": keras.layers.Dense(3)(x)}
    keras.Model(images, outputs).save(tmp_path / "net.keras")
    with pytest.raises(ModelError, match="2 outputs") as caught:
        load(tmp_path / "net.keras")
    assert "logits (?, 4)" in caught.value.message
    file = load(tmp_path / "net.keras", output="logits")
    assert file.num_classes == 4
    assert codes(file) == ["training_mode"]
    assert keras.models.load_model(file.path).output_shape == (None, 4)


class TestTflite:
    @pytest.fixture
    def two(self, tmp_path: Path) -> Path:
        import tensorflow as tf

        class Net(tf.Module):  # type: ignore[misc]
            @tf.function(input_signature=[tf.TensorSpec((1, 8, 8, 3), tf.float32)])  # type: ignore[untyped-decorator]
            def __call__(self, images: Any) -> Any:
                x = tf.reduce_mean(images, (1, 2))
                return {"logits": tf.concat([x, x], 1), "aux": tf.nn.relu(x)}

        net = Net()
        tf.saved_model.save(net, tmp_path / "saved")
        converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "saved"))
        path = tmp_path / "net.tflite"
        path.write_bytes(converter.convert())
        return path

    def test_two_outputs(self, two: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter

        with pytest.raises(ModelError, match="2 outputs") as caught:
            load(two)
        assert "logits (1, 6)" in caught.value.message
        file = load(two, output="logits")
        assert file.num_classes == 6
        interpreter = Interpreter(str(file.path))
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], np.full((1, 8, 8, 3), 0.25, np.float32))
        interpreter.invoke()
        (output,) = interpreter.get_output_details()
        np.testing.assert_allclose(interpreter.get_tensor(output["index"]), np.full((1, 6), 0.25), rtol=1e-6)

    def test_two_signatures(self, two: Path) -> None:
        def double(model: Any, schema: Any) -> None:
            import copy

            model.signatureDefs.append(copy.deepcopy(model.signatureDefs[0]))
            model.signatureDefs[1].signatureKey = "embed"

        with pytest.raises(ModelError, match="2 signatures: serving_default, embed"):
            load(edit_tflite(two, double), output="logits")

    def test_a_subgraph_that_nothing_calls(self, two: Path) -> None:
        def double(model: Any, schema: Any) -> None:
            import copy

            model.subgraphs.append(copy.deepcopy(model.subgraphs[0]))

        with pytest.raises(ModelError, match="several subgraphs"):
            load(edit_tflite(two, double), output="logits")


@pytest.mark.parametrize("kind", ["batch norm", "batch norm before 14", "dropout", "random", "inference"])
def test_onnx_in_training_mode(tmp_path: Path, kind: str) -> None:
    weights = [constant("g", [1.0] * 3), constant("b", [0.0] * 3), constant("m", [0.0] * 3), constant("v", [1.0] * 3)]
    norm = ["x", "g", "b", "m", "v"]
    opset, expected = 15, ["training_mode"]
    if kind == "batch norm":
        nodes = [helper.make_node("BatchNormalization", norm, ["t", "m1", "v1"], training_mode=1)]
    elif kind == "batch norm before 14":
        nodes, opset = [helper.make_node("BatchNormalization", norm, ["t", "m1", "v1", "m2", "v2"])], 12
    elif kind == "dropout":
        weights = [constant("ratio", 0.5), constant("mode", True, np.bool_)]
        nodes = [helper.make_node("Dropout", ["x", "ratio", "mode"], ["t"])]
    elif kind == "random":
        nodes = [helper.make_node("RandomNormalLike", ["x"], ["n"]), helper.make_node("Add", ["x", "n"], ["t"])]
        weights, expected = [], ["random_operators"]
    else:
        nodes, expected = [helper.make_node("Dropout", ["x"], ["t"])], []
        weights = []
    path = make_onnx(tmp_path / "net.onnx", nodes, last="t", weights=weights, opset=opset)
    file = load(path)
    assert codes(file) == expected
    assert all("model.eval()" in reason.advice for reason in file.reasons)


class Training(nn.Module):
    """Layers that stay in training mode after eval()."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x: torch.Tensor = self.body(images)
        if self.kind == "dropout":
            return functional.dropout(x, 0.5, training=True)
        if self.kind == "random":
            return x + torch.rand_like(x)
        if self.kind == "batch norm":
            return functional.batch_norm(images, None, None, training=True).mean((2, 3))
        return functional.dropout(x, 0.5, training=False)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("dropout", "training_mode"), ("batch norm", "training_mode"), ("random", "random_operators"), ("none", None)],
)
def test_exported_programs_in_training_mode(tmp_path: Path, kind: str, expected: str | None) -> None:
    program = torch.export.export(Training(kind).eval(), (torch.zeros(1, 3, 16, 16),))
    torch.export.save(program, tmp_path / "net.pt2")
    assert codes(load(tmp_path / "net.pt2")) == ([expected] if expected else [])
