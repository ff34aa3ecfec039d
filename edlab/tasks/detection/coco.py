"""pycocotools, the reference implementation of COCO's metrics, on arrays: no files, and nothing printed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edlab.tasks.detection.annotations import Annotations


class Detections(NamedTuple):
    """What was found in all images, image by image, best first."""

    images: NDArray[np.int64]  # (D,) rows of the images
    corners: NDArray[np.float64]  # (D, 4): x1, y1, x2, y2 in pixels of the original image
    scores: NDArray[np.float64]  # (D,)
    classes: NDArray[np.int64]  # (D,) indices into the class names of the truth


@dataclass(frozen=True)
class Matches:
    """How the detections of one class, best first over all images, match the objects of that class."""

    images: NDArray[np.int64]  # (D,) rows of the images
    found: NDArray[np.bool_]  # (thresholds, D): belongs to an object at this IoU threshold
    ignored: NDArray[np.bool_]  # (thresholds, D): counts neither as right nor as wrong
    objects: NDArray[np.int64]  # (images,): how many objects there are to find


Evaluation = Any  # pycocotools.cocoeval.COCOeval, which has no types


def evaluate(detections: Detections, truth: Annotations, *, by_size: bool) -> Evaluation:
    """A `pycocotools.cocoeval.COCOeval` for boxes, with its default parameters, that has matched the detections.

    Without `by_size` it evaluates only all sizes together, which takes a quarter of the time.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def indexed(annotations: Iterable[dict[str, Any]]) -> Any:
        coco = COCO()
        coco.dataset = {
            "images": [{"id": row} for row in range(len(truth))],
            "categories": [{"id": index, "name": name} for index, name in enumerate(truth.class_names)],
            "annotations": list(annotations),
        }
        _silent(COCO.createIndex)(coco)
        return coco

    evaluation = COCOeval(indexed(_objects(truth)), indexed(_results(detections)), "bbox")
    if not by_size:
        evaluation.params.areaRng, evaluation.params.areaRngLbl = evaluation.params.areaRng[:1], ["all"]
    _silent(COCOeval.evaluate)(evaluation)
    return evaluation


def summary(evaluation: Evaluation) -> NDArray[np.float64]:
    """COCOeval's twelve figures, of an evaluation by size; -1 if there is no object."""
    _silent(type(evaluation).accumulate)(evaluation)
    _silent(type(evaluation).summarize)(evaluation)
    stats: NDArray[np.float64] = evaluation.stats
    return stats


def matches(evaluation: Evaluation) -> list[Matches]:
    """The matches of each class that has objects, for objects of any size."""
    images, sizes = len(evaluation.params.imgIds), len(evaluation.params.areaRng)
    of_classes = (
        evaluation.evalImgs[start : start + images] for start in range(0, len(evaluation.evalImgs), images * sizes)
    )
    found = (_of_class([image for image in entries if image is not None], images) for entries in of_classes)
    return [each for each in found if each.objects.any()]


def _of_class(entries: Sequence[dict[str, Any]], images: int) -> Matches:
    objects = np.zeros(images, np.int64)
    thresholds = entries[0]["dtMatches"].shape[0] if entries else 0
    rows, scores = [np.empty(0, np.int64)], [np.empty(0)]
    found, ignored = [np.empty((thresholds, 0), bool)], [np.empty((thresholds, 0), bool)]
    for entry in entries:
        objects[entry["image_id"]] = np.count_nonzero(entry["gtIgnore"] == 0)
        rows.append(np.full(len(entry["dtScores"]), entry["image_id"]))
        scores.append(np.asarray(entry["dtScores"], np.float64))
        found.append(entry["dtMatches"] != 0)
        ignored.append(entry["dtIgnore"].astype(bool))
    best_first = np.argsort(-np.concatenate(scores), kind="mergesort")  # as COCOeval sorts them
    return Matches(
        np.concatenate(rows)[best_first],
        np.concatenate(found, axis=1)[:, best_first],
        np.concatenate(ignored, axis=1)[:, best_first],
        objects,
    )


def _objects(truth: Annotations) -> Iterable[dict[str, Any]]:
    """Numbered from 1: for COCOeval, object 0 means no match."""
    number = 0
    for row, boxes in enumerate(truth.images):
        values = (_bbox(boxes.corners), boxes.classes.tolist(), boxes.areas.tolist(), boxes.crowds.tolist())
        for bbox, category, area, crowd in zip(*values, strict=True):
            number += 1
            yield _annotation(number, row, category, bbox) | {"area": area, "iscrowd": int(crowd)}


def _results(detections: Detections) -> Iterable[dict[str, Any]]:
    """In the format of COCO.loadRes."""
    values = (detections.images.tolist(), detections.classes.tolist(), _bbox(detections.corners))
    for number, (image, category, bbox, score) in enumerate(zip(*values, detections.scores.tolist(), strict=True), 1):
        area = bbox[2] * bbox[3]
        yield _annotation(number, image, category, bbox) | {"area": area, "iscrowd": 0, "score": score}


def _annotation(number: int, image: int, category: int, bbox: list[float]) -> dict[str, Any]:
    return {"id": number, "image_id": image, "category_id": category, "bbox": bbox}


def _bbox(corners: NDArray[np.float64]) -> list[list[float]]:
    """x, y, width, height; size 0 if the corners are swapped."""
    sides = np.maximum(corners[:, 2:] - corners[:, :2], 0)
    listed: list[list[float]] = np.concatenate([corners[:, :2], sides], axis=1).tolist()
    return listed


def _silent(function: FunctionType) -> Callable[..., Any]:
    """The function with a `print` that does nothing; `print` of other callers, and stdout, are unchanged."""
    names = {**function.__globals__, "print": lambda *_: None}
    return FunctionType(function.__code__, names, function.__name__, function.__defaults__)
