"""edlab.json: everything that a program needs to know about a converted model, and what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edlab import __version__, metrics, tasks
from edlab.agent import tasks as agent_tasks
from edlab.agent.messages import Opened, TensorSpec
from edlab.agent.tasks import Task as AgentTask
from edlab.artifact import Artifact
from edlab.cache import sha256_files
from edlab.config import EdlabConfig, ExifOrientation
from edlab.data import PreparedData
from edlab.deployable.program import Program
from edlab.record import RunRecord
from edlab.registry import load_target, plugins
from edlab.source import Preprocessing, SourceModel
from edlab.tasks.detection.annotations import Annotations

NAME = "edlab.json"
VERSION = 1
ANCHORS = "anchors.npy"


def build(
    record: RunRecord,
    config: EdlabConfig,
    source: SourceModel,
    data: PreparedData,
    artifact: Artifact,
    opened: Opened | None,
    options: Mapping[str, Any],
    requirement: str,
    program: Program | str,
) -> dict[str, Any]:
    """The contents of edlab.json. docs/deploying.md describes them.

    `opened` is None if the run ended before a runtime opened the file; `options` are those of the runtime,
    `requirement` is what pip installs for it, `program` is the example or why there is none.
    """
    run = {"id": record.run_id, "uuid": record.uuid, "name": record.name, "sweep": record.sweep_id}
    example: dict[str, Any] = {"example": None, "no_example": program, "how_to_run": []}
    if isinstance(program, Program):
        commands = [f"pip install numpy pillow {requirement}", f"python {program.name} {program.input}"]
        example = {"example": program.name, "no_example": "", "how_to_run": commands}
    return {
        "version": VERSION,
        "edlab": __version__,
        "run": run | {"started": record.started_at, "status": record.status.value, "device": config.device.name},
        "task": source.task,
        "format": artifact.format,
        "precision": artifact.precision,
        "files": [
            {"name": file.name, "sha256": sha256_files([file]), "bytes": file.stat().st_size} for file in artifact.files
        ],
        "runtime": opened
        and {
            "name": opened.runtime,
            "version": opened.version,
            "install": f"pip install {requirement}",
            "options": dict(options),
            "int8_kernels": opened.int8 and opened.int8.arithmetic,
        },
        "preprocessing": _preprocessing(config, source, artifact),
        "inputs": [_spec(spec) for spec in opened.inputs] if opened else [],
        "outputs": [_spec(spec) for spec in opened.outputs] if opened else [],
        "output_in_source": source.output,
        "labels": _labels(source, data),
        source.task: _task_options(source),
        "quantization": _with_prefix(record.params, "quantization."),
        "source": {
            "model": source.name,
            "format": source.format,
            "sha256": source.sha256,
            "weights": source.weights,
            "weights_note": source.weights_note,
            "license": source.license or None,
        },
        "conversion": [{"step": step.name, "tools": step.tools, "options": step.options} for step in artifact.steps],
        "measured": _measured(record, source),
        "assumptions": _assumptions(source, data),
        **example,
        "batch": _batch(source, opened),
    }


def reader(task: str) -> type[AgentTask]:
    """The class that reads the outputs of a task, also of a plugin's."""
    entry = plugins("agent_tasks").get(task)
    return load_target(f"{entry.value}:Task") if entry else agent_tasks.find(task)


def _preprocessing(config: EdlabConfig, source: SourceModel, artifact: Artifact) -> dict[str, Any]:
    """The keys of `edlab.source.Preprocessing`, and what the pixels are put into."""
    stated = source.preprocessing.model_dump(mode="json") | {"layout": artifact.layout}
    if not isinstance(source.preprocessing, Preprocessing):
        return {"kind": "array"} | stated
    turned = config.dataset.exif_orientation == ExifOrientation.apply
    origins = {key: origin for key, origin in source.preprocessing_origins.items() if key in stated}
    scale = "pixel / 255, then (x - mean) / std per channel, in the order of channels"
    return {
        "kind": "image",
        **stated,
        "apply_orientation": turned,
        "scale": scale,
        "origins": origins,
        "note": source.preprocessing_note,
    }


def _spec(spec: TensorSpec) -> dict[str, Any]:
    """A tensor; real value = scale x (integer - zero_point) if it is quantized."""
    return dict(spec._asdict(), shape=list(spec.shape))


def _labels(source: SourceModel, data: PreparedData) -> dict[str, Any]:
    """The names of the classes as the model numbers them; None where the name is unknown."""
    offset = source.label_offset
    named, origin = dict(enumerate(source.class_names)), "the model"
    if not named and data.kind != "synthetic":
        origin = f"the data set {data.name}"
        named = {index + offset: name for name, index in reversed(data.classes.items())}
        if isinstance(data.labels, Annotations):
            named |= {index + offset: name for index, name in enumerate(data.labels.class_names)}
    count = source.num_classes or max(named, default=-1) + 1
    return {
        "names": [named.get(index) for index in range(count)] if named else None,
        "origin": origin if named else "unknown: neither the model nor the data set names them",
        "classes": source.num_classes,
        "label_offset": offset,
        "label_offset_meaning": "class of the data set = class of the model - label_offset",
    }


def _task_options(source: SourceModel) -> dict[str, Any]:
    """How the outputs are read: the options of the task, with the defaults."""
    files = {name: ANCHORS if name == "anchors" else path.name for name, path in source.reader.files.items()}
    return {**reader(source.task).options, **source.reader.options, **files}


def _measured(record: RunRecord, source: SourceModel) -> dict[str, Any]:
    """The headline metrics, under emulated or estimated names if they were not measured; and the verdict."""
    names = [*metrics.headlines(tasks.get(source.task).headline), "accuracy_drop", "artifact_size_mb"]
    prefixed = [prefix + name for name in names for prefix in ("", "emulated_", "estimated_")]
    verdict = record.verdict
    return {
        "metrics": {name: record.metrics[name] for name in prefixed if name in record.metrics},
        "missing": {name: record.missing[name] for name in names if name in record.missing},
        "verdict": verdict.state.value if verdict else None,
        "reasons": [f"{reason.code}: {reason.message}" for reason in verdict.reasons] if verdict else [],
        "failure": record.reason,
    }


def _assumptions(source: SourceModel, data: PreparedData) -> list[str]:
    """What neither the model nor the user has stated."""
    stated = source.inputs_in_use()
    found = [f"{key} = {stated[key].removesuffix(' (assumed)')}" for key in source.assumed]
    if source.label_offset_origin == "assumed":
        found.append(f"label_offset = {source.label_offset}")
    if not source.trained:
        found.append(f"the weights are untrained: {source.weights_note}")
    return found + [f"{reason.code}: {reason.message}" for reason in (*source.reasons, *data.reasons)]


def _batch(source: SourceModel, opened: Opened | None) -> dict[str, Any]:
    """The arrays of `edlab.deployable.pyfunc`, without the batch: the same for every format of a model."""
    given = source.preprocessing
    if isinstance(given, Preprocessing):
        inputs = {"shape": [given.height, given.width, given.channel_count], "dtype": "uint8"}
    else:
        inputs = {"shape": list(given.shape), "dtype": opened.inputs[0].dtype if opened else "float32"}
        inputs["dtype"] = inputs["dtype"] if inputs["dtype"] == "float64" else "float32"
    shape: list[int] | None = None
    if source.task == "detection":
        shape = [_task_options(source)["max_detections"], 6]
    elif source.task == "classification" and source.num_classes:
        shape = [source.num_classes]
    return {"input": inputs, "output": {"shape": shape, "dtype": "float32"}}


def _with_prefix(params: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {key.removeprefix(prefix): value for key, value in params.items() if key.startswith(prefix)}
