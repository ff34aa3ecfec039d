"""The heads of detection models: from a model's raw outputs to boxes, scores and classes.

Each takes the outputs of one image, dequantized, in the model's order, and returns `Detections`. `HEADS` lists them by
the names of `model.head`. Classes are numbered as in the model, including the background.
"""

from __future__ import annotations

import importlib
from typing import Any, Callable, Dict, List, NamedTuple, Optional

import numpy as np

from ...errors import AgentError
from . import boxes as geometry
from .boxes import Detections, Limits

_FEW_INPUTS = 2.0  # a coordinate beyond it is in pixels: as a fraction it would be two inputs away
_LARGEST_CODE = np.float32(np.log(1000 / 16))  # of a width or height, as in torchvision


class Facts(NamedTuple):
    """The facts of its model that a head needs."""

    size: "tuple[int, int]"  # of the input: height, width
    classes: Optional[int] = None  # in the outputs, including the background; None: unknown
    scores_first: Optional[bool] = None  # ssd: whether scores come before classes; None: detected from their values
    anchors: Optional[np.ndarray] = None  # float32 (A, 4): x, y, width, height of centres, fractions of the input
    activation: str = "sigmoid"  # of the class scores: sigmoid, softmax, none
    box_weights: "tuple[float, ...]" = (1.0, 1.0, 1.0, 1.0)  # divisors of the coded x, y, width, height
    box_order: str = "xywh"  # of the codes: xywh or yxhw


Head = Callable[[List[np.ndarray], Facts, Limits], Detections]


def tflite_postprocess(outputs: list[np.ndarray], facts: Facts, limits: Limits) -> Detections:
    """TFLite_Detection_PostProcess: boxes (y1, x1, y2, x2), classes, scores and their count, in any order."""
    boxes = next(output for output in outputs if output.ndim == 3).reshape(-1, 4)
    flat = [output for output in outputs if output.ndim < 3]
    counts = min(flat, key=lambda output: (output.size, output.ndim))
    count = int(counts.reshape(-1)[0])
    first, second = (output.reshape(-1)[:count] for output in flat if output is not counts)
    scores_first = _scores_first(first, second) if facts.scores_first is None else facts.scores_first
    scores, classes = (first, second) if scores_first else (second, first)
    return geometry.best(boxes[:count, [1, 0, 3, 2]], scores, classes, limits)


def _scores_first(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether scores are the first row: scores decrease and are fractions; classes are whole numbers."""
    if _whole(first) != _whole(second):
        return _whole(second)
    return bool((np.diff(first) <= 0).all()) and first.max(initial=0) <= 1


def _whole(values: np.ndarray) -> bool:
    return bool((values == np.round(values)).all())


def anchored(outputs: list[np.ndarray], facts: Facts, limits: Limits) -> Detections:
    """Coded boxes (1, A, 4) and class scores (1, A, C) over anchors: SSD, RetinaNet.

    Source: Liu et al., SSD, 2016, equation 2; torchvision, models/detection/_utils.py, BoxCoder.decode_single.
    """
    assert facts.anchors is not None
    codes, logits = _codes_and_logits(outputs)
    if facts.activation == "softmax":
        rows, classes, scores = geometry.ranked(_softmax(logits), limits)
    elif facts.activation == "sigmoid":
        # It preserves the order of the logits, so only the remaining ones need it.
        rows, classes, scores = geometry.ranked(logits, limits._replace(score=_logit(limits.score)))
        scores = _sigmoid(scores)
    else:
        rows, classes, scores = geometry.ranked(logits, limits)
    boxes = _inside(_decoded(codes[rows], facts.anchors[rows], facts))
    return geometry.suppress(Detections(boxes, scores, classes), limits)


def _codes_and_logits(outputs: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Of (1, N, 4) and (1, N, C): (N, 4) and (N, C). If there are also four classes, the boxes come first."""
    flat = [output.reshape(-1, output.shape[-1]) for output in outputs]
    boxes = 0 if flat[0].shape[1] == 4 else 1
    return flat[boxes], flat[1 - boxes]


def _decoded(codes: np.ndarray, anchors: np.ndarray, facts: Facts) -> np.ndarray:
    """Corners (N, 4) of coded boxes (N, 4) and their anchors (N, 4)."""
    if facts.box_order == "yxhw":
        codes = codes[:, [1, 0, 3, 2]]
    codes = codes / np.array(facts.box_weights, np.float32)
    sizes = np.exp(np.minimum(codes[:, 2:], _LARGEST_CODE)) * anchors[:, 2:]
    return geometry.corners(np.concatenate([codes[:, :2] * anchors[:, 2:] + anchors[:, :2], sizes], axis=1))


def yolov5(outputs: list[np.ndarray], facts: Facts, limits: Limits) -> Detections:
    """(1, N, 5 + C): centre, size, objectness, and classes after activation; in pixels or fractions of the input."""
    rows = outputs[0].reshape(-1, outputs[0].shape[-1])
    units = _units(rows[:, :2], facts.size)
    rows = rows[rows[:, 4] >= limits.score]
    return _suppressed(rows[:, :4] / units, rows[:, 5:] * rows[:, 4:5], limits)


def yolov8(outputs: list[np.ndarray], facts: Facts, limits: Limits) -> Detections:
    """(1, 4 + C, N): centre, size, and classes after activation (v8, v9, v11); in pixels or fractions of the input."""
    rows = outputs[0].reshape(outputs[0].shape[-2:]).T
    return _suppressed(rows[:, :4] / _units(rows[:, :2], facts.size), rows[:, 4:], limits)


def yolov10(outputs: list[np.ndarray], facts: Facts, limits: Limits) -> Detections:
    """(1, N, 6): corners, score and class, without suppression (v10, and other end-to-end exports)."""
    rows = outputs[0].reshape(-1, 6)
    boxes = _inside(rows[:, :4] / _units(rows[:, :4], facts.size))
    return geometry.best(boxes, rows[:, 4], np.round(rows[:, 5]), limits)


def detr(outputs: list[np.ndarray], facts: Facts, limits: Limits) -> Detections:
    """Class logits (1, Q, C) and boxes (1, Q, 4) as centre and size in fractions, in any order, without suppression.

    With one class more than the label map, the last is "no object" and the logits are for softmax (DETR); else they are
    for sigmoid (Deformable DETR, RT-DETR).
    """
    centres, logits = _centres_and_logits(outputs)
    boxes = geometry.corners(centres)
    if logits.shape[1] - 1 == facts.classes:
        scores = _softmax(logits)[:, limits.label_offset : -1]
        classes = scores.argmax(axis=1)
        return geometry.best(boxes, scores.max(axis=1), classes + limits.label_offset, limits)
    most = limits._replace(score=_logit(limits.score), candidates=limits.detections)
    rows, classes, scores = geometry.ranked(logits, most)
    return Detections(boxes[rows], _sigmoid(scores), classes)


def _centres_and_logits(outputs: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(Q, 4) and (Q, C). If there are also four classes, the boxes are the tensor with only fractions."""
    flat = [output.reshape(-1, output.shape[-1]) for output in outputs]
    boxes = [place for place, output in enumerate(flat) if output.shape[1] == 4]
    if len(boxes) > 1:
        boxes = [place for place in boxes if flat[place].min() >= 0 and flat[place].max() <= 1] or boxes
    return flat[boxes[0]], flat[1 - boxes[0]]


def _suppressed(centres: np.ndarray, scores: np.ndarray, limits: Limits) -> Detections:
    """Boxes are clipped after the suppression, as in Ultralytics."""
    found = geometry.suppress(geometry.candidates(geometry.corners(centres), scores, limits), limits)
    return found._replace(boxes=_inside(found.boxes))


def _inside(boxes: np.ndarray) -> np.ndarray:
    """Boxes clipped at the edges of the input."""
    result: np.ndarray = boxes.clip(0, 1)
    return result


def _units(places: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The divisors of (x, y, x, y) for fractions: coordinates (N, 2 or 4) show whether they are in pixels."""
    height, width = size
    pixels = places.max(initial=0) > _FEW_INPUTS
    return np.array([width, height, width, height] if pixels else [1] * 4, np.float32)


def _logit(score: float) -> float:
    """The inverse of the sigmoid for `score` (0..1)."""
    with np.errstate(divide="ignore"):
        return float(np.log(np.float64(score)) - np.log1p(-np.float64(score)))


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return np.asarray(1 / (1 + np.exp(-logits)), np.float32)


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


HEADS: Dict[str, Head] = {
    "ssd": tflite_postprocess,
    "ssd_raw": anchored,
    "yolov5": yolov5,
    "yolov8": yolov8,
    "yolov10": yolov10,
    "detr": detr,
}


def find(name: str) -> Head:
    """A head of `HEADS`, or "package.module:function", which was sent with the agent. Raises `AgentError`."""
    if name in HEADS:
        return HEADS[name]
    module, _, function = name.partition(":")
    try:
        head: Head = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError, SyntaxError) as error:
        raise AgentError(
            "the head '%s' cannot be imported on the target: %s" % (name, error),
            hint="set model.head to %s, or to package.module:function" % ", ".join(HEADS),
        ) from error
    return head


def facts(options: Dict[str, Any]) -> Facts:
    """The facts among the options of the task; `anchors` is the path of an npy file there."""
    found = {name: options[name] for name in Facts._fields if options.get(name) is not None}
    found.update({name: tuple(value) for name, value in found.items() if isinstance(value, list)})
    if "anchors" in found:
        found["anchors"] = np.load(found["anchors"])
    return Facts(**found)
