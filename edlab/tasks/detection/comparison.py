"""Checks whether detections still match those of their source model: pure functions of predictions.

Predictions are (N, K, 6) as `annotations` describes them. Boxes are compared as fractions of the model's input: a
ratio of areas is the same in pixels of the image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edlab.agent.tasks.detection.boxes import overlaps
from edlab.metrics import Figures
from edlab.tasks import base
from edlab.tasks.detection.annotations import NO_DETECTION
from edlab.tasks.detection.scoring import find_unknown_class

CONFIDENT = 0.3  # the minimum score of a detection that is compared; the default of mmdetection's demo, image_demo.py
_SAME_OBJECT = 0.5  # IoU
_FEW = 2  # detections that may always differ: of a few, one is a large share
_NO_CONFIDENT = f"the reference has no detection with a score of {CONFIDENT} or more"


class _Rounding(NamedTuple):
    """How far two runtimes that run one file may differ: both compute the same numbers, so only rounding separates
    them.
    """

    iou: float  # beyond it a box is the same
    share: float  # minimum share of the confident detections with the same box and class
    score_difference: float  # maximum mean


# By noise on the outputs of a trained detector (FastestDet, 128 photographs): float16 outputs leave 99.8 % of the boxes
# with an IoU over 0.9, noise of 40 dB SQNR 98 %, 30 dB 93 %, 20 dB 78 %, and scores that differ by 0.02 at 20 dB. Red
# and blue exchanged leave 20 %, boxes 20 % too large or shifted by half a cell under 5 %, and the square root of the
# scores is off by 0.2. In int8, arithmetic that rounds differently (21 dB) leaves 97 % over IoU 0.5 and scores that
# differ by 0.015; red and blue exchanged leave 73 %.
_SAME_FILE = {"fp32": _Rounding(0.9, 0.8, 0.05), "fp16": _Rounding(0.9, 0.8, 0.05)}
_SAME_INT8_FILE = _Rounding(0.5, 0.85, 0.08)


@dataclass(frozen=True)
class Comparison(base.Comparison):
    """A candidate's detections against a reference's on the same images.

    `confident` is how many the reference has with a score of `CONFIDENT` or more. `ious` and `score_differences`
    (float64, absolute) are of those that the candidate also has: of the same class, with an IoU of 0.5 or more.
    `images` is how many were compared: those for which the reference has no NaN.
    """

    confident: int
    ious: NDArray[np.float64]
    score_differences: NDArray[np.float64]
    images: int

    @property
    def agreement_boxes(self) -> float | None:
        """The share of the reference's confident detections that the candidate has; None if it has none."""
        return len(self.ious) / self.confident if self.confident else None

    def figures(self) -> Figures:
        """The metrics `agreement_boxes`, `agreement_iou`, `agreement_score_difference` and `agreement_images`."""
        figures = Figures({"agreement_images": float(self.images)})
        pairs = ["agreement_iou", "agreement_score_difference"]
        if self.agreement_boxes is None:
            return figures | Figures.withheld(["agreement_boxes", *pairs], _NO_CONFIDENT)
        figures |= Figures({"agreement_boxes": self.agreement_boxes})
        if not len(self.ious):
            return figures | Figures.withheld(pairs, "none of the reference's confident detections is found again")
        means = (float(self.ious.mean()), float(self.score_differences.mean()))
        return figures | Figures(dict(zip(pairs, means, strict=True)))


def find_problem(reference: NDArray[np.floating], candidate: NDArray[np.floating], classes: range | None = None) -> str:
    """What makes a candidate's detections useless. Empty if nothing does.

    Another shape; NaN or infinity that the reference does not have; with `classes`, those of the model as it numbers
    them, a detection of another class; nothing in any of the images in which the reference has confident detections;
    or the same detections for every image although they should differ.
    """
    if candidate.shape != reference.shape:
        return f"the shape {candidate.shape} instead of {reference.shape}"
    numbers = ~_without_numbers(reference)
    broken = _without_numbers(candidate) & numbers
    if broken.any():
        return f"NaN or infinity for {int(broken.sum())} of {len(candidate)} images"
    if classes is not None and (unknown := find_unknown_class(candidate[numbers], classes)):
        return unknown
    found = (candidate[..., 5] != NO_DETECTION).any(axis=1)
    wanted = _confident(reference).any(axis=1) & numbers
    if wanted.any() and not found[wanted].any():
        return f"no detections in any of the {int(wanted.sum())} images that should have some"
    if found.any() and _is_constant(candidate) and not _is_constant(reference):
        return "the same detections for every image"
    return ""


def compare(reference: NDArray[np.floating], candidate: NDArray[np.floating]) -> Comparison:
    """Look for each confident detection of the reference, best first, among the candidate's.

    It is matched with the one of its class that overlaps it most, with an IoU of 0.5 or more, and that is not matched
    with a better one; the candidate's score does not matter. Images for which the reference has NaN are ignored. The
    candidate must have passed `find_problem`.
    """
    numbers = ~_without_numbers(reference)
    reference, candidate = reference[numbers], candidate[numbers]
    confident = _confident(reference)
    ious, differences = [np.empty(0)], [np.empty(0)]
    for wanted, mask, given in zip(reference, confident, candidate, strict=True):
        pairs = _match(wanted[mask], given[given[:, 5] != NO_DETECTION])
        ious.append(pairs[:, 0])
        differences.append(pairs[:, 1])
    return Comparison(int(confident.sum()), np.concatenate(ious), np.concatenate(differences), len(reference))


def difference(host: NDArray[np.floating], target: NDArray[np.floating], precision: str) -> str:
    """How a target's detections differ from this machine's for the same file. Empty if they differ only by rounding.

    The confident detections of each are looked for among the other's: boxes and classes must be the same except for
    rounding, and scores must be close. Both must have passed `find_problem`.
    """
    rounding = _SAME_FILE.get(precision, _SAME_INT8_FILE)
    for comparison in (compare(host, target), compare(target, host)):
        same = int((comparison.ious > rounding.iou).sum())
        if comparison.confident - same > _FEW and same < rounding.share * comparison.confident:
            return (
                f"different detections ({same} of {comparison.confident} with the same class and an IoU over "
                f"{rounding.iou:g}; rounding leaves at least {rounding.share:.0%})"
            )
        if same and (apart := comparison.score_differences.mean()) > rounding.score_difference:
            return (
                f"different scores (by {apart:.2f} on average; rounding causes at most {rounding.score_difference:g})"
            )
    return ""


def _match(wanted: NDArray[np.floating], given: NDArray[np.floating]) -> NDArray[np.float64]:
    """IoU and absolute score difference of the detections (n, 6) that have a match among others (m, 6)."""
    free = np.where(wanted[:, None, 5] == given[None, :, 5], overlaps(wanted[:, :4], given[:, :4]), 0)
    pairs = []
    for row in np.argsort(-wanted[:, 4], kind="stable") if len(given) else ():
        best = int(free[row].argmax())
        if free[row, best] >= _SAME_OBJECT:
            pairs.append((free[row, best], abs(float(wanted[row, 4]) - float(given[best, 4]))))
            free[:, best] = 0
    return np.array(pairs, np.float64).reshape(-1, 2)


def _confident(predictions: NDArray[np.floating]) -> NDArray[np.bool_]:
    """A mask (N, K)."""
    mask: NDArray[np.bool_] = (predictions[..., 5] != NO_DETECTION) & (predictions[..., 4] >= CONFIDENT)
    return mask


def _without_numbers(predictions: NDArray[np.floating]) -> NDArray[np.bool_]:
    """The images (N,) that have a NaN or an infinity."""
    mask: NDArray[np.bool_] = ~np.isfinite(predictions).all(axis=(1, 2))
    return mask


def _is_constant(predictions: NDArray[np.floating]) -> bool:
    return len(predictions) > 1 and bool((predictions == predictions[0]).all())
