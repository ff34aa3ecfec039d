"""The built-in toolchains pass the suite that third parties subclass."""

from __future__ import annotations

import inspect
from pathlib import Path

import artifact_runner
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edlab import converters
from edlab.artifact import Artifact
from edlab.config import ConverterConfig
from edlab.errors import ConversionError
from edlab.registry import load_target
from edlab.testing.converter import ConverterConformance, quantization, small_source
from edlab.vendors.ncnn.converter import onnx_to_ncnn


class _OnThisMachine(ConverterConformance):
    def predict(self, artifact: Artifact, images: NDArray[np.float32]) -> NDArray[np.float32]:
        return artifact_runner.run(artifact.format, artifact.files[0], images)


class TestOnnxruntime(_OnThisMachine):
    converter = "onnxruntime"


@pytest.mark.slow
class TestOpenvino(_OnThisMachine):
    converter = "openvino"

    @pytest.fixture(autouse=True)
    def _installed(self) -> None:
        pytest.importorskip("nncf")


class TestLitert(_OnThisMachine):
    converter = "litert"

    @pytest.fixture(autouse=True)
    def _installed(self) -> None:
        pytest.importorskip("litert_torch")


@pytest.mark.slow
class TestNcnn(_OnThisMachine):
    converter = "ncnn"

    @pytest.fixture(autouse=True)
    def _installed(self) -> None:
        pytest.importorskip("ncnn")
        pytest.importorskip("pnnx")

    def test_an_operator_that_ncnn_lacks_is_named(self, tmp_path: Path) -> None:
        axis = helper.make_tensor("axis", TensorProto.INT64, [], [1])
        given, made = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 10]) for name in ("in", "out"))
        graph = helper.make_graph(
            [helper.make_node("CumSum", ["in", "axis"], ["out"])], "sums", [given], [made], [axis]
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.save(model, tmp_path / "sums.onnx")
        with pytest.raises(ConversionError, match="ncnn has no operator"):
            onnx_to_ncnn([str(tmp_path / "sums.onnx")], str(tmp_path / "sums.param"), {"fp16": False}, None)


@pytest.mark.parametrize("name", list(converters.available()))
@pytest.mark.parametrize("format", ["pt2", "keras", "onnx", "tflite"])
def test_every_step_can_be_called_as_steps_are(name: str, format: str, tmp_path: Path) -> None:
    """By the names of its parameters, in a separate process."""
    converter = converters.get(ConverterConfig(name=name))
    if format not in converter.takes:
        pytest.skip(f"{name} does not take {format}")
    source = small_source(tmp_path).model_copy(update={"format": format})
    for precision in converter.capabilities:
        able = converter.capability(precision)
        settings = quantization(precision)
        settings.granularity = None
        settings.activations = next(iter(able.activations), settings.activations)
        for step in converter.plan(source, settings):
            if step.function:
                parameters = list(inspect.signature(load_target(step.function)).parameters)
                assert parameters == ["inputs", "out", "options", "calibration"], step.function
