"""What the settings do inside the files, and how Keras, ONNX and TFLite models enter a chain."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import artifact_runner
import numpy as np
import pytest
from numpy.typing import NDArray

from edlab import converters
from edlab.agent.preprocess import normalise
from edlab.artifact import Artifact
from edlab.cache import Cache, sha256_files
from edlab.config import CalibrationMethod, ConverterConfig, Granularity, Precision, QuantizationConfig, Symmetry
from edlab.converters.inspect import weight_dtypes
from edlab.converters.onnx_export import OPSET, torch_to_onnx
from edlab.errors import ConfigError, ConversionError, UnsupportedError
from edlab.source import SourceModel
from edlab.stages.reference import this_machine
from edlab.tasks.classification import Task
from edlab.testing.converter import (
    CLASSES,
    PREPROCESSING,
    quantization,
    small_calibration,
    small_source,
)

Convert = Callable[..., Artifact]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("toolchains")


@pytest.fixture(scope="module")
def torch_source(folder: Path) -> SourceModel:
    return small_source(folder)


@pytest.fixture(scope="module")
def convert(folder: Path) -> Convert:
    """`convert(source, converter, quantization)` with one cache for the module."""

    def run(source: SourceModel, converter: str, wanted: QuantizationConfig) -> Artifact:
        return converters.convert(
            source,
            wanted,
            ConverterConfig(name=converter),
            calibration=lambda: small_calibration(folder, wanted.calibration.images),
            cache=Cache(folder / "cache"),
            portable=this_machine().runtimes,
        )

    return run


def as_source(artifact: Artifact, source: SourceModel) -> SourceModel:
    """The converted file as a user's own."""
    return source.model_copy(
        update={
            "format": artifact.format,
            "path": artifact.files[0],
            "sha256": artifact.sha256,
            "layout": artifact.layout,
            "precision": artifact.precision,
        }
    )


def logits(artifact: Artifact, folder: Path) -> NDArray[np.float32]:
    images = np.load(small_calibration(folder, 8, seed=1).images)
    batch = normalise(images, PREPROCESSING.mean, PREPROCESSING.std, artifact.layout)
    return artifact_runner.run(artifact.format, artifact.files[0], batch)


def onnx_initializers(artifact: Artifact) -> dict[str, NDArray[Any]]:
    import onnx

    return {value.name: onnx.numpy_helper.to_array(value) for value in onnx.load(artifact.files[0]).graph.initializer}


def tflite_tensors(artifact: Artifact) -> list[dict[str, Any]]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(
        str(artifact.files[0]), experimental_op_resolver_type=_reference_kernels()
    )  # no delegate hides the file's own tensors
    details: list[dict[str, Any]] = interpreter.get_tensor_details()
    return details


def _reference_kernels() -> Any:
    from ai_edge_litert.interpreter import OpResolverType

    return OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES


# The settings that a sweep goes over.


def test_a_sweep_over_method_and_images_gives_as_many_artifacts(convert: Convert, torch_source: SourceModel) -> None:
    artifacts = [
        convert(torch_source, "onnxruntime", quantization(Precision.int8, method=method, images=images))
        for method in (CalibrationMethod.minmax, CalibrationMethod.percentile)
        for images in (16, 64)
    ]
    assert len({artifact.sha256 for artifact in artifacts}) == 4
    assert len({artifact.steps[0].log for artifact in artifacts}) == 1  # one export for all


def test_onnx_entropy_clips_more_than_minmax(convert: Convert, torch_source: SourceModel) -> None:
    def scales(method: CalibrationMethod) -> dict[str, NDArray[Any]]:
        artifact = convert(torch_source, "onnxruntime", quantization(Precision.int8, method=method, images=64))
        return {
            name: value
            for name, value in onnx_initializers(artifact).items()
            if name.endswith("_scale") and value.ndim == 0
        }

    widest, entropy = scales(CalibrationMethod.minmax), scales(CalibrationMethod.entropy)
    assert all(entropy[name] <= widest[name] * 1.02 for name in widest)
    assert any(entropy[name] < widest[name] * 0.98 for name in widest)


def test_onnx_granularity_is_the_number_of_scales(convert: Convert, torch_source: SourceModel) -> None:
    def most_scales(granularity: Granularity) -> int:
        wanted = quantization(Precision.int8, granularity=granularity)
        values = onnx_initializers(convert(torch_source, "onnxruntime", wanted))
        return max(value.size for name, value in values.items() if name.endswith("_scale"))

    assert most_scales(Granularity.per_channel) == 16
    assert most_scales(Granularity.per_tensor) == 1


def test_onnx_symmetric_activations_are_int8_around_zero(convert: Convert, torch_source: SourceModel) -> None:
    def zero_points(activations: Symmetry) -> list[NDArray[Any]]:
        wanted = quantization(Precision.int8, activations=activations)
        values = onnx_initializers(convert(torch_source, "onnxruntime", wanted))
        return [value for name, value in values.items() if name.endswith("_zero_point") and value.ndim == 0]

    symmetric = zero_points(Symmetry.symmetric)
    assert {str(value.dtype) for value in symmetric} == {"int8"}
    assert {int(value) for value in symmetric} == {0}
    assert "uint8" in {str(value.dtype) for value in zero_points(Symmetry.asymmetric)}


def test_openvino_granularity_is_the_number_of_scales(convert: Convert, torch_source: SourceModel) -> None:
    openvino = pytest.importorskip("openvino")

    def most_scales(granularity: Granularity) -> int:
        artifact = convert(torch_source, "openvino", quantization(Precision.int8, granularity=granularity))
        model = openvino.Core().read_model(artifact.files[0])
        return max(
            int(np.prod(value.get_node().get_output_shape(0)))
            for operation in model.get_ops()
            if operation.get_type_name() == "Multiply"
            for value in operation.input_values()
            if value.get_node().get_type_name() == "Constant"
        )

    assert most_scales(Granularity.per_channel) == 16
    assert most_scales(Granularity.per_tensor) == 1


@pytest.mark.parametrize("granularity", list(Granularity))
def test_tflite_kernels_have_their_scales_and_matrices_one(
    convert: Convert, torch_source: SourceModel, granularity: Granularity
) -> None:
    pytest.importorskip("litert_torch")
    tensors = tflite_tensors(convert(torch_source, "litert", quantization(Precision.int8, granularity=granularity)))
    scales = {
        len(tensor["shape"]): tensor["quantization_parameters"]["scales"].size
        for tensor in tensors
        if tensor["dtype"] == np.int8 and tensor["shape"][0] == CLASSES
    }
    assert scales[2] == 1
    kernels = [
        tensor["quantization_parameters"]["scales"].size
        for tensor in tensors
        if tensor["dtype"] == np.int8 and list(tensor["shape"][1:3]) == [3, 3]
    ]
    assert kernels
    assert set(kernels) == ({16} if granularity is Granularity.per_channel else {1})


def test_tflite_int8_is_int8_from_input_to_output(convert: Convert, torch_source: SourceModel) -> None:
    pytest.importorskip("litert_torch")
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(convert(torch_source, "litert", quantization(Precision.int8)).files[0]))
    ends = interpreter.get_input_details() + interpreter.get_output_details()
    assert [tensor["dtype"] for tensor in ends] == [np.int8, np.int8]
    assert list(ends[0]["shape"]) == [1, 32, 32, 3]


def test_tflite_symmetric_activations_have_no_zero_point(convert: Convert, torch_source: SourceModel) -> None:
    pytest.importorskip("litert_torch")

    def zero_points(activations: Symmetry) -> set[int]:
        tensors = tflite_tensors(convert(torch_source, "litert", quantization(Precision.int8, activations=activations)))
        return {int(zero) for tensor in tensors for zero in tensor["quantization_parameters"]["zero_points"]}

    assert zero_points(Symmetry.symmetric) == {0}
    assert zero_points(Symmetry.asymmetric) != {0}


def test_fp16_weights_are_float16(convert: Convert, torch_source: SourceModel) -> None:
    for converter in ("onnxruntime", "openvino", "litert"):
        if not converters.load(converter).missing():
            artifact = convert(torch_source, converter, quantization(Precision.fp16))
            assert set(weight_dtypes(artifact.files[0], artifact.format)) == {"float16"}


# Names of nodes left in floating point.


def test_onnx_excluded_nodes_stay_in_floating_point(convert: Convert, torch_source: SourceModel) -> None:
    import onnx

    exported = convert(torch_source, "onnxruntime", quantization(Precision.fp32))
    names = [node.name for node in onnx.load(exported.files[0]).graph.node]
    (depthwise,) = [name for name in names if "depthwise" in name]  # named after the module's own submodule
    artifact = convert(torch_source, "onnxruntime", quantization(Precision.int8, exclude=(depthwise,)))
    assert weight_dtypes(artifact.files[0], "onnx")["float32"] == 16 * 9


def test_openvino_excluded_nodes_stay_in_floating_point(convert: Convert, torch_source: SourceModel) -> None:
    openvino = pytest.importorskip("openvino")
    exported = convert(torch_source, "openvino", quantization(Precision.fp32))
    model = openvino.Core().read_model(exported.files[0])
    first = next(op for op in model.get_ordered_ops() if op.get_type_name() == "Convolution").get_friendly_name()
    artifact = convert(torch_source, "openvino", quantization(Precision.int8, exclude=(first,)))
    assert weight_dtypes(artifact.files[0], "openvino")["float32"] == 16 * 3 * 9


def test_tflite_excluded_patterns_stay_in_floating_point(convert: Convert, torch_source: SourceModel) -> None:
    pytest.importorskip("litert_torch")
    artifact = convert(torch_source, "litert", quantization(Precision.int8, exclude=("depthwise",)))
    assert weight_dtypes(artifact.files[0], "tflite")["float32"] == 16 * 9


# Files of other frameworks.


@pytest.fixture(scope="module")
def keras_source(folder: Path) -> SourceModel:
    tf = pytest.importorskip("tensorflow")
    tf.keras.utils.set_random_seed(0)
    layers = tf.keras.layers
    given = layers.Input((32, 32, 3))
    x = layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False)(given)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    x = layers.Add()([x, layers.Conv2D(16, 1)(layers.DepthwiseConv2D(3, padding="same")(x))])
    model = tf.keras.Model(given, layers.Dense(CLASSES)(layers.GlobalAveragePooling2D()(x)))
    path = folder / "small.keras"
    model.save(path)
    return SourceModel(
        name="small_keras",
        format="keras",
        path=path,
        sha256=sha256_files([path]),
        layout="NHWC",
        preprocessing=PREPROCESSING,
        num_classes=CLASSES,
        weights="untrained",
    )


@pytest.mark.parametrize(
    ("converter", "precision"),
    [
        ("onnxruntime", Precision.fp32),
        ("onnxruntime", Precision.int8),
        ("openvino", Precision.int8),
        ("litert", Precision.fp32),
        ("litert", Precision.int8),
    ],
)
def test_keras_models_are_converted(
    convert: Convert, keras_source: SourceModel, folder: Path, converter: str, precision: Precision
) -> None:
    import tensorflow as tf

    images = np.load(small_calibration(folder, 8, seed=1).images)
    batch = normalise(images, PREPROCESSING.mean, PREPROCESSING.std, "NHWC")
    expected = np.asarray(tf.keras.models.load_model(keras_source.path)(batch, training=False))
    artifact = convert(keras_source, converter, quantization(precision))
    found = logits(artifact, folder)
    if precision is Precision.fp32:
        np.testing.assert_allclose(found, expected, atol=1e-4)
    else:
        sqnr = Task().compare(expected, found).sqnr_db
        assert sqnr is not None
        assert sqnr > 15
        assert set(weight_dtypes(artifact.files[0], artifact.format)) == {"int8"}


def test_the_keras_file_itself_is_the_baseline(convert: Convert, keras_source: SourceModel) -> None:
    artifact = convert(keras_source, "keras", quantization(Precision.fp32))
    assert artifact.files == (keras_source.path,)
    assert set(weight_dtypes(artifact.files[0], artifact.format)) == {"float32"}


def test_a_file_in_the_target_format_is_passed_through(convert: Convert, torch_source: SourceModel) -> None:
    own = as_source(convert(torch_source, "onnxruntime", quantization(Precision.fp32)), torch_source)
    artifact = convert(own, "onnxruntime", quantization(Precision.fp32))
    assert artifact.files == (own.path,)
    assert artifact.steps == ()


@pytest.mark.parametrize(("converter", "export"), [("onnxruntime", {"free_batch": True}), ("openvino", {})])
def test_a_users_onnx_file_is_quantized_as_the_exported_one(
    converter: str, export: dict[str, Any], convert: Convert, torch_source: SourceModel, tmp_path: Path
) -> None:
    if converters.load(converter).missing():
        pytest.skip(f"the packages of {converter} are not installed")
    path = tmp_path / "model.onnx"
    torch_to_onnx([str(torch_source.path)], str(path), {"opset": OPSET, **export}, None)
    own = torch_source.model_copy(update={"format": "onnx", "path": path, "sha256": sha256_files([path])})
    wanted = quantization(Precision.int8)
    assert convert(own, converter, wanted).sha256 == convert(torch_source, converter, wanted).sha256


def test_litert_names_the_operator_of_an_onnx_file_that_it_cannot_convert(
    convert: Convert, torch_source: SourceModel, tmp_path: Path
) -> None:
    pytest.importorskip("litert_torch")
    if importlib.util.find_spec("onnx2torch") is None:
        pytest.skip("onnx2torch is not installed")
    import onnx
    from onnx import TensorProto, helper

    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 8, 8])
    counts = helper.make_tensor_value_info("counts", TensorProto.FLOAT, [1, 3, 8, 8])
    graph = helper.make_graph([helper.make_node("Det", ["images"], ["counts"])], "odd", [images], [counts])
    path = tmp_path / "odd.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    own = torch_source.model_copy(update={"format": "onnx", "path": path, "sha256": sha256_files([path])})
    with pytest.raises(ConversionError, match="Det"):
        convert(own, "litert", quantization(Precision.fp32))


def test_a_users_tflite_file_is_quantized(convert: Convert, torch_source: SourceModel) -> None:
    pytest.importorskip("litert_torch")
    own = as_source(convert(torch_source, "litert", quantization(Precision.fp32)), torch_source)
    wanted = quantization(Precision.int8)
    assert convert(own, "litert", wanted).sha256 == convert(torch_source, "litert", wanted).sha256


def test_a_file_that_is_int8_already_stays_as_it_is(convert: Convert, torch_source: SourceModel, folder: Path) -> None:
    own = as_source(convert(torch_source, "onnxruntime", quantization(Precision.int8)), torch_source)
    assert convert(own, "onnxruntime", quantization(Precision.int8)).files == (own.path,)
    with pytest.raises(UnsupportedError, match="already int8") as caught:
        convert(own, "onnxruntime", quantization(Precision.fp32))
    assert "quantization=int8" in caught.value.hint


def test_an_int8_onnx_file_becomes_an_int8_openvino_model(
    convert: Convert, torch_source: SourceModel, folder: Path
) -> None:
    pytest.importorskip("openvino")
    own = as_source(convert(torch_source, "onnxruntime", quantization(Precision.int8)), torch_source)
    artifact = convert(own, "openvino", quantization(Precision.int8))
    assert [done.name for done in artifact.steps] == ["onnx_to_openvino"]
    assert set(weight_dtypes(artifact.files[0], "openvino")) == {"int8"}
    sqnr = Task().compare(artifact_runner_reference(own, folder), logits(artifact, folder)).sqnr_db
    assert sqnr is None or sqnr > 15


def artifact_runner_reference(source: SourceModel, folder: Path) -> NDArray[np.float32]:
    images = np.load(small_calibration(folder, 8, seed=1).images)
    return artifact_runner.run(
        source.format, source.path, normalise(images, PREPROCESSING.mean, PREPROCESSING.std, source.layout)
    )


def test_weights_of_another_format_are_not_guessed(torch_source: SourceModel) -> None:
    assert set(weight_dtypes(torch_source.path, "pt2")) == {"float32"}
    with pytest.raises(ConfigError, match="blob"):
        weight_dtypes(torch_source.path, "blob")
