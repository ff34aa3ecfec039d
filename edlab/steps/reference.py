"""What the unconverted model says of the same images, run on this machine: computed once per model and data."""

from __future__ import annotations

import dataclasses
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edlab import devices
from edlab.agent.runtimes import find as find_runtime
from edlab.agent.runtimes import names as runtime_names
from edlab.agent.system import instruction_sets
from edlab.artifact import Artifact
from edlab.cache import Cache, digest, sha256_files
from edlab.config import DeviceConfig
from edlab.data import PreparedData
from edlab.devices import Pool, agent_zip, read_array
from edlab.errors import ConversionError, DeviceError
from edlab.isolation import run_isolated
from edlab.source import SourceModel
from edlab.steps.load import OnProgress

CHECK_IMAGES = 16

# Which runtime opens which format here, whatever the target of the run is.
HOST = DeviceConfig(
    name="host",
    runtimes={
        "pt2": "torch",
        "keras": "keras",
        "onnx": "onnxruntime",
        "openvino": "openvino",
        "tflite": "litert",
        "ncnn": "ncnn",
    },
)

# The same, with int8 files evaluated in floating point: what the file says, whatever a runtime's int8 kernels do.
FLOAT = dataclasses.replace(HOST, options={name: {"int8_kernels": "float"} for name in ("onnxruntime", "openvino")})
_FLOAT_VERSION = 1  # raise it when edlab.converters.tflite_float changes what it writes
EVALUATED_IN_FLOAT = ("onnx", "openvino", "tflite")


def host(device: DeviceConfig) -> DeviceConfig:
    """This machine, which also opens the formats of `device` where that is this machine too."""
    own = device.runtimes if device.kind == HOST.kind and not device.host else {}
    return dataclasses.replace(HOST, runtimes={**own, **HOST.runtimes})


def check_images(data: PreparedData) -> NDArray[np.int64]:
    """The images that every conversion is checked on: the first of the evaluation images."""
    return data.evaluation[:CHECK_IMAGES]


def logits(
    artifact: Artifact,
    source: SourceModel,
    data: PreparedData,
    rows: NDArray[np.int64],
    device: DeviceConfig,
    cache: Cache,
    on_progress: OnProgress,
) -> NDArray[np.float32]:
    """The float32 outputs (rows, classes) of a model file for these rows of the data, run on this machine."""
    indices = rows.tolist()
    key = digest(
        [
            artifact.sha256,
            artifact.layout,
            source.preprocessing.model_dump(),
            data.digest,
            indices,
            _runs_by(artifact, device, cache),
        ]
    )

    def make(folder: Path) -> None:
        with devices.connect(device, cache) as session:
            session.open(artifact, source.preprocessing, device)
            session.predict(Pool(data.images, indices), folder / "logits.npy", on_progress)

    try:
        outputs: NDArray[np.float32] = read_array(cache.get_or_make("predictions", key, make) / "logits.npy", 2)
    except DeviceError as error:
        hint = error.hint
        if artifact.steps:
            hint = (
                f"the step {artifact.steps[-1].name} made a file that does not run; the model file itself is fine: use "
                "another quantization or converter"
            )
        raise ConversionError(
            f"the {artifact.format} file does not run on this machine: {error.message}", hint=hint, log=error.log
        ) from error
    return outputs


def baseline(
    source: SourceModel, data: PreparedData, rows: NDArray[np.int64], cache: Cache, on_progress: OnProgress
) -> NDArray[np.float32]:
    """The outputs of the unconverted model for these rows."""
    return logits(Artifact.of(source), source, data, rows, HOST, cache, on_progress)


def in_float(
    artifact: Artifact,
    source: SourceModel,
    data: PreparedData,
    rows: NDArray[np.int64],
    cache: Cache,
    on_progress: OnProgress,
) -> NDArray[np.float32]:
    """The outputs of a quantized file (one of `EVALUATED_IN_FLOAT`) computed in floating point for these rows."""
    if artifact.format == "tflite":
        artifact = _float_tflite(artifact, cache)
    return logits(artifact, source, data, rows, FLOAT, cache, on_progress)


def _float_tflite(artifact: Artifact, cache: Cache) -> Artifact:
    """LiteRT has no option for it: the file itself is rewritten."""
    function, name = "edlab.converters.tflite_float:quantized_to_float", "model.tflite"

    def make(folder: Path) -> None:
        arguments: dict[str, Any] = {
            "inputs": [str(artifact.files[0])],
            "out": str(folder / name),
            "options": {},
            "calibration": None,
        }
        run_isolated(function, arguments, log=folder / "rewrite.log")

    path = cache.get_or_make("float", digest([function, _FLOAT_VERSION, artifact.sha256]), make) / name
    return artifact.model_copy(update={"files": (path,), "sha256": sha256_files([path]), "precision": "fp32"})


def _runs_by(artifact: Artifact, device: DeviceConfig, cache: Cache) -> list[str]:
    """What computes the outputs: the agent's sources, the runtime with its version and options, the processor."""
    runtime = device.runtimes.get(artifact.format, "")
    options = [repr(sorted(device.options.get(runtime, {}).items()))]
    agent = agent_zip.build(cache).parent.name
    packages = find_runtime(runtime).packages.split() if runtime in runtime_names() else []
    processor = [instruction_sets() or ""]  # they decide which int8 kernels are exact
    return [agent, runtime, *options, *processor, *(f"{package} {_version(package)}" for package in packages)]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # installed under another name: the runtime itself will tell
        return ""
