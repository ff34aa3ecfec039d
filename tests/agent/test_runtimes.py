"""Each shipped runtime passes the conformance suite, on a file made by that runtime's own tools.

Those that have devices of their own, or several versions, are tested beside this file.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edlab import devices
from edlab.agent import messages
from edlab.agent.messages import Opened, Throughput
from edlab.agent.preprocess import normalise
from edlab.artifact import Artifact
from edlab.cache import Cache
from edlab.config import DeviceConfig
from edlab.devices import Pool, runtimes
from edlab.errors import AgentError, UnsupportedError
from edlab.testing.runtime import PREPROCESSING, RuntimeConformance, random_images, tiny_network
from edlab.vendors.ncnn.converter import onnx_to_ncnn

MEAN_STD = (PREPROCESSING.mean, PREPROCESSING.std)


def export_onnx(network: Any, path: Path, **options: Any) -> Path:
    import torch

    names = {"input_names": ["input"], "output_names": ["output"]}
    torch.onnx.export(network, (torch.zeros(1, 3, 32, 32),), path, dynamo=False, opset_version=17, **names, **options)
    return path


def keras_twin(network: Any) -> Any:
    """The tiny network in Keras, with the same weights."""
    import keras

    first, _, second, _, third, _, _, linear = network
    model = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            keras.layers.Conv2D(8, 3, strides=2, activation="relu"),
            keras.layers.Conv2D(16, 3, activation="relu"),
            keras.layers.Conv2D(16, 1),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(10),
        ]
    )
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    for layer, twin in zip(convolutions, (first, second, third), strict=True):
        layer.set_weights([twin.weight.detach().numpy().transpose(2, 3, 1, 0), twin.bias.detach().numpy()])
    model.layers[-1].set_weights([linear.weight.detach().numpy().T, linear.bias.detach().numpy()])
    return model


def convert_to_tflite(model: Any, representative: Any = None) -> bytes:
    import tensorflow

    converter = tensorflow.lite.TFLiteConverter.from_keras_model(model)
    if representative is not None:
        converter.optimizations = [tensorflow.lite.Optimize.DEFAULT]
        converter.representative_dataset = representative
        converter.target_spec.supported_ops = [tensorflow.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tensorflow.int8
    return bytes(converter.convert())


class Prepared:
    """What `Request.prepare` gives is the tensor itself, wrapped: what is written to the tensor later is what runs."""

    runtime: str
    layout = "NCHW"

    def test_a_prepared_tensor_is_not_a_copy(self, artifact: Artifact) -> None:
        instance = runtimes.load(self.runtime)([str(file) for file in artifact.files], 1, {})
        instance.load()
        request = instance.compile(1, 1).requests[0]
        request.bind()

        def run(prepared: Any) -> Any:
            request.set_input(prepared)
            request.execute()
            return request.get_outputs()[0].copy()

        first, second = (normalise(image[None], *MEAN_STD, self.layout) for image in random_images()[:2])
        tensor = first.copy()
        prepared = request.prepare(tensor)
        np.testing.assert_array_equal(run(prepared), run(request.prepare(first)))
        tensor[...] = second
        np.testing.assert_array_equal(run(prepared), run(request.prepare(second)))
        assert not np.array_equal(run(request.prepare(first)), run(request.prepare(second)))


class TestTorch(Prepared, RuntimeConformance):
    runtime = "torch"

    def export(self, network: Any, folder: Path) -> list[Path]:
        import torch

        torch.export.save(torch.export.export(network, (torch.zeros(1, 3, 32, 32),)), folder / "net.pt2")
        return [folder / "net.pt2"]


class TestOnnxRuntime(Prepared, RuntimeConformance):
    runtime = "onnxruntime"

    def export(self, network: Any, folder: Path) -> list[Path]:
        return [export_onnx(network, folder / "net.onnx")]

    def test_a_free_batch_dimension_is_searched(self, session: Any, pool: Pool, tmp_path: Path) -> None:
        axes = {"input": {0: "batch"}, "output": {0: "batch"}}
        path = export_onnx(tiny_network(), tmp_path / "free.onnx", dynamic_axes=axes)
        opened = session.open(self.artifact_of([path]), PREPROCESSING, self.device())
        assert opened.inputs[0].shape == (None, 3, 32, 32)
        request = Throughput(
            pool, seconds=0.1, max_seconds=60, max_batch=2, max_in_flight=1, gain=0.0, trial_seconds=0.05
        )
        tried = session.measure(messages.THROUGHPUT, request).search
        assert {(each.batch, each.ips is None) for each in tried} == {(1, False), (2, False)}

    def test_a_fixed_batch_is_said_in_the_search(self, session: Any, opened: Any, pool: Pool) -> None:
        request = Throughput(
            pool, seconds=0.1, max_seconds=60, max_batch=2, max_in_flight=1, gain=0.0, trial_seconds=0.05
        )
        assert "batch is 1" in session.measure(messages.THROUGHPUT, request).search[-1].note

    def test_a_provider_that_the_build_lacks_is_an_error(self, session: Any, artifact: Artifact) -> None:
        with pytest.raises(AgentError, match="does not provide NnapiExecutionProvider"):
            session.open(artifact, PREPROCESSING, self.device(providers=["NnapiExecutionProvider"]))


class TestLiteRt(Prepared, RuntimeConformance):
    runtime = "litert"
    layout = "NHWC"

    def export(self, network: Any, folder: Path) -> list[Path]:
        (folder / "net.tflite").write_bytes(convert_to_tflite(keras_twin(network)))
        return [folder / "net.tflite"]

    def test_quantized_inputs_and_outputs_come_back_as_floats(self, session: Any, pool: Pool, tmp_path: Path) -> None:
        images = normalise(random_images(), PREPROCESSING.mean, PREPROCESSING.std, "NHWC")
        (tmp_path / "int8.tflite").write_bytes(
            convert_to_tflite(keras_twin(tiny_network()), lambda: ([image[None]] for image in images))
        )
        opened = session.open(self.artifact_of([tmp_path / "int8.tflite"]), PREPROCESSING, self.device())
        assert opened.inputs[0].dtype == opened.outputs[0].dtype == "int8"
        assert opened.inputs[0].scale > 0
        session.predict(pool, tmp_path / "logits.npy")
        spread = np.ptp(self.reference())
        np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), self.reference(), atol=0.1 * spread)


class TestNcnn(Prepared, RuntimeConformance):
    runtime = "ncnn"

    def export(self, network: Any, folder: Path) -> list[Path]:
        onnx_to_ncnn([str(export_onnx(network, folder / "net.onnx"))], str(folder / "net.param"), {"fp16": False}, None)
        return [folder / "net.param", folder / "net.bin"]

    def test_float16_is_asked_for_by_name(self, session: Any, opened: Opened, artifact: Artifact) -> None:
        assert opened.options["fp16"] is False
        assert session.open(artifact, PREPROCESSING, self.device(fp16=True)).options["fp16"] is True

    def test_a_file_that_tells_no_shapes_is_refused(self, session: Any, artifact: Artifact, tmp_path: Path) -> None:
        param, weights = artifact.files
        (tmp_path / param.name).write_text(re.sub(r" -23330=\S+", "", param.read_text()))
        (tmp_path / weights.name).write_bytes(weights.read_bytes())
        with pytest.raises(AgentError, match="shape of 'in0'"):
            session.open(
                self.artifact_of([tmp_path / param.name, tmp_path / weights.name]), PREPROCESSING, self.device()
            )


class TestKeras(RuntimeConformance):
    runtime = "keras"
    layout = "NHWC"

    def export(self, network: Any, folder: Path) -> list[Path]:
        keras_twin(network).save(folder / "net.keras")
        return [folder / "net.keras"]


def test_a_format_without_a_runtime_is_refused_here(cache: Cache, tmp_path: Path) -> None:
    device = DeviceConfig(name="board", runtimes={"onnx": "onnxruntime"})
    artifact = Artifact(format="engine", precision="fp16", layout="NCHW", files=(tmp_path / "x",), sha256="")
    with devices.connect(device, cache) as session, pytest.raises(UnsupportedError, match="engine"):
        session.open(artifact, PREPROCESSING, device)


def test_measuring_without_a_model_is_an_error(cache: Cache, tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", random_images())
    with (
        devices.connect(DeviceConfig(name="cpu"), cache) as session,
        pytest.raises(AgentError, match="no model is open"),
    ):
        session.measure(messages.HOST_WORK, messages.HostWork(Pool(str(tmp_path / "images.npy"), [0])))
