"""Which head a detection model has, by the shapes of its outputs: pure functions. `edlab.agent.tasks.detection.heads`
decodes them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from edlab.config import ModelConfig
from edlab.errors import ModelError
from edlab.tasks.base import Outputs, Size, listing

Shape = tuple[int | None, ...]

_STRIDES = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32))  # of YOLO's usual models, of P6 and of P2
_YOLOV5_ANCHORS = 3  # of each cell
_FEW_BOXES = 1000  # maximum of a head without suppression


class Head(NamedTuple):
    """Whether outputs have this form, and how many classes they then distinguish (None: not stated).

    `iou_threshold` is the threshold for suppressing overlapping boxes with which its authors evaluate it; None if boxes
    are not suppressed.
    """

    fits: Callable[[list[Shape], Size], bool]
    classes: Callable[[list[Shape]], int | None]
    form: str  # for messages
    iou_threshold: float | None


def _ssd(shapes: list[Shape], size: Size) -> bool:
    boxes = [shape for shape in shapes if len(shape) == 3 and shape[2] == 4]
    counts = [shape for shape in shapes if shape in ((), (1,), (1, 1))]
    if len(shapes) != 4 or len(boxes) != 1 or not counts:
        return False
    return sum(len(shape) == 2 and shape[1] == boxes[0][1] for shape in shapes) >= 2


def _pair(shapes: list[Shape]) -> tuple[Shape, Shape] | None:
    """The shapes of boxes (1, N, 4) and of classes (1, N, C); if both have four columns, the first are the boxes."""
    if len(shapes) != 2 or any(len(shape) != 3 for shape in shapes) or shapes[0][1] != shapes[1][1]:
        return None
    boxes = next((index for index, shape in enumerate(shapes) if shape[2] == 4), None)
    return None if boxes is None else (shapes[boxes], shapes[1 - boxes])


def _one(shapes: list[Shape]) -> tuple[int, int] | None:
    """Rows and columns of a single output (1, rows, columns)."""
    if len(shapes) != 1 or len(shapes[0]) != 3:
        return None
    rows, columns = shapes[0][1:]
    return (rows, columns) if rows and columns else None


def _ssd_raw(shapes: list[Shape], size: Size) -> bool:
    pair = _pair(shapes)
    return pair is not None and (pair[1][2] or 0) > 1


def _detr(shapes: list[Shape], size: Size) -> bool:
    pair = _pair(shapes)
    return pair is not None and (pair[0][1] or 0) <= _FEW_BOXES


def _yolo(boxes: int, columns: int, size: Size, each: int) -> bool:
    """Whether there is this number of boxes, `each` in a cell; if the input size is unknown, more than columns."""
    if size is None:
        return boxes > columns
    return any(boxes == each * sum((size[0] // n) * (size[1] // n) for n in strides) for strides in _STRIDES)


def _yolov5(shapes: list[Shape], size: Size) -> bool:
    table = _one(shapes)
    return table is not None and table[1] >= 6 and _yolo(*table, size, _YOLOV5_ANCHORS)


def _yolov8(shapes: list[Shape], size: Size) -> bool:
    table = _one(shapes)
    return table is not None and table[0] >= 5 and _yolo(*table[::-1], size, 1)


def _yolov10(shapes: list[Shape], size: Size) -> bool:
    table = _one(shapes)
    return table is not None and table[1] == 6 and table[0] <= _FEW_BOXES


def _columns(shapes: list[Shape]) -> int | None:
    pair = _pair(shapes)
    return pair[1][2] if pair else None


# Thresholds: TensorFlow's configurations of SSD have 0.6, torchvision's 0.45 to 0.55; yolov5's val.py 0.6 and
# Ultralytics' cfg/default.yaml 0.7.
HEADS = {
    "ssd": Head(_ssd, lambda shapes: None, "boxes (1, N, 4), classes and scores (1, N), count (1)", None),
    "ssd_raw": Head(_ssd_raw, _columns, "coded boxes (1, A, 4) and classes (1, A, C)", 0.5),
    "yolov5": Head(_yolov5, lambda shapes: (shapes[0][2] or 0) - 5, "(1, N, 5 + C)", 0.6),
    "yolov8": Head(_yolov8, lambda shapes: (shapes[0][1] or 0) - 4, "(1, 4 + C, N)", 0.7),
    "yolov10": Head(_yolov10, lambda shapes: None, "(1, N, 6)", None),
    "detr": Head(_detr, _columns, "boxes (1, Q, 4) and logits (1, Q, C)", None),
}


def fitting(shapes: Sequence[Sequence[int | None]], size: Size) -> list[str]:
    """The heads that fit outputs of these shapes."""
    plain = [tuple(shape) for shape in shapes]
    return [name for name, head in HEADS.items() if head.fits(plain, size)]


def choose(config: ModelConfig, name: str, outputs: Outputs, size: Size, stated: Mapping[str, Any]) -> str:
    """The head of these outputs: `model.head`, the source's, else the only one that fits. Raises `ModelError`."""
    if config.head is not None and ":" in config.head:
        return config.head
    fits = fitting([shape for _, shape in outputs], size)
    if config.head is not None and config.head not in HEADS:
        valid = f"valid: {', '.join(HEADS)}, package.module:function"
        raise ModelError(f"unknown model.head={config.head}", hint=valid)
    if not fits:
        raise _unfit(name, outputs)
    if config.head in fits:
        return str(config.head)
    if config.head is not None:
        raise ModelError(
            f"model.head={config.head} decodes {HEADS[config.head].form}, and the outputs of {name} are "
            f"{listing(outputs)}",
            hint=f"set model.head={' or '.join(fits)}",
        )
    if stated.get("head") in fits:
        return str(stated["head"])
    if "detr" in fits and "ssd_raw" in fits and config.detection.anchors is None:
        fits.remove("ssd_raw")  # it cannot be decoded without anchors
    if len(fits) > 1:
        raise ModelError(
            f"it is unclear how to decode boxes from the outputs of {name}: {listing(outputs)}",
            hint=f"set model.head={' or '.join(fits)}",
        )
    return fits[0]


def _unfit(name: str, outputs: Outputs) -> ModelError:
    """The error for outputs that no head decodes."""
    if len(outputs) == 1 and sum(length != 1 for length in outputs[0][1][1:]) == 1:
        return ModelError(
            f"{name} has the output of a classifier, {listing(outputs)}: one score per class, and no boxes",
            hint="set dataset to one for classification (imagenet, image_folder), or use a detection model",
        )
    forms = "; ".join(f"{head} decodes {HEADS[head].form}" for head in HEADS)
    return ModelError(
        f"unsupported outputs: no detection head of edlab decodes the outputs of {name}: {listing(outputs)}",
        hint=f"set model.output to the one with the boxes, or model.head=package.module:function to decode them "
        f"yourself; {forms}",
    )
