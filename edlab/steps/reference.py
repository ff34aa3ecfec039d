"""What the unconverted model says of the same images, run on this machine: computed once per model and data."""

from __future__ import annotations

import dataclasses
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edlab import devices
from edlab.agent.runtimes import find as find_runtime
from edlab.agent.runtimes import names as runtime_names
from edlab.artifact import Artifact
from edlab.cache import Cache, digest
from edlab.config import DeviceConfig
from edlab.data import PreparedData
from edlab.devices import agent_zip
from edlab.errors import ConversionError, DeviceError
from edlab.source import SourceModel
from edlab.steps.load import OnProgress

TOP_K = 5
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
    device: DeviceConfig,
    cache: Cache,
    on_progress: OnProgress,
) -> NDArray[np.float32]:
    """The float32 outputs (images, classes) of a model file on the check images, run on this machine."""
    path = _predict(artifact, source, data, check_images(data), None, host(device), cache, on_progress)
    outputs: NDArray[np.float32] = np.load(path)
    return outputs


def top_classes(source: SourceModel, data: PreparedData, cache: Cache, on_progress: OnProgress) -> NDArray[np.int32]:
    """The `TOP_K` best classes (images, k) of the unconverted model on every evaluation image."""
    path = _predict(Artifact.of(source), source, data, data.evaluation, TOP_K, HOST, cache, on_progress)
    classes: NDArray[np.int32] = np.load(path)
    return classes


def _predict(
    artifact: Artifact,
    source: SourceModel,
    data: PreparedData,
    indices: NDArray[np.int64],
    top_k: int | None,
    device: DeviceConfig,
    cache: Cache,
    on_progress: OnProgress,
) -> Path:
    rows = indices.tolist()
    key = digest(
        [
            artifact.sha256,
            artifact.layout,
            source.preprocessing.model_dump(),
            data.digest,
            rows,
            top_k,
            _runs_by(artifact, device, cache),
        ]
    )

    def make(folder: Path) -> None:
        with devices.connect(device, cache) as session:
            session.open(artifact, source.preprocessing, device)
            session.predict(data.images, rows, folder / "predictions.npy", top_k=top_k, on_progress=on_progress)

    try:
        return cache.get_or_make("predictions", key, make) / "predictions.npy"
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


def _runs_by(artifact: Artifact, device: DeviceConfig, cache: Cache) -> list[str]:
    """What computes the outputs beside the file: the agent's sources, and the runtime with its version."""
    runtime = device.runtimes.get(artifact.format, "")
    agent = agent_zip.build(cache).parent.name
    packages = find_runtime(runtime).packages.split() if runtime in runtime_names() else []
    return [agent, runtime, *(f"{package} {_version(package)}" for package in packages)]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # installed under another name: the runtime itself will tell
        return ""
