"""The outputs of the unconverted model for the same images on this machine, computed once per model and data."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edlab import devices
from edlab.agent.system import instruction_sets
from edlab.artifact import Artifact
from edlab.cache import Cache, digest, sha256_files
from edlab.config import DeviceConfig
from edlab.data import PreparedData
from edlab.devices import Pool, agent_zip, read_array, runtimes
from edlab.errors import ConversionError, DeviceError
from edlab.isolation import run_isolated
from edlab.source import SourceModel
from edlab.stages.load import OnProgress
from edlab.tasks import Predictions

CHECK_IMAGES = 16
_FILE = "predictions.npy"

_FLOAT_VERSION = 1  # raise it when edlab.converters.tflite_float changes what it writes
EVALUATED_IN_FLOAT = ("onnx", "openvino", "tflite")


def this_machine() -> DeviceConfig:
    """The processor that edlab runs on, with all formats that it can open, whatever the target of the run is."""
    return DeviceConfig(name="host", runtimes=runtimes.on_processors())


def host(device: DeviceConfig) -> DeviceConfig:
    """This machine, which also opens the formats of `device` if that is this machine too."""
    here = this_machine()
    own = device.runtimes if device.kind == here.kind and not device.address else {}
    return dataclasses.replace(here, runtimes={**own, **here.runtimes})


def check_images(data: PreparedData) -> NDArray[np.int64]:
    """The images for the check of every conversion: the first of the evaluation images."""
    return data.evaluation[:CHECK_IMAGES]


def predictions(
    artifact: Artifact,
    source: SourceModel,
    data: PreparedData,
    rows: NDArray[np.int64],
    device: DeviceConfig,
    cache: Cache,
    on_progress: OnProgress,
) -> Predictions:
    """The results of the source's task for a model file and these rows of the data, run on this machine."""
    indices, place = rows.tolist(), f"{artifact.format} on this machine"
    key = digest(
        [
            artifact.sha256,
            artifact.layout,
            source.preprocessing.model_dump(),
            source.task,
            source.reader.options,
            [sha256_files([path]) for path in source.reader.files.values()],
            data.digest,
            indices,
            _runs_by(artifact, device, source.reader.modules, cache),
        ]
    )

    def make(folder: Path) -> None:
        with devices.connect(device, cache, source.reader.modules) as session:
            session.open(artifact, source.preprocessing, device, source.task, source.reader)
            pool = Pool(str(data.images), indices)
            session.predict(pool, folder / _FILE, lambda phase, fraction, _: on_progress("reference", fraction, place))

    try:
        read: Predictions = read_array(cache.get_or_make("predictions", key, make) / _FILE)
    except DeviceError as error:
        hint = error.hint
        if artifact.steps:
            hint = (
                f"the step {artifact.steps[-1].name} wrote an invalid file; the source model is valid: use "
                "another quantization or converter"
            )
        raise ConversionError(
            f"the {artifact.format} file does not run on this machine: {error.message}", hint=hint, log=error.log
        ) from error
    return read


def baseline(
    source: SourceModel, data: PreparedData, rows: NDArray[np.int64], cache: Cache, on_progress: OnProgress
) -> Predictions:
    """The predictions of the unconverted model for these rows."""
    return predictions(Artifact.of(source), source, data, rows, this_machine(), cache, on_progress)


def in_float(
    artifact: Artifact,
    source: SourceModel,
    data: PreparedData,
    rows: NDArray[np.int64],
    cache: Cache,
    on_progress: OnProgress,
) -> Predictions:
    """The predictions of a quantized file (one of `EVALUATED_IN_FLOAT`) computed in floating point for these rows."""
    if artifact.format == "tflite":
        artifact = _float_tflite(artifact, cache)
    in_float = dataclasses.replace(
        this_machine(), options={name: {"int8_kernels": "float"} for name in ("onnxruntime", "openvino")}
    )  # the exact result of the file, whatever a runtime's int8 kernels do
    return predictions(artifact, source, data, rows, in_float, cache, on_progress)


def _float_tflite(artifact: Artifact, cache: Cache) -> Artifact:
    """LiteRT has no option for it, so the file itself is rewritten."""
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


def _runs_by(artifact: Artifact, device: DeviceConfig, modules: Sequence[str], cache: Cache) -> list[str]:
    """What determines the outputs: the agent's sources, the runtime with version and options, the processor."""
    runtime = device.runtimes.get(artifact.format, "")
    options = [repr(sorted(device.options.get(runtime, {}).items()))]
    agent = agent_zip.build(cache, modules).parent.name
    packages = runtimes.load(runtime).packages.split() if runtime else []
    processor = [instruction_sets() or ""]  # they decide which int8 kernels are exact
    return [agent, runtime, *options, *processor, *(f"{package} {_version(package)}" for package in packages)]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # installed under another name: the runtime itself will report it
        return ""
