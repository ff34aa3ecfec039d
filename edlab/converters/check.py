"""Whether an artifact still says what its source model says: pure functions of logits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edlab.errors import ConversionError

_HINT = "convert with another quantization or converter, or read the conversion's log"


@dataclass(frozen=True)
class Comparison:
    """An artifact against its source model on the same images.

    `agreement_top1` is the share of images (0..1) with the same best class. `sqnr_db` is the signal to quantization
    noise ratio of the logits, 10 log10(sum reference^2 / sum (reference - candidate)^2); None where they are equal.
    """

    agreement_top1: float
    sqnr_db: float | None


def compare(reference: NDArray[np.floating], candidate: NDArray[np.floating]) -> Comparison:
    """Compare float logits of shape (images, classes).

    Raises `ConversionError` where the candidate's are not finite, of another shape, or the same for every image.
    """
    _ensure_sane(reference, candidate)
    signal = reference.astype(np.float64)
    noise_power = float(np.sum((signal - candidate) ** 2))
    signal_power = float(np.sum(signal**2))
    return Comparison(
        agreement_top1=float(np.mean(reference.argmax(axis=1) == candidate.argmax(axis=1))),
        sqnr_db=10 * float(np.log10(signal_power / noise_power)) if noise_power and signal_power else None,
    )


def _ensure_sane(reference: NDArray[np.floating], candidate: NDArray[np.floating]) -> None:
    if candidate.shape != reference.shape:
        raise ConversionError(
            f"the converted model gives outputs of shape {candidate.shape}, the source model {reference.shape}",
            hint=_HINT,
        )
    if not np.isfinite(candidate).all():
        bad = int((~np.isfinite(candidate)).any(axis=1).sum())
        raise ConversionError(
            f"the converted model gives NaN or infinity for {bad} of {len(candidate)} images", hint=_HINT
        )
    if _is_constant(candidate) and not _is_constant(reference):
        raise ConversionError("the converted model gives the same output for every image", hint=_HINT)


def _is_constant(logits: NDArray[np.floating]) -> bool:
    return len(logits) > 1 and bool((logits == logits[0]).all())
