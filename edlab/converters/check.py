"""Whether outputs are still those of the model that they should come from: pure functions of logits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edlab.errors import ConversionError, MeasurementError
from edlab.metrics import Figures

_HINT = "convert with another quantization or converter, or read the conversion's log"

# The least SQNR, in dB, between two runtimes that run one file. Both compute the same numbers, so only rounding
# separates them: 10 bits of mantissa on some accelerators, and in int8 a step of a scale here and there, which adds up
# in deep networks. Wrong channels, classes or weights give 3 dB or less.
_SAME_FILE_DB = {"fp32": 20.0, "fp16": 20.0}
_SAME_INT8_FILE_DB = 5.0
_BLOCK = 1024  # images


@dataclass(frozen=True)
class Comparison:
    """A candidate against a reference on the same images.

    `agreement_top1` is the share of images (0..1) with the same best class. `sqnr_db` is the signal to quantization
    noise ratio of the logits, 10 log10(sum reference^2 / sum (reference - candidate)^2); None where they are equal.
    `images` is how many were compared: those for which the reference gives no NaN.
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


def compare(reference: NDArray[np.floating], candidate: NDArray[np.floating]) -> Comparison:
    """Compare float logits of shape (images, classes). Images for which the reference has a NaN are left out.

    Raises `ConversionError` where the candidate's are useless (`find_problem`), and where the reference has a NaN for
    every image.
    """
    if problem := find_problem(reference, candidate):
        raise ConversionError(f"the converted model gives {problem}", hint=_HINT)
    numbers = ~np.isnan(reference).any(axis=1)
    if not numbers.any():
        raise ConversionError("the source model gives NaN for every image", hint="fix the model, or its preprocessing")
    return _compare(reference[numbers], candidate[numbers])


def find_problem(reference: NDArray[np.floating], candidate: NDArray[np.floating]) -> str:
    """What makes a candidate's logits useless: another shape, NaN or infinity that the reference does not have, or the
    same output for every image though the best class should differ. Empty where nothing does.
    """
    if candidate.shape != reference.shape:
        return f"outputs of shape {candidate.shape}, not {reference.shape}"
    unequal = ~np.isfinite(candidate) & (candidate != reference) & ~np.isnan(reference)
    if unequal.any():
        return f"NaN or infinity for {int(unequal.any(axis=1).sum())} of {len(candidate)} images"
    if _is_constant(candidate) and _agreement(reference, candidate) < 1 and not _is_constant(reference):
        return "the same output for every image"
    return ""


def ensure_same_file(
    host: NDArray[np.floating],
    target: NDArray[np.floating],
    *,
    precision: str,
    comparable: bool,
    where: str,
) -> None:
    """Raise `MeasurementError` where a target does not compute what this machine computes from the same file.

    Where the two need not give the same numbers (`comparable` is False: the target's int8 kernels saturate, the model
    draws random numbers, or the target quantizes the file), only garbage is refused. `where` names the target's
    runtime and device.
    """
    problem = find_problem(host, target)
    if not problem and comparable:
        numbers = ~np.isnan(host).any(axis=1)
        sqnr_db = _compare(host[numbers], target[numbers]).sqnr_db if numbers.any() else None
        least = _SAME_FILE_DB.get(precision, _SAME_INT8_FILE_DB)
        if sqnr_db is not None and sqnr_db < least:
            problem = f"other outputs ({sqnr_db:.1f} dB SQNR between the two; at least {least:.0f} is rounding)"
    if problem:
        raise MeasurementError(
            f"{where} gives {problem}, and this machine runs the same file as it should",
            hint="the target's runtime computes something else: update it, or try its options (device.options)",
        )


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
