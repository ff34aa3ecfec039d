"""Rules on what came out of the model: the conversion's loss, the kernels that ran, labels that do not belong to it."""

from __future__ import annotations

import math
from collections.abc import Iterator

from edlab.agent.int8 import SATURATING
from edlab.metrics.accuracy import Z95
from edlab.metrics.verdict.facts import Facts, Finding, OutputFacts, degraded

_AGREEMENT = {"int8": 0.95, "int8_dynamic": 0.95}  # of other precisions:
_FLOAT_AGREEMENT = 0.98
_INT8_SQNR_DB = 20.0
_HIGH_AGREEMENT = 0.9
_LOW_ACCURACY = 0.2  # of a model without a claim; but a few times what guessing gives is low as well
_GUESSES = 5
_NARROW = 0.3  # an accuracy interval that is wider says nothing of guessing
_ENOUGH_IMAGES = 20
_CLAIM_SHARE = 0.5


def output_rules(facts: Facts) -> Iterator[Finding]:
    """Whether what came out of the model is right, and how much of it was scored."""
    outputs = facts.outputs
    yield from _kernel_rules(outputs)
    if not facts.trained:
        return
    yield from _loss_rules(outputs)
    yield from _label_rules(outputs)
    if outputs.nan_images:
        yield degraded(
            "nan_outputs",
            f"{outputs.nan_images} images give NaN in the unconverted model as well, and are scored as wrong",
            "fix the model, or its preprocessing",
        )


def _kernel_rules(outputs: OutputFacts) -> Iterator[Finding]:
    if outputs.int8_kernels == SATURATING:
        yield degraded(
            "saturating_kernels",
            f"the int8 kernels of {outputs.runtime} saturate on this processor ({outputs.arithmetic}): accuracy is as "
            "run here, which is not the file's own",
            _use_exact_kernels(outputs),
        )
    elif outputs.in_float:
        yield degraded(
            "int8_in_float",
            f"the int8 file was computed in floating point{_why_in_float(outputs)}: its accuracy is exact, its speed "
            "is not that of int8",
            f"measure speed on a processor with VNNI, or with device.options.{outputs.runtime}.int8_kernels=fast",
        )


def _why_in_float(outputs: OutputFacts) -> str:
    if outputs.fast_kernels != SATURATING:
        return ""
    return f", as the int8 kernels of {outputs.runtime} saturate on this processor"


def _use_exact_kernels(outputs: OutputFacts) -> str:
    return (
        f"set device.options.{outputs.runtime}.int8_kernels=exact, or measure on a processor with VNNI; more "
        "calibration images do not help"
    )


def _loss_rules(outputs: OutputFacts) -> Iterator[Finding]:
    """What the conversion costs. Where the kernels saturate, they are the first suspect, and not the calibration."""
    advice = "take more calibration images, per-channel scales, or leave sensitive nodes out (quantization.exclude)"
    if outputs.int8_kernels == SATURATING:
        advice = _use_exact_kernels(outputs)
    if outputs.drop_ci95 and outputs.converted:
        yield from _drop_rules(*outputs.drop_ci95, outputs, advice)
    least = _AGREEMENT.get(outputs.precision, _FLOAT_AGREEMENT)
    if outputs.agreement_top1 is not None and outputs.agreement_top1 < least:
        yield degraded(
            "low_agreement",
            f"{outputs.agreement_top1:.1%} of {outputs.compared_images} images have the unconverted model's best "
            f"class; at least {least:.0%} is usual for {outputs.precision}",
            advice,
        )
    if outputs.precision in _AGREEMENT and outputs.sqnr_db is not None and outputs.sqnr_db < _INT8_SQNR_DB:
        yield degraded(
            "low_sqnr",
            f"the outputs have {outputs.sqnr_db:.1f} dB SQNR against the unconverted model's; at least "
            f"{_INT8_SQNR_DB:.0f} is usual for {outputs.precision}",
            advice,
        )


def _drop_rules(low: float, high: float, outputs: OutputFacts, advice: str) -> Iterator[Finding]:
    """The drop's 95 % interval against what a conversion may cost."""
    limit = outputs.max_drop
    if low > limit:
        yield degraded(
            "accuracy_lost",
            f"the accuracy drop is {100 * low:.1f} to {100 * high:.1f} points (95 %), above the limit of "
            f"{100 * limit:g} (protocol.max_accuracy_drop)",
            advice,
        )
    elif high > limit:
        needed = _images_needed(low, high, outputs)
        yield degraded(
            "too_few_images",
            f"{outputs.scored_images} images leave the drop between {100 * low:.1f} and {100 * high:.1f} points "
            f"(95 %): they cannot decide whether it is above {100 * limit:g}",
            f"score about {needed:,} images (dataset.images, or a larger data set)",
        )


def _images_needed(low: float, high: float, outputs: OutputFacts) -> int:
    """How many images bring the drop's interval to one side of the limit, if as many of them differ as now.

    Solved from the interval's half width for a share d of images that differ: z sqrt(d N + 1) / (N + 2). A drop that
    lies at the limit itself is decided by no number: a quarter of the limit stands for its distance then.
    """
    centre, half, images = (low + high) / 2, (high - low) / 2, outputs.scored_images
    margin = max(abs(outputs.max_drop - centre), outputs.max_drop / 4, 1e-4)
    differ = max(0.0, ((half * (images + 2) / Z95) ** 2 - 1) / max(images, 1))
    ratio = (Z95 / margin) ** 2  # (N + 2)^2 = ratio (d N + 1), solved for M = N + 2
    needed = (ratio * differ + math.sqrt((ratio * differ) ** 2 + 4 * ratio * (1 - 2 * differ))) / 2 - 2
    return math.ceil(needed / 50) * 50


def _label_rules(outputs: OutputFacts) -> Iterator[Finding]:
    """A model that guesses, or nearly, though it still says what it said before it was converted."""
    if outputs.accuracy_top1 is None or outputs.accuracy_ci95 is None or outputs.num_classes < 2:
        return
    if outputs.agreement_top1 is not None and outputs.agreement_top1 < _HIGH_AGREEMENT:
        return  # then it is the conversion's loss
    chance = 1 / outputs.num_classes
    expected = _LOW_ACCURACY if outputs.claimed_top1 is None else _CLAIM_SHARE * outputs.claimed_top1
    usual = max(expected, min(_CLAIM_SHARE, _GUESSES * chance))
    low, high = outputs.accuracy_ci95
    guesses = low <= chance <= high and high - low <= _NARROW
    if guesses or (outputs.accuracy_top1 < usual and outputs.scored_images >= _ENOUGH_IMAGES):
        yield degraded(
            "labels_do_not_match",
            f"top-1 is {outputs.accuracy_top1:.1%} of {outputs.num_classes} classes, where guessing gives {chance:.1%}",
            "likely causes: the order of the classes (dataset.labels, dataset.class_order), model.label_offset, "
            "model.preprocessing (mean, std, channels, resize), model.output, or a file that came badly quantized",
        )
