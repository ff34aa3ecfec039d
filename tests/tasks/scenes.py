"""Objects and detections in pixels, and the predictions that a model with a given input would output for them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edlab.placement import place
from edlab.source import Preprocessing
from edlab.tasks.detection.annotations import NO_DETECTION, Annotations, Boxes

PREPROCESSING = Preprocessing(height=320, width=480, resize_mode="letterbox")
Detection = tuple[float, float, float, float, float, int]  # x1, y1, x2, y2 in pixels, score, class


def objects(
    corners: Sequence[Sequence[float]] | np.ndarray,
    classes: Sequence[int] | np.ndarray,
    size: tuple[int, int] = (480, 640),
    crowds: np.ndarray | None = None,
) -> Boxes:
    """The objects of one image, their areas those of the boxes."""
    boxes = np.array(corners, np.float64).reshape(-1, 4)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    mask = np.zeros(len(boxes), bool) if crowds is None else crowds
    return Boxes(size, boxes, np.array(classes, np.int64), mask, areas)


def predicted(
    detections: Sequence[Sequence[Detection]],
    truth: Annotations,
    preprocessing: Preprocessing = PREPROCESSING,
    label_offset: int = 0,
) -> np.ndarray:
    """(N, K, 6) float64, so that nothing is rounded; a model's are float32."""
    rows = max(1, max(len(each) for each in detections))
    predictions = np.zeros((len(detections), rows, 6))
    predictions[..., 5] = NO_DETECTION
    inputs = (preprocessing.width, preprocessing.height) * 2
    for index, (each, image) in enumerate(zip(detections, truth.images, strict=True)):
        height, width = image.size
        placement = place(width, height, preprocessing)
        scale = np.array((placement.width / width, placement.height / height) * 2)
        values = np.array(sorted(each, key=lambda one: -one[4]), np.float64).reshape(-1, 6)
        values[:, :4] = (values[:, :4] * scale - (placement.left, placement.top) * 2) / inputs
        values[:, 5] += label_offset
        predictions[index, : len(values)] = values
    return predictions


def random_scene(seed: int, images: int = 40, classes: int = 6) -> tuple[Annotations, list[list[Detection]]]:
    """Crowds, empty images, a class without objects and one without detections, over 100 detections, boxes without an
    area, and equal scores.
    """
    rng = np.random.default_rng(seed)
    truth, found = [], []
    for index in range(images):
        height, width = (int(side) for side in rng.integers(50, 700, 2))
        count = 0 if index % 7 == 3 else int(rng.integers(1, 12))
        start = rng.uniform(0, 0.6, (count, 2))
        corners = np.concatenate([start, start + rng.uniform(0.01, 0.4, (count, 2))], axis=1) * ((width, height) * 2)
        labels = rng.integers(0, classes - 1, count)  # the last class has no object
        truth.append(objects(corners, labels, (height, width), rng.random(count) < 0.1))
        noise = rng.normal(0, 0.08, corners.shape) * (corners[:, [2, 3, 2, 3]] - corners[:, [0, 1, 0, 1]])
        near = corners + noise
        start = rng.uniform(0, 0.8, (130 if index == 5 else 20, 2))
        false = np.concatenate([start, start + rng.uniform(0, 0.3, start.shape)], axis=1) * ((width, height) * 2)
        false[::9, 2] = false[::9, 0]  # no area
        boxes = np.concatenate([near, false])
        given = np.concatenate([labels, np.zeros(len(false)) if index == 5 else rng.integers(0, classes, len(false))])
        scores = np.round(rng.beta(1 + 3 * (np.arange(len(boxes)) < count), 3), 2)  # many are equal
        kept = (given != 1) & (index % 11 != 0)
        found.append(
            [(*box, score, int(c)) for box, score, c in zip(boxes[kept], scores[kept], given[kept], strict=True)]
        )
    return Annotations(tuple(truth), tuple(f"class {index}" for index in range(classes))), found
