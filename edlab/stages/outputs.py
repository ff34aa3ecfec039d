"""Stage 4, second half: the evaluation images through the target, and what comes out checked, compared and scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edlab import metrics
from edlab.agent import int8
from edlab.artifact import Artifact
from edlab.cache import Cache
from edlab.config import EdlabConfig
from edlab.devices import Pool, read_array
from edlab.errors import MeasurementError
from edlab.metrics import Figures
from edlab.stages import reference
from edlab.stages.deploy import Deployment
from edlab.stages.load import Inputs, OnProgress
from edlab.stages.measure import Measurement
from edlab.tasks import Predictions

_OUTPUTS_FILE = "outputs.npy"  # of the evaluation images in order
_PREDICTIONS_FILE = "predictions.npy"  # what a run keeps of them


def measure_outputs(
    config: EdlabConfig,
    inputs: Inputs,
    deployment: Deployment,
    measurement: Measurement,
    cache: Cache,
    folder: Path,
    on_progress: OnProgress,
) -> None:
    """Run the evaluation images on the target, and check and score what comes out.

    Where nothing can be scored, the few images of the conversion's check are enough to compare.
    """
    data, source, task = inputs.data, inputs.source, inputs.task
    no_accuracy = _no_accuracy(inputs)
    rows = reference.check_images(data) if no_accuracy else data.evaluation
    out = folder / _OUTPUTS_FILE
    measurement.reports.accuracy = deployment.session.predict(Pool(data.images, rows.tolist()), out, on_progress)
    predictions: Predictions = read_array(out)
    np.save(folder / _PREDICTIONS_FILE, task.kept(predictions))
    out.unlink()  # 200 MB for ImageNet, in each row
    _check_runtime(predictions[: reference.CHECK_IMAGES], inputs, deployment, cache, on_progress)
    unconverted = reference.baseline(source, data, rows, cache, on_progress)
    if problem := task.find_problem(unconverted, predictions):
        raise MeasurementError(
            f"{deployment.runs_on} gives {problem}",
            hint="the target's runtime, or the conversion, is at fault: see the log",
        )
    has_baseline = source.precision == "fp32"
    no_baseline = f"the file came as {source.precision}: there is no fp32 model to compare with"
    if has_baseline:
        measurement.check = task.compare(unconverted, predictions)
        measurement.figures |= measurement.check.figures()
    else:
        measurement.figures |= Figures.withheld(task.agreement, no_baseline)
    if no_accuracy:
        measurement.figures |= Figures.withheld(task.scores, no_accuracy)
        return
    assert data.labels is not None
    labels = data.labels[rows]
    measurement.figures |= task.score(predictions, labels, source, baseline=unconverted if has_baseline else None)
    if config.protocol.decompose_drop and has_baseline:
        measurement.figures |= _decomposed_drop(
            inputs, deployment.artifact, labels, predictions, unconverted, cache, on_progress
        )
    if not has_baseline:
        measurement.figures |= Figures.withheld(["accuracy_drop"], no_baseline)


def _decomposed_drop(
    inputs: Inputs,
    artifact: Artifact,
    labels: Any,
    predictions: Predictions,
    unconverted: Predictions,
    cache: Cache,
    on_progress: OnProgress,
) -> metrics.Figures:
    """The accuracy drop by its causes: the converter, the quantization, and the target's runtime. They add up."""
    data, source, task = inputs.data, inputs.source, inputs.task
    unquantized = artifact.unquantized or artifact.on_host
    here = reference.this_machine()
    converted = reference.predictions(unquantized, source, data, data.evaluation, here, cache, on_progress)
    figures = task.drop(converted, unconverted, labels, source, "conversion")
    if artifact.unquantized is None:
        return figures | task.drop(predictions, converted, labels, source, "runtime")
    if artifact.precision != "int8" or artifact.on_host.format not in reference.EVALUATED_IN_FLOAT:
        names = ["accuracy_drop_quantization", "accuracy_drop_runtime"]
        reason = f"{artifact.precision} {artifact.on_host.format} files cannot be evaluated in floating point"
        return figures | Figures.withheld(names, reason)
    in_float = reference.in_float(artifact.on_host, source, data, data.evaluation, cache, on_progress)
    figures |= task.drop(in_float, converted, labels, source, "quantization")
    return figures | task.drop(predictions, in_float, labels, source, "runtime")


def _check_runtime(
    predictions: Predictions, inputs: Inputs, deployment: Deployment, cache: Cache, on_progress: OnProgress
) -> None:
    """Raise `MeasurementError` where a target does not compute what this machine computes from the same file.

    Where the two need not give the same numbers (the target's int8 kernels saturate, the model draws random numbers, or
    the target quantizes the file), only garbage is refused.
    """
    artifact, task = deployment.artifact, inputs.task
    rows = reference.check_images(inputs.data)
    own = reference.predictions(
        artifact.on_host, inputs.source, inputs.data, rows, reference.host(deployment.device), cache, on_progress
    )
    comparable = (
        inputs.source.deterministic
        and artifact.on_host.precision == artifact.precision
        and deployment.int8_kernels != int8.SATURATING
    )
    problem = task.find_problem(own, predictions)
    if not problem and comparable:
        problem = task.difference(own, predictions, artifact.precision)
    if problem:
        raise MeasurementError(
            f"{deployment.runs_on} gives {problem}, and this machine runs the same file as it should",
            hint="the target's runtime computes something else: update it, or try its options (device.options)",
        )


def _no_accuracy(inputs: Inputs) -> str:
    """Why accuracy cannot be measured; empty where it can."""
    if inputs.data_problem is not None:
        return inputs.data_problem.message
    if inputs.data.labels is None:
        return f"the data set '{inputs.data.name}' has no labels"
    if not inputs.source.trained:
        return f"the weights are untrained: {inputs.source.weights_note}"
    return ""
