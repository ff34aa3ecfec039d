"""The int8 probe: what kernels that saturate give is told from what exact ones give, and the exact ones run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edlab import converters, devices
from edlab.agent import int8
from edlab.agent.messages import Int8Kernels
from edlab.artifact import Artifact
from edlab.cache import Cache
from edlab.config import ConverterConfig, DeviceConfig, Precision, Symmetry
from edlab.converters.tflite_float import quantized_to_float
from edlab.devices import Pool
from edlab.errors import AgentError
from edlab.stages.reference import this_machine
from edlab.testing.converter import PREPROCESSING, quantization, small_calibration, small_source

CONVERTERS = {"onnxruntime": "onnxruntime", "openvino": "openvino", "litert": "litert"}
FORMATS = {"onnxruntime": "onnx", "openvino": "openvino", "litert": "tflite"}
IMAGES = 24


def saturating_outputs() -> np.ndarray:
    """What `vpmaddubsw` gives for the uint8 branch: each pair of products is cut off at 16 bits."""
    rows = []
    for grey in int8.GREYS:
        pair = np.minimum(2 * grey * int8.WEIGHTS.astype(int), 2**15 - 1)
        sums = [pair * (3 * side * side) / 2 * int8.WEIGHT_SCALE for side in (int8.KERNEL, int8.SIDE)]
        steps = (int8.CONV_STEP, int8.PRODUCT_STEP)
        rows.append(np.concatenate([np.round(total / step) * step for total, step in zip(sums, steps, strict=True)]))
    return np.stack(rows)


def test_exact_outputs_are_told_from_saturated_and_from_foreign_ones() -> None:
    exact = int8.expected(2 * int8.CHANNELS)
    assert int8.judge(exact) == int8.EXACT
    assert int8.judge(exact + np.tile(np.repeat([int8.CONV_STEP, int8.PRODUCT_STEP], int8.CHANNELS), 1)) == int8.EXACT
    assert int8.judge(saturating_outputs()) == int8.SATURATING
    assert int8.judge(exact * 2) == int8.UNKNOWN
    assert int8.judge(np.full_like(exact, np.nan)) == int8.UNKNOWN
    assert int8.judge(exact[:, :7]) == int8.UNKNOWN


def device_of(runtime: str, **options: Any) -> DeviceConfig:
    return DeviceConfig(name="here", runtimes={FORMATS[runtime]: runtime}, options={runtime: options})


def logits_of(artifact: Artifact, device: DeviceConfig, folder: Path) -> tuple[np.ndarray, Int8Kernels | None]:
    """The outputs for a few images, and what was found of the int8 kernels."""
    images = small_calibration(folder, IMAGES, seed=2).images
    with devices.connect(device, Cache(folder / "cache")) as session:
        opened = session.open(artifact, PREPROCESSING, device)
        session.predict(Pool(str(images), list(range(IMAGES))), folder / "logits.npy")
    return np.load(folder / "logits.npy"), opened.int8


@pytest.fixture(scope="module", params=[Symmetry.asymmetric, Symmetry.symmetric])
def symmetry(request: pytest.FixtureRequest) -> Symmetry:
    return Symmetry(request.param)


@pytest.fixture(scope="module", params=list(CONVERTERS))
def converted(
    request: pytest.FixtureRequest, symmetry: Symmetry, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Artifact, Path]:
    """A runtime, and the small network in int8 for it."""
    folder = tmp_path_factory.mktemp("int8")
    artifact = converters.convert(
        small_source(folder),
        quantization(Precision.int8, activations=symmetry),
        ConverterConfig(name=CONVERTERS[request.param]),
        calibration=lambda: small_calibration(folder, 16),
        cache=Cache(folder / "cache"),
        portable=this_machine().runtimes,
    )
    return request.param, artifact, folder


def test_by_default_int8_runs_with_exact_kernels_on_any_processor(converted: tuple[str, Artifact, Path]) -> None:
    runtime, artifact, folder = converted
    _, found = logits_of(artifact, device_of(runtime), folder)
    assert found is not None
    assert found.int8_kernels == int8.EXACT
    assert found.arithmetic


def test_exact_kernels_give_what_the_file_gives_in_floating_point(converted: tuple[str, Artifact, Path]) -> None:
    runtime, artifact, folder = converted
    exact, _ = logits_of(artifact, device_of(runtime), folder)
    if runtime == "litert":
        quantized_to_float([str(artifact.files[0])], str(folder / "float.tflite"), {}, None)
        rewritten = artifact.model_copy(update={"files": (folder / "float.tflite",), "precision": "fp32"})
        in_float, _ = logits_of(rewritten, device_of(runtime), folder)
    else:
        in_float, _ = logits_of(artifact, device_of(runtime, int8_kernels="float"), folder)
    noise = np.sum((exact - in_float) ** 2)
    assert noise == 0 or 10 * np.log10(np.sum(in_float**2) / noise) > 25


def test_fast_kernels_are_named_as_what_they_are_here(converted: tuple[str, Artifact, Path]) -> None:
    runtime, artifact, folder = converted
    if runtime == "litert":
        pytest.skip("LiteRT has one kind of kernels")
    _, found = logits_of(artifact, device_of(runtime, int8_kernels="fast"), folder)
    assert found is not None
    assert found.int8_kernels in (int8.EXACT, int8.SATURATING)
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    if "avx2" in flags:
        vnni = "avx_vnni" in flags or "avx512_vnni" in flags
        assert found.int8_kernels == (int8.EXACT if vnni else int8.SATURATING)


def test_a_float_file_has_no_int8_kernels(tmp_path: Path) -> None:
    source = small_source(tmp_path)
    device = DeviceConfig(name="here", runtimes={"pt2": "torch"})
    _, found = logits_of(Artifact.of(source), device, tmp_path)
    assert found is None


def test_kernels_that_do_not_exist_are_refused_by_name(tmp_path: Path) -> None:
    artifact = Artifact.of(small_source(tmp_path))
    device = DeviceConfig(name="here", runtimes={"pt2": "onnxruntime"}, options={"onnxruntime": {"int8_kernels": "x"}})
    with pytest.raises(AgentError, match="int8_kernels=x") as caught:
        logits_of(artifact, device, tmp_path)
    assert "exact or fast or float" in caught.value.hint


def test_a_runtime_that_cannot_run_the_probe_leaves_the_kernels_unknown(tmp_path: Path) -> None:
    artifact = Artifact.of(small_source(tmp_path)).model_copy(update={"precision": "int8", "format": "onnx"})
    device = DeviceConfig(name="here", runtimes={"onnx": "torch"})  # torch opens no ONNX probe
    _, found = logits_of(artifact, device, tmp_path)
    assert found is not None
    assert found.int8_kernels == int8.UNKNOWN
