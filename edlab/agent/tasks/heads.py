"""The heads of detection models: from a model's raw outputs to boxes, scores and classes.

Each takes the outputs of one image, dequantized, in the model's order, and gives `Detections`. `HEADS` has them by the
name that `model.head` takes.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, NamedTuple, Optional

import numpy as np

from . import boxes as geometry
from .boxes import Detections, Limits

_FEW_INPUTS = 2.0  # a coordinate beyond it is in pixels: as a fraction it would lie two inputs away


class Facts(NamedTuple):
    """What a head must know of its model."""

    size: "tuple[int, int]"  # of the input: height, width
    classes: Optional[int] = None  # of the label map, background not counted
    anchors: Optional[np.ndarray] = None  # float32 (A, 4): x, y, width, height of centres, fractions of the input
    weights: "tuple[float, ...]" = (1.0, 1.0, 1.0, 1.0)  # that the coded x, y, width, height are divided by
    vertical_first: bool = False  # codes are y, x, height, width
    activation: str = "sigmoid"  # of the class scores: sigmoid, softmax, none
    background: bool = False  # class 0 is none


Head = Callable[[List[np.ndarray], Facts, Limits], Detections]


def tflite_postprocess(outputs: list[np.ndarray], facts: Facts, limits: Limits) -> Detections:
    """TFLite_Detection_PostProcess: boxes (y1, x1, y2, x2), classes, scores and their count, in any order."""
    boxes = next(output for output in outputs if output.ndim == 3).reshape(-1, 4)
    flat = [output.reshape(-1) for output in outputs if output.ndim < 3]
    count = int(next(values for values in flat if len(values) == 1)[0])
    rows = [values for values in flat if len(values) == len(boxes)][:2]
    scores, classes = _scores_and_classes(rows, count)
    boxes = boxes[:count, [1, 0, 3, 2]]
    return geometry.best(boxes, scores[:count], classes[:count], limits)


def _scores_and_classes(rows: list[np.ndarray], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Which row is which: scores fall and are fractions; classes are whole numbers."""
    first, second = rows[0][:count], rows[1][:count]
    if _whole(first) and not _whole(second):
        return rows[1], rows[0]
    if _whole(second) and not _whole(first):
        return rows[0], rows[1]
    falling = bool((np.diff(first) <= 0).all()) and first.max(initial=0) <= 1
    return (rows[0], rows[1]) if falling else (rows[1], rows[0])


def _whole(values: np.ndarray) -> bool:
    return bool((values == np.round(values)).all())


def anchored(outputs: list[np.ndarray], facts: Facts, limits: Limits) -> Detections:
    """Coded boxes (A, 4) and class scores (A, C) over anchors: SSD, RetinaNet.

    Source: Liu et al., SSD, 2016, equation 2; torchvision, models/detection/_utils.py, BoxCoder.decode_single.
    """
    assert facts.anchors is not None
    codes, logits = _pair(outputs, len(facts.anchors))
    if facts.vertical_first:
        codes = codes[:, [1, 0, 3, 2]]
    logits = logits[:, 1:] if facts.background and facts.activation != "softmax" else logits
    rows = _likely(logits, facts.activation, limits)
    scores = _activated(logits[rows], facts.activation)
    if facts.background and facts.activation == "softmax":
        scores = scores[:, 1:]
    codes, anchors = codes[rows] / np.array(facts.weights, np.float32), facts.anchors[rows]
    centres = np.concatenate(
        [
            codes[:, :2] * anchors[:, 2:] + anchors[:, :2],
            np.exp(np.minimum(codes[:, 2:], np.float32(np.log(1000 / 16)))) * anchors[:, 2:],
        ],
        axis=1,
    )
    found = geometry.candidates(geometry.corners(centres), scores, limits)
    return geometry.suppress(found, limits)


def _likely(logits: np.ndarray, activation: str, limits: Limits) -> np.ndarray:
    """The rows that detections can come from. A sigmoid keeps their order, so it waits until few are left."""
    if activation == "softmax":
        return np.arange(len(logits))
    highest = logits.max(axis=1)
    least = np.log(limits.score / (1 - limits.score)) if activation == "sigmoid" else limits.score
    return geometry.likely(highest, limits._replace(score=float(least)))


def _pair(outputs: list[np.ndarray], anchors: int) -> tuple[np.ndarray, np.ndarray]:
    """The coded boxes and the class scores; where there are four classes too, the boxes come first."""
    flat = [output.reshape(-1, output.shape[-1]) for output in outputs]
    flat = [output for output in flat if len(output) == anchors]
    codes = next(output for output in flat if output.shape[1] == 4)
    return codes, next(output for output in flat if output is not codes)


def yolov5(outputs: list[np.ndarray], facts: Facts, limits: Limits) -> Detections:
    """(1, N, 5 + C): centre, size, objectness, and classes, activated; in pixels or fractions of the input."""
    rows = outputs[0].reshape(-1, outputs[0].shape[-1])
    rows = rows[rows[:, 4] >= limits.score]
    rows = rows[geometry.likely(rows[:, 5:].max(axis=1) * rows[:, 4], limits)]
    scores = rows[:, 5:] * rows[:, 4:5]
    return _suppressed(rows[:, :4], scores, facts, limits)


def yolov8(outputs: list[np.ndarray], facts: Facts, limits: Limits) -> Detections:
    """(1, 4 + C, N): centre, size, and classes, activated (v8, v9, v11); in pixels or fractions of the input."""
    columns = outputs[0].reshape(outputs[0].shape[-2:])
    rows = columns[:, geometry.likely(columns[4:].max(axis=0), limits)].T
    return _suppressed(rows[:, :4], rows[:, 4:], facts, limits)


def yolov10(outputs: list[np.ndarray], facts: Facts, limits: Limits) -> Detections:
    """(1, N, 6): corners, score and class, without suppression (v10, and other end-to-end exports)."""
    rows = outputs[0].reshape(-1, 6)
    boxes = _fractions(rows[:, :4], facts.size)
    return geometry.best(boxes, rows[:, 4], np.round(rows[:, 5]), limits)


def detr(outputs: list[np.ndarray], facts: Facts, limits: Limits) -> Detections:
    """Class logits (1, Q, C) and boxes (1, Q, 4) as centre and size in fractions, without suppression.

    With one class more than the label map has, the last is "no object" and the logits are softmax's (DETR); else they
    are sigmoid's (Deformable DETR, RT-DETR).
    """
    flat = [output.reshape(-1, output.shape[-1]) for output in outputs]
    centres = next(output for output in flat if output.shape[1] == 4)
    logits = next(output for output in flat if output is not centres)
    boxes = geometry.corners(centres)
    if facts.classes is not None and logits.shape[1] == facts.classes + 1:
        scores = _activated(logits, "softmax")[:, :-1]
        classes = scores.argmax(axis=1)
        return geometry.best(boxes, scores[np.arange(len(scores)), classes], classes, limits)
    every = limits._replace(candidates=limits.detections)
    return geometry.candidates(boxes, _activated(logits, "sigmoid"), every)


def _suppressed(centres: np.ndarray, scores: np.ndarray, facts: Facts, limits: Limits) -> Detections:
    boxes = _fractions(geometry.corners(centres), facts.size)
    return geometry.suppress(geometry.candidates(boxes, scores, limits), limits)


def _fractions(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Corners in pixels of the input as fractions of it; those that are fractions already stay."""
    if not len(boxes) or np.nanmax(np.abs(boxes)) <= _FEW_INPUTS:
        return boxes
    height, width = size
    result: np.ndarray = boxes / np.array([width, height, width, height], np.float32)
    return result


def _activated(logits: np.ndarray, activation: str) -> np.ndarray:
    """float32 scores 0..1."""
    if activation == "none":
        return logits
    if activation == "sigmoid":
        with np.errstate(over="ignore"):
            return np.asarray(1 / (1 + np.exp(-logits)), np.float32)
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True), np.float32)


HEADS: Dict[str, Head] = {
    "ssd": tflite_postprocess,
    "ssd_raw": anchored,
    "yolov5": yolov5,
    "yolov8": yolov8,
    "yolov10": yolov10,
    "detr": detr,
}


def described(options: Dict[str, Any]) -> Facts:
    """The facts of a request's options; `anchors` is the path of an npy file."""
    values = dict(options)
    if values.get("anchors"):
        values["anchors"] = np.load(values["anchors"])
    for name in ("size", "weights"):
        if name in values:
            values[name] = tuple(values[name])
    return Facts(**values)
