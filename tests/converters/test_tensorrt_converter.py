"""What converter=tensorrt sends to the target; the engine itself is built there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import artifact_runner
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from edlab import converters
from edlab.artifact import Artifact
from edlab.cache import Cache, sha256_files
from edlab.config import CalibrationMethod, ConverterConfig, Granularity, Precision, QuantizationConfig, Symmetry
from edlab.converters import base
from edlab.converters.inspect import weight_dtypes
from edlab.errors import ConfigError, UnsupportedError
from edlab.source import SourceModel
from edlab.stages.reference import this_machine
from edlab.tasks.classification import Task
from edlab.testing.converter import ConverterConformance, quantization, small_calibration, small_source


class TestTensorrt(ConverterConformance):
    converter = "tensorrt"

    def predict(self, artifact: Artifact, images: NDArray[np.float32]) -> NDArray[np.float32]:
        return artifact_runner.run("onnx", artifact.on_host.files[0], images)

    # A conversion here ends with the file that the target builds from.

    def test_each_precision_declared_gives_a_sane_artifact(
        self, convert: Callable[..., Artifact], images: NDArray[np.uint8]
    ) -> None:
        for precision in converters.load(self.converter).capabilities:
            artifact = convert(self._plain(precision))
            assert (artifact.format, artifact.precision) == ("onnx", precision)
            sqnr = Task().compare(self.reference(images), self._logits(artifact, images)).sqnr_db
            assert sqnr is None or sqnr > 15, f"{precision}: {sqnr} dB"

    def test_the_options_declared_reach_the_plan(self, source: SourceModel) -> None:
        int8 = self._plain(Precision.int8)
        percentile = quantization(Precision.int8, method=CalibrationMethod.percentile, activations=Symmetry.symmetric)
        for options, wanted in (
            ({"int8": "implicit"}, int8),
            ({"percentile": 99.0}, percentile),
            ({"workspace_mb": 64}, int8),
            ({"tf32": True}, int8),
        ):
            assert plan(source, wanted) != plan(source, wanted, **options)


def plan(source: SourceModel, wanted: QuantizationConfig, **options: Any) -> list[dict[str, Any]]:
    steps = converters.get(ConverterConfig(name="tensorrt", options=options)).plan(source, wanted)
    return [{**vars(step), "options": dict(step.options)} for step in steps]


def int8(**settings: Any) -> QuantizationConfig:
    return quantization(Precision.int8, activations=Symmetry.symmetric, **settings)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tensorrt")


@pytest.fixture(scope="module")
def source(folder: Path) -> SourceModel:
    return small_source(folder)


@pytest.fixture(scope="module")
def graph(folder: Path, source: SourceModel) -> onnx.GraphProto:
    """The int8 file of the small network: convolution, ReLU6, a residual block, mean, linear layer."""
    artifact = converters.convert(
        source,
        int8(),
        ConverterConfig(name="tensorrt"),
        calibration=lambda: small_calibration(folder, 16),
        cache=Cache(folder / "cache"),
        portable=this_machine().runtimes,
    )
    assert set(weight_dtypes(artifact.files[0], "onnx")) == {"int8"}
    return onnx.load(artifact.files[0]).graph


def makers(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    return {name: node for node in graph.node for name in node.output}


def test_what_has_weights_is_quantized_at_its_inputs_and_not_behind(graph: onnx.GraphProto) -> None:
    made_by = makers(graph)
    for node in graph.node:
        if node.op_type in ("Conv", "Gemm"):
            assert [made_by[name].op_type for name in node.input[:2]] == ["DequantizeLinear"] * 2
            followers = {user.op_type for user in graph.node if node.output[0] in user.input}
            assert "QuantizeLinear" not in followers


def test_the_sum_of_a_residual_block_takes_one_quantized_input(graph: onnx.GraphProto) -> None:
    (add,) = [node for node in graph.node if node.op_type == "Add"]
    assert sorted(makers(graph)[name].op_type for name in add.input) == ["Conv", "DequantizeLinear"]


def test_weights_stay_in_floating_point_before_their_pair_and_biases_have_none(graph: onnx.GraphProto) -> None:
    arrays = {value.name: onnx.numpy_helper.to_array(value) for value in graph.initializer}
    quantized = {node.input[0] for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")}
    assert {str(arrays[name].dtype) for name in quantized & set(arrays)} == {"float32"}
    biases = {node.input[2] for node in graph.node if node.op_type in ("Conv", "Gemm")}
    assert biases <= set(arrays)
    assert not biases & quantized


def test_every_zero_point_is_zero(graph: onnx.GraphProto) -> None:
    points = [onnx.numpy_helper.to_array(value) for value in graph.initializer if value.name.endswith("_zero_point")]
    assert points
    assert {str(point.dtype) for point in points} == {"int8"}
    assert not any(point.any() for point in points)


def test_the_quantizer_is_told_what_to_do_and_not_for_whom(source: SourceModel) -> None:
    def quantizer(converter: str) -> dict[str, Any]:
        steps = converters.get(ConverterConfig(name=converter)).plan(source, int8())
        return next(dict(step.options) for step in steps if step.name == "quantize_onnx")

    plain, ours = quantizer("onnxruntime"), quantizer("tensorrt")
    assert set(plain) == {"exclude", "layout", "per_channel", "symmetric", "method"}  # the keys of its cache
    assert ours == {**plain, "only_weighted_inputs": True, "weights_as_qdq": True, "quantize_bias": False}


def test_the_last_step_is_the_targets(source: SourceModel) -> None:
    for wanted in (quantization(Precision.fp32), quantization(Precision.fp16), int8()):
        *here, last = converters.get(ConverterConfig(name="tensorrt")).plan(source, wanted)
        assert all(step.format in this_machine().runtimes and step.workshop == base.HOST for step in here)
        assert (last.workshop, last.toolchain, last.format, last.calibrates) == (
            base.TARGET,
            "tensorrt",
            "tensorrt",
            False,
        )
        assert last.format not in this_machine().runtimes
        assert last.precision == wanted.precision


def test_implicit_int8_sends_a_float_file_and_the_images(source: SourceModel) -> None:
    wanted = int8(method=CalibrationMethod.entropy)
    export, build = converters.get(ConverterConfig(name="tensorrt", options={"int8": "implicit"})).plan(source, wanted)
    assert (export.precision, export.calibrates) == ("fp32", False)
    assert build.calibrates
    assert build.options["method"] == "entropy"


@pytest.mark.parametrize(
    ("wanted", "refused"),
    [
        (int8(method=CalibrationMethod.percentile), "calibration.method=percentile"),
        (int8(granularity=Granularity.per_tensor), "granularity=per_tensor"),
        (int8(exclude=("/0/Conv",)), "does not support quantization.exclude"),
    ],
)
def test_implicit_int8_refuses_what_its_calibrators_do_not_do(
    source: SourceModel, wanted: QuantizationConfig, refused: str
) -> None:
    plan(source, wanted)
    with pytest.raises(UnsupportedError, match=refused):
        plan(source, wanted, int8="implicit")


def test_another_kind_of_int8_is_a_wrong_word() -> None:
    with pytest.raises(ConfigError, match=r"converter\.options\.int8=maybe") as caught:
        converters.get(ConverterConfig(name="tensorrt", options={"int8": "maybe"}))
    assert caught.value.hint == "set converter.options.int8=explicit"


def test_an_int8_file_is_built_as_it_is(source: SourceModel, tmp_path: Path) -> None:
    path = tmp_path / "quantized.onnx"
    path.touch()
    given = source.model_copy(
        update={"format": "onnx", "path": path, "sha256": sha256_files([path]), "precision": "int8"}
    )
    for kind in ("explicit", "implicit"):
        inlined, step = plan(given, int8(), int8=kind)
        assert (inlined["name"], inlined["workshop"]) == ("inline_functions", base.HOST)
        assert step["workshop"] == base.TARGET
        assert not step["calibrates"]
