"""The tensorrt runtime, through the real agent, against a stand-in that plays versions 8, 10 and 11 (`standins/`).

What a real TensorRT builder says of the same code is in tests/converters/test_tensorrt_rtx.py.
"""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from test_jetson import install_nvpmodel
from workplace import Workplace

from edlab import converters, devices
from edlab.agent import cuda, errors, messages
from edlab.agent.messages import Calibration, Opened, Throughput
from edlab.agent.preprocess import normalise
from edlab.artifact import Artifact
from edlab.cache import Cache, sha256_files
from edlab.config import CalibrationMethod, ConverterConfig, DeviceConfig, Precision, Symmetry
from edlab.devices import AgentSession, Pool
from edlab.errors import AgentError
from edlab.record import RunRecord
from edlab.source import SourceModel
from edlab.stages.reference import this_machine
from edlab.testing.converter import quantization, small_calibration, small_source
from edlab.testing.runtime import PREPROCESSING, RuntimeConformance

STANDINS = Path(__file__).parent / "standins"
PLAIN = {"precision": "fp32", "workspace_mb": 64, "tf32": False}


@pytest.fixture(scope="session")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the stand-in as libcudart.so and libcuda.so.1."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("the stand-in for libcudart is C, and there is no cc")
    folder = tmp_path_factory.mktemp("cuda")
    for name in ("libcudart.so", "libcuda.so.1"):
        source, out = STANDINS / "cudart.c", folder / name
        subprocess.run([compiler, "-shared", "-fPIC", "-Wall", "-Werror", str(source), "-o", str(out)], check=True)
    return folder


@pytest.fixture
def play(libraries: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """`play("8.6.2")`: agents that are started from now on find that version of TensorRT."""

    def environment(version: str) -> None:
        _set_environment(monkeypatch, libraries, version)

    return environment


def _set_environment(monkeypatch: pytest.MonkeyPatch, libraries: Path, version: str) -> None:
    monkeypatch.setenv("EDLAB_STANDIN_TENSORRT", version)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(libraries))
    monkeypatch.setenv("PYTHONPATH", str(STANDINS))


class _Conformance(RuntimeConformance):
    runtime = "tensorrt"
    version: ClassVar[str]

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def plays(cls, libraries: Path) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as monkeypatch:
            _set_environment(monkeypatch, libraries, cls.version)
            yield

    def export(self, network: Any, folder: Path) -> list[Path]:
        import torch

        torch.onnx.export(
            network,
            (torch.zeros(1, 3, 32, 32),),
            folder / "net.onnx",
            dynamo=False,
            opset_version=17,
            input_names=["input"],
            output_names=["output"],
        )
        with devices.connect(self.device(), Cache(folder / "cache")) as session:
            session.build("tensorrt", [folder / "net.onnx"], folder / "net.engine", options=PLAIN)
        return [folder / "net.engine"]

    def test_a_batch_is_refused_in_the_search(self, session: AgentSession, opened: Any, pool: Pool) -> None:
        request = Throughput(
            pool, seconds=0.1, max_seconds=60, max_batch=2, max_in_flight=1, gain=0.0, trial_seconds=0.05
        )
        tried = session.measure(messages.THROUGHPUT, request).search
        assert "batch of 1" in tried[-1].note

    def test_the_profile_names_the_nodes_that_were_fused(self, session: AgentSession, opened: Any, pool: Pool) -> None:
        layers = session.measure(messages.PROFILE, messages.Profile(pool, 3)).layers
        assert layers is not None
        assert [layer.sources for layer in layers[:2]] == [[], ["/0/Conv", "/1/Relu"]]
        assert {layer.ms for layer in layers} == {0.25}


class TestTensorrt82(_Conformance):
    version = "8.2.1"  # JetPack 4.6: bindings


class TestTensorrt86(_Conformance):
    version = "8.6.2"  # JetPack 6.0


class TestTensorrt103(_Conformance):
    version = "10.3.0"  # JetPack 6.1


class TestTensorrt11(_Conformance):
    version = "11.0.0"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tensorrt")


@pytest.fixture(scope="module")
def source(folder: Path) -> SourceModel:
    return small_source(folder)


class Conversion:
    """What converter=tensorrt gives for the small network, and what the target makes of it."""

    def __init__(self, folder: Path, source: SourceModel, precision: Precision, **settings: Any) -> None:
        method = settings.pop("method", CalibrationMethod.minmax)
        wanted = quantization(precision, activations=Symmetry.symmetric, method=method)
        config = ConverterConfig(name="tensorrt", options=settings)
        self.calibration = small_calibration(folder, 16)
        self.artifact = converters.convert(
            source,
            wanted,
            config,
            calibration=lambda: self.calibration,
            cache=Cache(folder / "cache"),
            portable=this_machine().runtimes,
        )
        (self.step,) = converters.steps_on_target(source, wanted, config)

    def build(self, session: AgentSession, out: Path, on_progress: Any = None) -> dict[str, Any]:
        """What the stand-in tells of the engine that it built."""
        session.build(
            "tensorrt",
            self.artifact.files,
            out,
            options=self.step.options,
            calibration=Calibration(**self.calibration.describe()) if self.step.calibrates else None,
            on_progress=on_progress,
        )
        told: dict[str, Any] = json.loads(out.read_bytes().split(b"\n", 3)[2])
        return told


def connect(tmp_path: Path) -> Any:
    return devices.connect(DeviceConfig(name="board", runtimes={"tensorrt": "tensorrt"}), Cache(tmp_path / "agents"))


@pytest.mark.parametrize(
    ("version", "precision", "typed", "flags"),
    [
        ("8.2.1", Precision.fp32, False, []),
        ("8.6.2", Precision.fp16, False, ["FP16"]),
        ("8.6.2", Precision.int8, False, ["INT8"]),
        ("10.3.0", Precision.fp16, True, []),
        ("10.3.0", Precision.int8, True, []),
        ("11.0.0", Precision.fp32, True, []),
        ("11.0.0", Precision.fp16, True, []),
        ("11.0.0", Precision.int8, True, []),
    ],
)
def test_each_version_is_told_the_precision_in_its_own_way_and_the_numbers_hold(
    play: Callable[[str], None],
    folder: Path,
    source: SourceModel,
    tmp_path: Path,
    version: str,
    precision: Precision,
    typed: bool,
    flags: list[str],
) -> None:
    play(version)
    conversion = Conversion(folder, source, precision)
    with connect(tmp_path) as session:
        told = conversion.build(session, tmp_path / "model.engine")
        assert told["strongly_typed"] is typed
        assert told["flags"] == flags
        assert told["workspace"] == 1024 << 20
        images = small_calibration(tmp_path, 8, seed=1).images
        assert np.allclose(
            engine_logits(session, tmp_path, source, images),
            onnx_logits(conversion.artifact, source, images),
            atol=1e-4,
        )


def engine_logits(session: AgentSession, folder: Path, source: SourceModel, images: Path) -> Any:
    files = (folder / "model.engine",)
    engine = Artifact(format="tensorrt", precision="", layout="NCHW", files=files, sha256=sha256_files(files))
    session.open(engine, source.preprocessing, DeviceConfig(name="board", runtimes={"tensorrt": "tensorrt"}))
    session.predict(Pool(str(images), list(range(8))), folder / "logits.npy")
    return np.load(folder / "logits.npy")


def onnx_logits(artifact: Artifact, source: SourceModel, images: Path) -> Any:
    import onnxruntime

    batch = normalise(np.load(images), source.preprocessing.mean, source.preprocessing.std, "NCHW")
    session = onnxruntime.InferenceSession(artifact.files[0])
    return np.concatenate([session.run(None, {session.get_inputs()[0].name: image[None]})[0] for image in batch])


@pytest.mark.parametrize("version", ["8.2.1", "10.3.0"])
@pytest.mark.parametrize(
    ("method", "calibrator"),
    [
        (CalibrationMethod.minmax, "IInt8MinMaxCalibrator"),
        (CalibrationMethod.entropy, "IInt8EntropyCalibrator2"),
    ],
)
def test_implicit_int8_is_calibrated_on_the_target_with_every_image(
    play: Callable[[str], None],
    folder: Path,
    source: SourceModel,
    tmp_path: Path,
    version: str,
    method: CalibrationMethod,
    calibrator: str,
) -> None:
    play(version)
    conversion = Conversion(folder, source, Precision.int8, int8="implicit", method=method)
    assert conversion.artifact.precision == "fp32"  # what travels is not quantized
    seen: list[str] = []
    with connect(tmp_path) as session:
        out = tmp_path / "model.engine"
        told = conversion.build(session, out, lambda phase, fraction, message: seen.append(message))
    assert (told["strongly_typed"], told["flags"], told["calibrator"]) == (False, ["INT8"], calibrator)
    images = np.load(conversion.calibration.images)
    last = normalise(images[15:16], source.preprocessing.mean, source.preprocessing.std, "NCHW")
    assert told["calibration"] == {"batches": 16, "last": pytest.approx(float(last.sum()))}
    assert "calibrating, image 16 of 16" in seen


def test_implicit_int8_is_refused_by_version_11_with_the_mend(
    play: Callable[[str], None], folder: Path, source: SourceModel, tmp_path: Path
) -> None:
    play("11.0.0")
    with connect(tmp_path) as session, pytest.raises(AgentError, match="does not support implicit int8") as caught:
        Conversion(folder, source, Precision.int8, int8="implicit").build(session, tmp_path / "model.engine")
    assert caught.value.hint == "set converter.options.int8=explicit"


def test_tf32_is_off_unless_it_is_asked_for(
    play: Callable[[str], None], folder: Path, source: SourceModel, tmp_path: Path
) -> None:
    play("10.3.0")
    with connect(tmp_path) as session:
        out = tmp_path / "model.engine"
        assert Conversion(folder, source, Precision.fp32, tf32=True).build(session, out)["flags"] == ["TF32"]


@pytest.mark.parametrize(("version", "node"), [("8.6.2", r"node 0: "), ("10.3.0", r"node 0 \(Teleport\): ")])
def test_what_the_parser_refuses_is_said_in_its_words(
    play: Callable[[str], None], tmp_path: Path, version: str, node: str
) -> None:
    play(version)
    onnx_file(tmp_path / "odd.onnx", "Teleport", [1, 4])
    with (
        connect(tmp_path) as session,
        pytest.raises(AgentError, match=f"{version} does not accept the ONNX file: {node}.*Teleport") as caught,
    ):
        session.build("tensorrt", [tmp_path / "odd.onnx"], tmp_path / "odd.engine", options=PLAIN)
    assert caught.value.hint


@pytest.mark.parametrize("version", ["8.2.1", "8.6.2", "11.0.0"])
def test_a_free_batch_becomes_one(play: Callable[[str], None], tmp_path: Path, version: str) -> None:
    play(version)
    onnx_file(tmp_path / "free.onnx", "Relu", ["batch", 3, 2, 2])
    np.save(tmp_path / "images.npy", np.full((2, 2, 2, 3), 255, np.uint8))
    with connect(tmp_path) as session:
        opened = build_and_open(session, tmp_path / "free.onnx")
        assert opened.inputs[0].shape == opened.outputs[0].shape == (1, 3, 2, 2)
        session.predict(Pool(str(tmp_path / "images.npy"), [0, 1]), tmp_path / "out.npy")
    assert (np.load(tmp_path / "out.npy") == 1).all()


@pytest.mark.parametrize("version", ["8.2.1", "10.3.0"])
def test_an_output_whose_size_depends_on_the_image_is_refused(
    play: Callable[[str], None], tmp_path: Path, version: str
) -> None:
    play(version)
    onnx_file(tmp_path / "free.onnx", "Compress", [1, 3, 2, 2], made=["kept"], mask=[1, 0, 1])
    with connect(tmp_path) as session, pytest.raises(AgentError, match=r"'out' is \[-1\]: its size depends"):
        build_and_open(session, tmp_path / "free.onnx")


def test_memory_that_a_context_does_not_take_is_an_error(
    play: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play("10.3.0")
    monkeypatch.setenv("EDLAB_STANDIN_REFUSES", "set_tensor_address")
    onnx_file(tmp_path / "net.onnx", "Relu", [1, 3, 2, 2])
    with connect(tmp_path) as session, pytest.raises(AgentError, match="rejects the memory for 'in'"):
        build_and_open(session, tmp_path / "net.onnx")


def build_and_open(session: AgentSession, path: Path) -> Opened:
    """What `open` tells of the engine of this ONNX file, whose inputs are to be images from 0 to 1."""
    files = (path.with_suffix(".engine"),)
    session.build("tensorrt", [path], files[0], options=PLAIN)
    engine = Artifact(format="tensorrt", precision="fp32", layout="NCHW", files=files, sha256="")
    plain = PREPROCESSING.model_copy(update={"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)})
    return session.open(engine, plain, DeviceConfig(name="board", runtimes={"tensorrt": "tensorrt"}))


def test_a_free_height_is_refused(play: Callable[[str], None], tmp_path: Path) -> None:
    play("10.3.0")
    onnx_file(tmp_path / "free.onnx", "Relu", [1, 3, "height", 2])
    with connect(tmp_path) as session, pytest.raises(AgentError, match=r"'in' is \[1, 3, -1, 2\]"):
        session.build("tensorrt", [tmp_path / "free.onnx"], tmp_path / "model.engine", options=PLAIN)


def onnx_file(
    path: Path, operator: str, shape: list[Any], made: list[Any] | None = None, mask: list[int] | None = None
) -> None:
    """One operator from "in" to "out", which has the shape `made` (None: the same); `mask` is its second input."""
    import onnx
    from onnx import TensorProto, helper

    ends = [helper.make_tensor_value_info("in", TensorProto.FLOAT, shape)]
    ends.append(helper.make_tensor_value_info("out", TensorProto.FLOAT, made or shape))
    masks = [helper.make_tensor("mask", TensorProto.BOOL, [len(mask)], mask)] if mask else []
    node = helper.make_node(operator, ["in", *[value.name for value in masks]], ["out"])
    graph = helper.make_graph([node], "net", ends[:1], ends[1:], masks)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def test_the_identity_names_what_an_engine_is_for(play: Callable[[str], None], tmp_path: Path) -> None:
    play("10.3.0")
    with connect(tmp_path) as session:
        told = session.identity("tensorrt", {})
    board = {name: value for name, value in told.items() if name not in ("board", "l4t")}  # those of this machine
    assert board == {
        "tensorrt": "10.3.0",
        "cuda": "12.6",
        "gpu": "Stand-in GPU",
        "compute_capability": "8.7",
        "multiprocessors": "14",
        "memory_gib": "30",
    }


def test_an_engine_is_for_the_power_mode_that_its_kernels_were_timed_in(
    play: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play("10.3.0")
    install_nvpmodel(tmp_path / "bin", monkeypatch)
    with connect(tmp_path) as session:
        assert session.identity("tensorrt", {})["power_mode"] == "MODE_15W"
        session.set_knob("power_mode", "MAXN")
        assert session.identity("tensorrt", {})["power_mode"] == "MAXN"


def test_an_engine_of_another_version_is_not_opened(
    play: Callable[[str], None], folder: Path, source: SourceModel, tmp_path: Path
) -> None:
    play("10.3.0")
    with connect(tmp_path) as session:
        Conversion(folder, source, Precision.fp32).build(session, tmp_path / "model.engine")
    play("11.0.0")
    images = small_calibration(tmp_path, 8, seed=1).images
    with connect(tmp_path) as session, pytest.raises(AgentError, match="not compatible with this version") as caught:
        engine_logits(session, tmp_path, source, images)
    assert "convert it again" in caught.value.hint


@pytest.fixture
def cudart(libraries: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`edlab.agent.cuda` of this process finds the stand-in."""
    monkeypatch.setattr(cuda, "_FOLDERS", (f"{libraries}/",))
    cuda.library.cache_clear()
    yield
    cuda.library.cache_clear()


def test_what_is_copied_to_the_gpu_comes_back(cudart: None) -> None:
    given, back = cuda.PinnedArray((2, 3), "float32"), cuda.PinnedArray((2, 3), "float32")
    given.array[...], back.array[...] = np.arange(6).reshape(2, 3), -1
    memory, stream = cuda.DeviceMemory(24), cuda.Stream()
    stream.to_device(given, memory)
    stream.to_host(memory, back)
    stream.synchronize()
    np.testing.assert_array_equal(back.array, given.array)


def test_memory_that_the_gpu_lacks_is_an_error_in_cudas_words(cudart: None) -> None:
    with pytest.raises(errors.AgentError, match=r"cudaMalloc: out of memory \(error 2\)"):
        cuda.DeviceMemory(1 << 50)


def test_a_target_without_libcudart_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cuda, "_FOLDERS", (f"{tmp_path}/",))
    cuda.library.cache_clear()
    with pytest.raises(errors.AgentError, match="no libcudart") as caught:
        cuda.library()
    assert "nvidia-jetpack" in caught.value.hint


def test_a_run_keeps_its_engine_and_builds_anew_only_for_another_target(libraries: Path, workplace: Workplace) -> None:
    def run(version: str, *words: str) -> RunRecord:
        workplace.environment["EDLAB_STANDIN_TENSORRT"] = version
        ended = workplace.run(
            "device=jetson_orin",
            "device.kind=local",
            f"device.python={sys.executable}",
            "device.stand_in=a stand-in for TensorRT",
            f"device.machines=[{platform.machine()}]",
            "quantization=int8",
            *words,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        (record,) = workplace.records()
        assert (
            record.metrics["emulated_agreement_top1"] > 0.8
        )  # of the engine itself: nothing here opens it but the target
        assert record.metrics["emulated_accuracy_top1"] > 0.9
        assert "accuracy_top1" not in record.metrics
        assert record.details["artifact"]["format"] == "tensorrt"
        assert built(record)["tools"]["tensorrt"] == version
        return record

    def built(record: RunRecord) -> dict[str, Any]:
        step: dict[str, Any] = record.details["artifact"]["steps"][-1]
        return step

    workplace.environment.update(PYTHONPATH=str(STANDINS), LD_LIBRARY_PATH=str(libraries))
    assert not built(run("10.3.0"))["cached"]
    again = run("10.3.0")
    assert built(again)["cached"]
    assert again.metrics["int8_weights_fraction"] > 0.9
    assert not built(run("10.7.0"))["cached"]
    calibrated_there = run("10.3.0", "converter.options.int8=implicit")
    assert "int8_weights_fraction" not in calibrated_there.metrics  # the file that can be read is float
