"""Accuracy: run the evaluation images on the target, and check, compare and score the outputs."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edlab import predictions_file
from edlab.agent import int8
from edlab.agent.messages import Pool, PredictReport
from edlab.devices import read_array
from edlab.errors import MeasurementError
from edlab.metrics import Figures
from edlab.power import Series
from edlab.stages import reference
from edlab.stages.load import Inputs
from edlab.stages.phases.base import Bench, Phase
from edlab.tasks import Predictions

_OUTPUTS_FILE = "outputs.npy"  # of the evaluation images in order


class Accuracy(Phase[PredictReport]):
    """If nothing can be scored, only the few images of the conversion's check are compared."""

    name = "accuracy"

    def run(self, bench: Bench) -> PredictReport:
        pool = Pool(str(bench.inputs.data.images), _rows(bench.inputs).tolist())
        return bench.session.predict(pool, bench.folder / _OUTPUTS_FILE, bench.on_progress)

    def figures(self, bench: Bench, report: PredictReport, series: Series | None) -> Figures:
        """Raises `MeasurementError` for invalid outputs."""
        source, task = bench.inputs.source, bench.inputs.task
        out = bench.folder / _OUTPUTS_FILE
        predictions: Predictions = read_array(out)
        _keep(bench, predictions)
        out.unlink()  # 200 MB for ImageNet, for each row
        _check_runtime(bench, predictions[: reference.CHECK_IMAGES])
        rows = _rows(bench.inputs)
        unconverted = reference.baseline(source, bench.inputs.data, rows, bench.cache, bench.on_progress)
        if problem := task.find_problem(unconverted, predictions):
            raise MeasurementError(
                f"{bench.deployment.runs_on} outputs {problem}",
                hint="the conversion or the target's runtime is faulty: read the log",
            )
        if source.precision != "fp32":
            no_baseline = f"the source file is already {source.precision}: there is no fp32 model to compare with"
            figures = _scores(bench, predictions, None) | Figures.withheld(task.agreement, no_baseline)
            return figures if _no_accuracy(bench.inputs) else figures | Figures.withheld(["accuracy_drop"], no_baseline)
        check = bench.measurement.check = task.compare(unconverted, predictions)
        return check.figures() | _scores(bench, predictions, unconverted)


def _keep(bench: Bench, predictions: Predictions) -> None:
    """Save what allows a later comparison with another run, image by image."""
    inputs, path = bench.inputs, bench.folder / predictions_file.FILE
    arrays = {"predictions": inputs.task.kept(predictions)}
    if not _no_accuracy(inputs):
        assert inputs.data.labels is not None
        right = inputs.task.right(predictions, inputs.data.labels[_rows(inputs)], inputs.source)
        arrays |= {} if right is None else {"right": right}
    np.savez_compressed(path, allow_pickle=False, **arrays)
    if "right" in arrays:
        bench.measurement.files[predictions_file.FILE] = path
        bench.measurement.predictions_sha256 = hashlib.sha256(path.read_bytes()).hexdigest()


def _rows(inputs: Inputs) -> NDArray[np.int64]:
    """The images to run."""
    return reference.check_images(inputs.data) if _no_accuracy(inputs) else inputs.data.evaluation


def _scores(bench: Bench, predictions: Predictions, unconverted: Predictions | None) -> Figures:
    """The accuracy, with the drop from the unconverted model's if there is one."""
    source, data, task = bench.inputs.source, bench.inputs.data, bench.inputs.task
    if reason := _no_accuracy(bench.inputs):
        return Figures.withheld(task.scores, reason)
    assert data.labels is not None
    labels = data.labels[_rows(bench.inputs)]
    figures = task.score(predictions, labels, source, baseline=unconverted)
    if bench.config.protocol.decompose_drop and unconverted is not None:
        figures |= _decomposed_drop(bench, labels, predictions, unconverted)
    return figures


def _decomposed_drop(bench: Bench, labels: Any, predictions: Predictions, unconverted: Predictions) -> Figures:
    """The accuracy drop by its causes: the converter, the quantization, and the target's runtime. They add up."""
    data, source, task = bench.inputs.data, bench.inputs.source, bench.inputs.task
    artifact, cache, on_progress = bench.deployment.artifact, bench.cache, bench.on_progress
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


def _check_runtime(bench: Bench, predictions: Predictions) -> None:
    """Raise `MeasurementError` if a target does not compute the same outputs as this machine from the same file.

    If only the target can open the file, they are compared with those of its last portable form. If the two may differ
    (that form has another precision, the target's int8 kernels saturate, or the model draws random numbers), only
    invalid outputs are refused.
    """
    inputs, deployment = bench.inputs, bench.deployment
    artifact, task = deployment.artifact, inputs.task
    rows = reference.check_images(inputs.data)
    here = reference.host(deployment.device)
    own = reference.predictions(
        artifact.on_host, inputs.source, inputs.data, rows, here, bench.cache, bench.on_progress
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
        if artifact.on_host is artifact:
            compared, or_else = "this machine runs the same file correctly", ""
        else:
            compared = f"the {artifact.on_host.format} file that it was converted from is correct on this machine"
            or_else = f"; or the converter ({bench.config.converter.name}) wrote a wrong file"
        raise MeasurementError(
            f"{deployment.runs_on} outputs {problem}, while {compared}",
            hint="the target's runtime computes wrong results: update it, or change its options (device.options)"
            + or_else,
        )


def _no_accuracy(inputs: Inputs) -> str:
    """Why accuracy cannot be measured; empty if it can."""
    if inputs.data_problem is not None:
        return inputs.data_problem.message
    if inputs.data.labels is None:
        return f"the data set '{inputs.data.name}' has no labels"
    if not inputs.source.trained:
        return f"the weights are untrained: {inputs.source.weights_note}"
    return ""
