"""Boxes: their geometry, and non-maximum suppression. Corners are (x1, y1, x2, y2), float32 (N, 4)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_BLOCK = 128  # boxes


class Detections(NamedTuple):
    """The detections of one image, best first. Coordinates are fractions of the model's input, 0..1 inside it."""

    boxes: np.ndarray  # float32 (N, 4): corners
    scores: np.ndarray  # float32 (N,)
    classes: np.ndarray  # int64 (N,): numbered as in the model

    def take(self, indices: np.ndarray) -> Detections:
        """The detections at these indices, or of a mask."""
        return Detections(self.boxes[indices], self.scores[indices], self.classes[indices])


class Limits(NamedTuple):
    """Which candidates count: the minimum score, the maximum overlap with a better one, and the maximum number."""

    score: float
    iou: float
    candidates: int  # the best ones, which enter the suppression
    detections: int  # per image
    label_offset: int = 0  # classes below it (the background) are not detections


def corners(centres: np.ndarray) -> np.ndarray:
    """(x, y, width, height) of centres (N, 4) as corners."""
    half = centres[:, 2:] / 2
    return np.concatenate([centres[:, :2] - half, centres[:, :2] + half], axis=1)


def candidates(boxes: np.ndarray, scores: np.ndarray, limits: Limits) -> Detections:
    """Each box (N, 4) with each class whose score (N, C) is high enough: the best `limits.candidates` of them.

    A box may be a candidate of several classes, as in the reference evaluations. A NaN is not a candidate.
    """
    rows, classes, found = ranked(scores, limits)
    return Detections(boxes[rows], found, classes)


def ranked(scores: np.ndarray, limits: Limits) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The `limits.candidates` best scores in (N, C) that are high enough, best first: row, class and score of each."""
    scores = scores[:, limits.label_offset :]
    likely = _best(np.fmax.reduce(scores, axis=1), limits) if scores.shape[1] else np.empty(0, np.int64)
    scores = np.ascontiguousarray(scores[likely])  # the best scores are in the rows with the highest maxima
    places = _best(scores.reshape(-1), limits)
    found = scores.reshape(-1)[places]
    order = np.argsort(-found, kind="stable")
    rows, classes = np.divmod(places[order], max(scores.shape[1], 1))
    return likely[rows], classes + limits.label_offset, found[order]


def _best(scores: np.ndarray, limits: Limits) -> np.ndarray:
    """The indices, ascending, of the `limits.candidates` best scores (N,) that are high enough."""
    indices = np.flatnonzero(scores >= limits.score)
    if len(indices) > limits.candidates:
        indices = indices[np.argpartition(-scores[indices], limits.candidates)[: limits.candidates]]
    return np.sort(indices)


def best(boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray, limits: Limits) -> Detections:
    """Detections that need no suppression, best first: boxes (N, 4), scores and classes (N,)."""
    order = np.argsort(-scores, kind="stable")
    good = (scores[order] >= limits.score) & (classes[order] >= limits.label_offset)
    order = order[good][: limits.detections]
    return Detections(boxes[order], scores[order], classes[order].astype(np.int64))


def suppress(found: Detections, limits: Limits) -> Detections:
    """Greedy non-maximum suppression within each class: a box is removed if a better one that is kept overlaps it by
    more than `limits.iou`. `found` is sorted, best first.
    """
    kept = np.empty(0, np.int64)
    for start in range(0, len(found.scores), _BLOCK):  # all pairs at once would be a million for a single class
        block = np.arange(start, min(start + _BLOCK, len(found.scores)))
        block = block[~_hides(found, kept, block, limits).any(axis=0)]
        kept = np.concatenate([kept, block[_survivors(_hides(found, block, block, limits))]])
        if len(kept) >= limits.detections:
            break
    return found.take(kept[: limits.detections])


def _hides(found: Detections, first: np.ndarray, second: np.ndarray, limits: Limits) -> np.ndarray:
    """Whether each of the detections `first` has the class of each of `second`, and overlaps it: (first, second)."""
    same = found.classes[first][:, None] == found.classes[second]
    hides: np.ndarray = same & (overlaps(found.boxes[first], found.boxes[second]) > limits.iou)
    return hides


def _survivors(hides: np.ndarray) -> np.ndarray:
    """A mask of those (N,), best first, that no better survivor hides (N, N)."""
    hides = np.triu(hides, 1)
    alive = np.ones(len(hides), bool)
    for index in np.flatnonzero(hides.any(axis=1)):
        if alive[index]:
            alive &= ~hides[index]
    return alive


def overlaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes (N, 4) with boxes (M, 4): (N, M). Boxes without an area overlap nothing."""
    (left, top, right, bottom), (lefts, tops, rights, bottoms) = a.T[..., None], np.ascontiguousarray(b.T)
    width = np.minimum(right, rights) - np.maximum(left, lefts)
    height = np.minimum(bottom, bottoms) - np.maximum(top, tops)
    shared = np.maximum(width, 0) * np.maximum(height, 0)
    union = area(a)[:, None] + area(b) - shared
    result: np.ndarray = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return result


def area(boxes: np.ndarray) -> np.ndarray:
    """The area of boxes (N, 4); 0 for boxes with swapped corners."""
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    result: np.ndarray = sides[:, 0] * sides[:, 1]
    return result
