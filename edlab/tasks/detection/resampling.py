"""The mean average precision of many resamples of the images, from one matching of detections and objects."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edlab.tasks.detection.coco import Matches

RESAMPLES = 1000
_SEED = 20140501  # any value works; with one seed all rows of a sweep have the same resamples
_RECALLS = np.linspace(0, 1, 101)  # COCOeval's Params.recThrs
_BLOCK = 1 << 22  # detections x resamples at a time


def resampled(images: int) -> NDArray[np.int32]:
    """How often each image is drawn in each resample, with replacement: int32 (images, RESAMPLES)."""
    drawn = np.random.default_rng(_SEED).multinomial(images, np.full(images, 1 / images), size=RESAMPLES)
    return np.ascontiguousarray(drawn.T, dtype=np.int32)


def mean_average_precision(classes: Sequence[Matches], multiplicity: NDArray[np.integer]) -> NDArray[np.float64]:
    """COCO's mAP over IoU 0.5 to 0.95 (0..1) of each resample: float64 (resamples,); NaN if it has no object.

    `multiplicity` (images, resamples) is how often each image counts: with 1 for all, the result is that of
    `COCOeval.accumulate`. Classes without an object in a resample do not count in it, as in COCOeval.
    """
    total, present = np.zeros(multiplicity.shape[1]), np.zeros(multiplicity.shape[1])
    for each in classes:
        objects = each.objects @ multiplicity
        step = max(1, _BLOCK // max(1, len(each.images)))
        for start in range(0, len(objects), step):
            part = slice(start, start + step)
            total[part] += _average_precision(each, multiplicity[:, part], objects[part])
        present += objects > 0
    mean: NDArray[np.float64] = np.divide(total, present, out=np.full_like(total, np.nan), where=present > 0)
    return mean


def _average_precision(
    matches: Matches, multiplicity: NDArray[np.integer], objects: NDArray[np.integer]
) -> NDArray[np.float64]:
    """The mAP of one class, over its IoU thresholds and 101 recalls: (resamples,); 0 if it has no object.

    Precision drops at each wrong detection and recall rises only at right ones, so COCO's interpolated precision, the
    highest at this recall or any higher one, is reached at right detections: only these are evaluated.
    """
    weights = multiplicity[matches.images]  # (D, resamples)
    seen = np.cumsum(weights, axis=0, dtype=np.int32)
    total = np.zeros(multiplicity.shape[1])
    for found, ignored in zip(matches.found, matches.ignored, strict=True):
        right = np.flatnonzero(found & ~ignored)
        if not len(right):
            continue
        true = np.cumsum(weights[right], axis=0, dtype=np.int32)
        precision = true / (seen[right] - _before(right, ignored, weights) + np.spacing(1))
        highest = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
        reached = np.searchsorted(_RECALLS, true / np.maximum(objects, 1), side="right")  # how many of the recalls
        total += (highest * np.diff(reached, axis=0, prepend=0)).sum(axis=0)
    total /= len(matches.found) * len(_RECALLS)
    return total


def _before(
    positions: NDArray[np.integer], ignored: NDArray[np.bool_], weights: NDArray[np.integer]
) -> NDArray[np.integer]:
    """The weight of the ignored detections before each position: (positions, resamples)."""
    where = np.flatnonzero(ignored)
    sums = np.zeros((len(where) + 1, weights.shape[1]), np.int32)
    np.cumsum(weights[where], axis=0, out=sums[1:])
    return sums[np.searchsorted(where, positions)]
