"""Checks the ground truth of detection against the images that it belongs to."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edlab.source import Reason
from edlab.tasks.detection.annotations import Annotations, Boxes

MISFIT_ADVICE = (
    "if images are rotated, set dataset.exif_orientation=apply (or ignore, if it is apply); otherwise use the images "
    "that the boxes were drawn on"
)
_SLACK = 0.01  # of the image's side: annotation tools round


def doubtful_boxes(images: Sequence[Boxes], source: str) -> list[Reason]:
    """What is wrong with boxes that are nevertheless scored, unchanged.

    pycocotools neither clips nor drops ground truth: a box without area counts as an object that is never found.
    Another rule here would give another mAP for the same file.
    """
    corners = np.concatenate([image.corners for image in images])
    sides = np.repeat(
        np.array([image.size[::-1] for image in images], np.float64), [len(image.classes) for image in images], axis=0
    )
    inside = np.minimum(corners[:, 2:], sides) - np.maximum(corners[:, :2], 0)
    lost = (inside <= 0).any(axis=1)
    slack = _SLACK * sides
    beyond = ((corners[:, :2] < -slack) | (corners[:, 2:] > sides + slack)).any(axis=1) & ~lost
    reasons = []
    if lost.any():
        reasons.append(
            Reason(
                code="boxes_without_area",
                message=f"{lost.sum()} of {len(corners)} boxes in {source} have no area inside their image: they count "
                "as objects that are not found, as in pycocotools",
                advice="fix or remove them",
            )
        )
    if beyond.any():
        reasons.append(
            Reason(
                code="boxes_outside_image",
                message=f"{beyond.sum()} of {len(corners)} boxes in {source} extend beyond the image: they are scored "
                "unchanged, as in pycocotools",
                advice="check that the annotations belong to these images, and clip the boxes",
            )
        )
    return reasons


def in_pixels(annotations: Annotations, sizes: NDArray[np.int64]) -> Annotations:
    """Boxes in fractions of their images, converted to pixels. `sizes` are int64 (N, 2), height and width."""
    pairs = zip(annotations.images, sizes.tolist(), strict=True)
    scaled = tuple(_scaled(boxes, height, width) for boxes, (height, width) in pairs)
    return Annotations(scaled, annotations.class_names)


def misfits(annotations: Annotations, sizes: NDArray[np.int64]) -> dict[int, str]:
    """Why the boxes of an image do not match its pixels, by its row. `sizes` are those decoded, as above."""
    reasons = {}
    for row, (boxes, size) in enumerate(zip(annotations.images, map(tuple, sizes.tolist()), strict=True)):
        if boxes.size != size:
            turned = "; its EXIF orientation swaps them" if boxes.size == size[::-1] else ""
            reasons[row] = f"it has {_shown(size)} pixels, and its annotations state {_shown(boxes.size)}{turned}"
    return reasons


def misfit_reason(reasons: Sequence[str], images: int) -> Reason:
    """`reasons` are those of `misfits`, `images` the number of images."""
    return Reason(
        code="images_of_other_size",
        message=f"the size of {len(reasons)} of {images} images differs from their annotations: they were not scored "
        f"({reasons[0]})",
        advice=MISFIT_ADVICE,
    )


def _scaled(boxes: Boxes, height: int, width: int) -> Boxes:
    scale = np.array([width, height, width, height], np.float64)
    return dataclasses.replace(
        boxes, size=(height, width), corners=boxes.corners * scale, areas=boxes.areas * (height * width)
    )


def _shown(size: tuple[int, int]) -> str:
    """Width and height, in the order of image tools."""
    return f"{size[1]} x {size[0]}"
