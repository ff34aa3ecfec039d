"""One class for each image. Predictions are logits, float32 (images, classes), of which the best class counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edlab import metrics
from edlab.agent.preprocess import top_classes
from edlab.config import ModelConfig
from edlab.errors import ModelError
from edlab.metrics import Figures
from edlab.source import Reason, SourceModel
from edlab.tasks import base
from edlab.tasks.base import OutputFacts, Outputs, Predictions, Size, listing

_KEPT_CLASSES = 5

# The minimum SQNR, in dB, between two runtimes that run one file. Both compute the same numbers, so only rounding
# separates them: 10 bits of mantissa on some accelerators, and in int8 an occasional step of a scale, which adds up
# in deep networks. Wrong channels, classes or weights give 3 dB or less.
_SAME_FILE_DB = {"fp32": 20.0, "fp16": 20.0}
_SAME_INT8_FILE_DB = 5.0
_BLOCK = 1024  # images

_INT8_AGREEMENT = 0.95
_FLOAT_AGREEMENT = 0.98
_INT8_SQNR_DB = 20.0
_HIGH_AGREEMENT = 0.9
_LOW_ACCURACY = 0.2  # of a model without a claim; but a few times the accuracy of guessing is low too
_GUESSES = 5
_NARROW = 0.3  # a wider accuracy interval does not show whether the model guesses
_ENOUGH_IMAGES = 20
_CLAIM_SHARE = 0.5


@dataclass(frozen=True)
class Comparison(base.Comparison):
    """A candidate against a reference on the same images.

    `agreement_top1` is the share of images (0..1) with the same best class. `sqnr_db` is the signal to quantization
    noise ratio of the logits, 10 log10(sum reference^2 / sum (reference - candidate)^2); None if they are equal.
    `images` is how many were compared: those for which the reference has no NaN.
    """

    agreement_top1: float
    sqnr_db: float | None
    images: int

    def figures(self) -> Figures:
        """The metrics `agreement_top1`, `agreement_images` and `sqnr_db`."""
        values = {"agreement_top1": self.agreement_top1, "agreement_images": float(self.images)}
        if self.sqnr_db is None:
            return Figures(values, {"sqnr_db": "the outputs are identical"})
        return Figures({**values, "sqnr_db": self.sqnr_db})


class Task(base.Task):
    """Image classification."""

    name = "classification"
    headline = "accuracy_top1"
    scores = ("accuracy_top1", "accuracy_top5", "accuracy_drop")
    agreement = ("agreement_top1", "sqnr_db")

    def recognises(self, outputs: Outputs, size: Size) -> bool:
        return False  # the default: for outputs that no other task recognises

    def choose_outputs(self, config: ModelConfig, name: str, outputs: Outputs, size: Size) -> tuple[int, ...]:
        """The only output, or that of `model.output`. If there are several and none is chosen, the error lists them: a
        guess would be scored silently.
        """
        if config.output is not None:
            return (base.named_output(config.output, name, outputs),)
        if len(outputs) == 1:
            return (0,)
        if not outputs:
            raise ModelError(f"{name} has no outputs", hint="export it with one output, (batch, classes)")
        logits = [output for output, shape in outputs if len(shape) == 2 and shape[1] != 1]
        likely = logits[0] if len(logits) == 1 else outputs[0][0]
        raise ModelError(
            f"{name} has {len(outputs)} outputs: {listing(outputs)}",
            hint=f"set model.output to the one to score, for example model.output={likely}",
        )

    def read_outputs(
        self, config: ModelConfig, name: str, outputs: Outputs, size: Size, stated: Mapping[str, Any]
    ) -> OutputFacts:
        found = classes_of(name, outputs[0][1])
        if config.num_classes not in (None, found):
            raise ModelError(f"{name} has {found} classes, not {config.num_classes}", hint="remove model.num_classes")
        return OutputFacts(num_classes=found)

    def find_problem(self, reference: Predictions, candidate: Predictions) -> str:
        """Another shape, NaN or infinity that the reference does not have, or the same output for every image though
        the best class should differ.
        """
        if candidate.shape != reference.shape:
            return f"the shape {candidate.shape} instead of {reference.shape}"
        unequal = ~np.isfinite(candidate) & (candidate != reference) & ~np.isnan(reference)
        if unequal.any():
            return f"NaN or infinity for {int(unequal.any(axis=1).sum())} of {len(candidate)} images"
        if _is_constant(candidate) and _agreement(reference, candidate) < 1 and not _is_constant(reference):
            return "the same values for every image"
        return ""

    def compare(self, reference: Predictions, candidate: Predictions) -> Comparison:
        """Ignores images for which the reference has a NaN. Raises `ModelError` if it has one for every image."""
        numbers = ~np.isnan(reference).any(axis=1)
        if not numbers.any():
            raise ModelError("the source model outputs NaN for every image", hint="fix the model, or its preprocessing")
        return _compare(reference[numbers], candidate[numbers])

    def difference(self, host: Predictions, target: Predictions, precision: str) -> str:
        numbers = ~np.isnan(host).any(axis=1)
        sqnr_db = _compare(host[numbers], target[numbers]).sqnr_db if numbers.any() else None
        least = _SAME_FILE_DB.get(precision, _SAME_INT8_FILE_DB)
        if sqnr_db is None or sqnr_db >= least:
            return ""
        return f"different values ({sqnr_db:.1f} dB SQNR between the two; rounding leaves at least {least:.0f})"

    def score(
        self, predictions: Predictions, labels: Any, source: SourceModel, baseline: Predictions | None = None
    ) -> Figures:
        targets = labels + source.label_offset
        return metrics.accuracy(predictions, targets, baseline=baseline, claimed_top1=source.claimed_top1)

    def drop(
        self, predictions: Predictions, baseline: Predictions, labels: Any, source: SourceModel, name: str = ""
    ) -> Figures:
        return metrics.drop(predictions, baseline, labels + source.label_offset, name)

    def doubts(
        self,
        figures: Mapping[str, float],
        comparison: base.Comparison | None,
        source: SourceModel,
        precision: str,
        fix: str,
    ) -> Iterator[Reason]:
        if isinstance(comparison, Comparison):
            yield from _loss(comparison, precision, fix)
            if comparison.agreement_top1 < _HIGH_AGREEMENT:
                return  # a low accuracy is the conversion's loss
        if source.classes is not None and source.classes > 1 and "accuracy_top1" in figures:
            yield from _wrong_labels(figures, source.classes, source.claimed_top1)

    def right(self, predictions: Predictions, labels: Any, source: SourceModel) -> NDArray[np.bool_]:
        return np.asarray(top_classes(predictions, 1)[:, 0] == labels + source.label_offset)

    def kept(self, predictions: Predictions) -> NDArray[Any]:
        """int32 (images, 5): the best classes, best first."""
        return top_classes(predictions, _KEPT_CLASSES)


def classes_of(name: str, shape: Sequence[int | None]) -> int:
    """The number of classes of an output of this shape. Raises `ModelError` if it is not (batch, classes)."""
    lengths = [length for length in shape[1:] if length != 1]
    if len(lengths) != 1 or not lengths[0]:
        raise ModelError(
            f"{name} has an output of shape {tuple(shape)}, not (batch, classes)",
            hint="export it without ArgMax or other steps after the scores: accuracy is computed from the scores"
            if not lengths
            else "a classifier has at least two classes; for another task set task=...",
        )
    return int(lengths[0])


def _compare(reference: NDArray[np.floating], candidate: NDArray[np.floating]) -> Comparison:
    signal_power = noise_power = 0.0
    for start in range(0, len(reference), _BLOCK):  # a whole data set in float64 would be gigabytes
        signal = reference[start : start + _BLOCK].astype(np.float64)
        signal, other = np.where(np.isinf(signal), 0, signal), candidate[start : start + _BLOCK]
        noise = signal - np.where(np.isinf(other), 0, other)  # infinities are equal, or `find_problem` has refused them
        signal_power, noise_power = signal_power + float(np.sum(signal**2)), noise_power + float(np.sum(noise**2))
    return Comparison(
        agreement_top1=_agreement(reference, candidate),
        sqnr_db=10 * float(np.log10(signal_power / noise_power)) if noise_power and signal_power else None,
        images=len(reference),
    )


def _agreement(reference: NDArray[np.floating], candidate: NDArray[np.floating]) -> float:
    return float(np.mean(reference.argmax(axis=1) == candidate.argmax(axis=1)))


def _is_constant(logits: NDArray[np.floating]) -> bool:
    return len(logits) > 1 and bool((logits == logits[0]).all())


def _loss(comparison: Comparison, precision: str, fix: str) -> Iterator[Reason]:
    """The loss by the conversion."""
    in_int8 = precision.startswith("int8")
    least = _INT8_AGREEMENT if in_int8 else _FLOAT_AGREEMENT
    if comparison.agreement_top1 < least:
        yield Reason(
            code="low_agreement",
            message=f"{comparison.agreement_top1:.1%} of {comparison.images} images have the unconverted model's best "
            f"class; at least {least:.0%} is usual for {precision}",
            advice=fix,
        )
    if in_int8 and comparison.sqnr_db is not None and comparison.sqnr_db < _INT8_SQNR_DB:
        yield Reason(
            code="low_sqnr",
            message=f"the outputs have {comparison.sqnr_db:.1f} dB SQNR against the unconverted model's; at least "
            f"{_INT8_SQNR_DB:.0f} is usual for {precision}",
            advice=fix,
        )


def _wrong_labels(figures: Mapping[str, float], classes: int, claimed: float | None) -> Iterator[Reason]:
    """A model that guesses, or nearly, although its outputs are the same as before the conversion."""
    accuracy, images = figures["accuracy_top1"], figures["accuracy_images"]
    low, high = figures["accuracy_ci95_low"], figures["accuracy_ci95_high"]
    chance = 1 / classes
    usual = max(_LOW_ACCURACY if claimed is None else _CLAIM_SHARE * claimed, min(_CLAIM_SHARE, _GUESSES * chance))
    guesses = low <= chance <= high and high - low <= _NARROW
    if guesses or (accuracy < usual and images >= _ENOUGH_IMAGES):
        yield Reason(
            code="labels_do_not_match",
            message=f"top-1 is {accuracy:.1%} for {classes} classes; guessing gives {chance:.1%}",
            advice="likely causes: model.preprocessing (for an ImageNet network trained in PyTorch: "
            "'model.preprocessing.mean=[.485,.456,.406]' 'model.preprocessing.std=[.229,.224,.225]'), the order of the "
            "classes (dataset.labels, dataset.class_order), model.label_offset, model.output, or a file that was "
            "already quantized badly",
        )
