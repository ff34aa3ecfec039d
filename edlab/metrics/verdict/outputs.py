"""Rules on the outputs of the model: the conversion's loss, the kernels that ran, labels that do not match it."""

from __future__ import annotations

import math
from collections.abc import Iterator

from edlab.agent.int8 import SATURATING
from edlab.metrics.accuracy import Z95
from edlab.metrics.verdict.facts import Facts, Finding, OutputFacts, degraded
from edlab.record import VerdictState
from edlab.source import USUAL_CALIBRATION_IMAGES


def output_rules(facts: Facts) -> Iterator[Finding]:
    """Whether the outputs of the model are correct, and how many of them were scored."""
    outputs = facts.outputs
    yield from _kernel_rules(outputs)
    yield from _calibration_rules(outputs)
    if not facts.trained:
        return
    if outputs.drop_ci95 and outputs.converted:
        yield from _drop_rules(*outputs.drop_ci95, outputs)
    yield from ((VerdictState.degraded, doubt) for doubt in outputs.doubts)
    if outputs.nan_images:
        yield degraded(
            "nan_outputs",
            f"the unconverted model also outputs NaN for {outputs.nan_images} images: they are scored as wrong",
            "fix the model, or its preprocessing",
        )


def _kernel_rules(outputs: OutputFacts) -> Iterator[Finding]:
    if outputs.int8_kernels == SATURATING:
        yield degraded(
            "saturating_kernels",
            f"the int8 kernels of {outputs.runtime} saturate on this processor ({outputs.arithmetic}): the "
            "measured accuracy is not the accuracy of exact int8 arithmetic",
            loss_fix(outputs.int8_kernels, outputs.runtime),
        )
    elif outputs.in_float:
        yield degraded(
            "int8_in_float",
            f"the int8 file was computed in floating point{_why_in_float(outputs)}: its accuracy is exact, but "
            "its speed is not the speed of int8",
            f"measure speed on a processor with VNNI, or with device.options.{outputs.runtime}.int8_kernels=fast",
        )


def _calibration_rules(outputs: OutputFacts) -> Iterator[Finding]:
    """Whether the data set provided enough images; a user may choose a lower number."""
    images = outputs.calibration_images
    if images is not None and images < USUAL_CALIBRATION_IMAGES and images == outputs.calibration_pool:
        yield degraded(
            "few_calibration_images",
            f"only {images} images were used for calibration, all that the data set provides; "
            f"{USUAL_CALIBRATION_IMAGES} are usual",
            "add images, raise dataset.calibration_fraction, or set dataset.calibration_path=FOLDER",
        )


def _why_in_float(outputs: OutputFacts) -> str:
    if outputs.fast_kernels != SATURATING:
        return ""
    return f", as the int8 kernels of {outputs.runtime} saturate on this processor"


def loss_fix(int8_kernels: str | None, runtime: str) -> str:
    """The usual fix for a conversion's loss. The most likely cause is saturating kernels, not calibration."""
    if int8_kernels == SATURATING:
        return (
            f"set device.options.{runtime}.int8_kernels=exact, or measure on a processor with VNNI; more calibration "
            "images do not help"
        )
    return (
        "use more calibration images or per-channel scales, or exclude sensitive nodes: `edlab explain-accuracy` lists "
        "them"
    )


def _drop_rules(low: float, high: float, outputs: OutputFacts) -> Iterator[Finding]:
    """The drop's 95 % interval against the allowed drop."""
    limit = outputs.max_drop
    advice = loss_fix(outputs.int8_kernels, outputs.runtime)
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

    Solved from the interval's half width for a share d of images that differ: z sqrt(d N + 1) / (N + 2). No number of
    images decides a drop at the limit itself: then the distance is assumed to be a quarter of the limit.
    """
    centre, half, images = (low + high) / 2, (high - low) / 2, outputs.scored_images
    margin = max(abs(outputs.max_drop - centre), outputs.max_drop / 4, 1e-4)
    differ = max(0.0, ((half * (images + 2) / Z95) ** 2 - 1) / max(images, 1))
    ratio = (Z95 / margin) ** 2  # (N + 2)^2 = ratio (d N + 1), solved for M = N + 2
    needed = (ratio * differ + math.sqrt((ratio * differ) ** 2 + 4 * ratio * (1 - 2 * differ))) / 2 - 2
    return math.ceil(needed / 50) * 50
