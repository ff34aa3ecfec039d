"""Boxes: their geometry, and non-maximum suppression. Corners are (x1, y1, x2, y2), float32 (N, 4)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Detections(NamedTuple):
    """What was found in one image, best first. Coordinates are fractions of the model's input, 0..1 inside it."""

    boxes: np.ndarray  # float32 (N, 4): corners
    scores: np.ndarray  # float32 (N,)
    classes: np.ndarray  # int64 (N,): as the model numbers them

    @classmethod
    def none(cls) -> Detections:
        """Nothing found."""
        return cls(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int64))

    def take(self, indices: np.ndarray) -> Detections:
        """Those of these indices, or of a mask."""
        return Detections(self.boxes[indices], self.scores[indices], self.classes[indices])


class Limits(NamedTuple):
    """Which candidates count: at least this score, at most this overlap with a better one, at most so many."""

    score: float
    iou: float
    candidates: int  # that enter the suppression, the best ones
    detections: int  # of an image


def corners(centres: np.ndarray) -> np.ndarray:
    """(x, y, width, height) of centres (N, 4) as corners."""
    half = centres[:, 2:] / 2
    return np.concatenate([centres[:, :2] - half, centres[:, :2] + half], axis=1)


def likely(highest: np.ndarray, limits: Limits) -> np.ndarray:
    """Of each box the highest score (N,): the indices of the boxes that the best candidates can be of."""
    indices = np.flatnonzero(highest >= limits.score)
    if len(indices) > limits.candidates:
        indices = indices[np.argpartition(-highest[indices], limits.candidates)[: limits.candidates]]
    return np.sort(indices)


def candidates(boxes: np.ndarray, scores: np.ndarray, limits: Limits) -> Detections:
    """Each box (N, 4) with each class of which its score (N, C) is high enough: the best `limits.candidates` of them.

    A box may be a candidate of several classes, as in the reference evaluations. A score that is NaN is none.
    """
    rows, classes = np.nonzero(scores >= limits.score)
    found = scores[rows, classes]
    if len(found) > limits.candidates:
        kept = np.sort(np.argpartition(-found, limits.candidates)[: limits.candidates])
        rows, classes, found = rows[kept], classes[kept], found[kept]
    order = np.argsort(-found, kind="stable")
    rows, classes = rows[order], classes[order]
    return Detections(boxes[rows], found[order], classes.astype(np.int64))


def best(boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray, limits: Limits) -> Detections:
    """Detections that need no suppression, best first."""
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] >= limits.score][: limits.detections]
    return Detections(boxes[order], scores[order], classes[order].astype(np.int64))


def suppress(found: Detections, limits: Limits) -> Detections:
    """Greedy non-maximum suppression within each class. `found` is sorted, best first."""
    keep = np.zeros(len(found.scores), bool)
    by_class = np.argsort(found.classes, kind="stable")  # within a class still best first
    edges = np.flatnonzero(np.diff(found.classes[by_class])) + 1
    for members in np.split(by_class, edges):
        keep[members[_survivors(found.boxes[members], limits.iou)]] = True
    return found.take(np.flatnonzero(keep)[: limits.detections])


def _survivors(boxes: np.ndarray, iou: float) -> np.ndarray:
    """A mask of the boxes (N, 4), best first, that no better survivor overlaps by more than `iou`."""
    alive = np.ones(len(boxes), bool)
    if len(boxes) < 2:
        return alive
    overlapping = overlaps(boxes, boxes) > iou
    for index in range(len(boxes) - 1):
        if alive[index]:
            alive[index + 1 :] &= ~overlapping[index, index + 1 :]
    return alive


def overlaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes (N, 4) with boxes (M, 4): (N, M). Boxes without an area overlap nothing."""
    left = np.maximum(a[:, None, :2], b[None, :, :2])
    right = np.minimum(a[:, None, 2:], b[None, :, 2:])
    sides = np.clip(right - left, 0, None)
    shared = sides[..., 0] * sides[..., 1]
    union = area(a)[:, None] + area(b)[None] - shared
    result: np.ndarray = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return result


def area(boxes: np.ndarray) -> np.ndarray:
    """Of boxes (N, 4); 0 of those whose corners are the wrong way round."""
    sides = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None)
    result: np.ndarray = sides[:, 0] * sides[:, 1]
    return result
