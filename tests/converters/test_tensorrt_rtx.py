"""The agent's build code and the ONNX files of converter=tensorrt, against a real builder: TensorRT for RTX.

It needs no GPU. EDLAB_TENSORRT_RTX_PYTHON names an interpreter that has tensorrt_rtx and numpy (`pip install
tensorrt-rtx`); else this one is tried.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edlab import converters, models
from edlab.artifact import Artifact
from edlab.cache import Cache, sha256_files
from edlab.composition import compose_config
from edlab.config import ConverterConfig, Precision, Symmetry
from edlab.converters import CalibrationData
from edlab.converters.inspect import weight_dtypes
from edlab.source import SourceModel
from edlab.stages.reference import this_machine
from edlab.testing.converter import quantization

CAPABILITIES = ("SM86", "SM89")  # Ampere, as a Jetson Orin is (8.7 itself is not offered), and Ada
KERNELS_BYTES = 20e6  # of compiled kernels in an int8 engine; those of the others are compiled on the GPU's machine
PRECISIONS = (Precision.fp32, Precision.fp16, Precision.int8)


@pytest.fixture(scope="module")
def python() -> str:
    """The interpreter that has tensorrt_rtx."""
    interpreter = os.environ.get("EDLAB_TENSORRT_RTX_PYTHON", sys.executable)
    probe = subprocess.run([interpreter, "-c", "import tensorrt_rtx, numpy"], capture_output=True, text=True)
    if probe.returncode:
        pytest.skip(f"{interpreter} has no tensorrt_rtx: set EDLAB_TENSORRT_RTX_PYTHON to one that has")
    return interpreter


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(tmp_path_factory.mktemp("rtx") / "cache")


@pytest.fixture(scope="module", params=["inception_v3", "mnasnet", "mobilenet_v2"])
def source(request: pytest.FixtureRequest, cache: Cache) -> SourceModel:
    """A model of the article's Table I, with random weights."""
    config = compose_config([f"model={request.param}", "model.weights=random"]).model
    return models.load(config, cache, log=cache.root.with_name("load.log"))


def convert(source: SourceModel, precision: Precision, cache: Cache) -> tuple[Artifact, dict[str, Any]]:
    """The ONNX file that goes to the target, and the options of the build there."""
    wanted = quantization(precision, activations=Symmetry.symmetric, images=4)
    config = ConverterConfig(name="tensorrt")
    artifact = converters.convert(
        source,
        wanted,
        config,
        calibration=lambda: noise(source, cache.root / "noise"),
        cache=cache,
        portable=this_machine().runtimes,
    )
    (step,) = converters.steps_on_target(source, wanted, config)
    return artifact, dict(step.options)


def noise(source: SourceModel, folder: Path) -> CalibrationData:
    folder.mkdir(parents=True, exist_ok=True)
    size = source.preprocessing.height, source.preprocessing.width
    path = folder / f"{source.name}.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (4, *size, 3), np.uint8))
    return CalibrationData(path, range(4), source.preprocessing, sha256_files([path]))


def build(python: str, onnx: Path, out: Path, options: dict[str, Any], capability: str) -> dict[str, Any]:
    ended = subprocess.run(
        [python, str(Path(__file__).with_name("rtx_build.py")), str(onnx), str(out), json.dumps(options), capability],
        capture_output=True,
        text=True,
    )
    if ended.returncode:
        raise RuntimeError(ended.stderr)
    told: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return told


@pytest.mark.parametrize("precision", PRECISIONS)
def test_an_engine_is_built_in_every_precision(
    python: str, source: SourceModel, precision: Precision, cache: Cache, tmp_path: Path
) -> None:
    artifact, options = convert(source, precision, cache)
    engines = []
    for capability in CAPABILITIES:
        told = build(python, artifact.files[0], tmp_path / capability, options, capability)
        print(f"{source.name} {precision} {capability}: {told}")
        engines.append((tmp_path / capability).read_bytes())
    assert engines[0] != engines[1]  # each is for the GPU that it names
    weights = sum(weight_dtypes(artifact.files[0], "onnx").values())
    bytes_each = {Precision.fp32: 4, Precision.fp16: 2, Precision.int8: 1}[precision]
    assert bytes_each * weights < len(engines[0]) < (bytes_each + 1) * weights + KERNELS_BYTES


def test_what_the_parser_refuses_is_named(python: str, tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    given, made = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 10]) for name in ("in", "out"))
    graph = helper.make_graph([helper.make_node("Teleport", ["in"], ["out"])], "odd", [given], [made])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "odd.onnx"
    )
    options = {"precision": "fp32", "workspace_mb": 64, "tf32": False}
    with pytest.raises(RuntimeError, match=r"does not accept the ONNX file: node 0 \(Teleport\): ."):
        build(python, tmp_path / "odd.onnx", tmp_path / "odd.engine", options, CAPABILITIES[0])
