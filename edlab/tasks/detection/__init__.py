"""Object detection. `edlab.tasks.detection.annotations` describes predictions and ground truth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edlab.agent.tasks.detection import Task as Reader
from edlab.config import ModelConfig
from edlab.errors import ModelError
from edlab.metrics import Figures
from edlab.source import Origin, Preprocessing, Reason, SourceModel
from edlab.tasks import base
from edlab.tasks.base import OutputFacts, Outputs, Predictions, Size, named_output
from edlab.tasks.detection import comparison, heads, scoring
from edlab.tasks.detection.comparison import Comparison

# SSD's coding: the variances 0.1 and 0.2 of its authors' code, the scales 10 and 5 of TensorFlow's box coder.
_BOX_WEIGHTS = [10.0, 10.0, 5.0, 5.0]
_FARTHEST_CENTRE = 2.0  # inputs: beyond it anchors are in pixels
_INT8_AGREEMENT = 0.85
_FLOAT_AGREEMENT = 0.95
_GUESSING = 0.05  # mAP at IoU 0.5
_ENOUGH_IMAGES = 20
_CODING = {"activation": ("sigmoid", "softmax", "none"), "box_order": ("xywh", "yxhw")}  # the first is assumed


class Task(base.Task):
    """Boxes, each with a class and a score."""

    name = "detection"
    headline = "accuracy_map"
    scores = ("accuracy_map", "accuracy_map50", "accuracy_drop")
    agreement = ("agreement_boxes", "agreement_iou", "agreement_score_difference")

    def recognises(self, outputs: Outputs, size: Size) -> bool:
        return bool(heads.fitting([shape for _, shape in outputs], size))

    def choose_outputs(self, config: ModelConfig, name: str, outputs: Outputs, size: Size) -> tuple[int, ...]:
        """The output `model.output`, else all."""
        if config.output is not None:
            return (named_output(config.output, name, outputs),)
        return tuple(range(len(outputs)))

    def read_outputs(
        self, config: ModelConfig, name: str, outputs: Outputs, size: Size, stated: Mapping[str, Any]
    ) -> OutputFacts:
        """`stated` may have head, num_classes, label_offset, anchors (an array), scores_first, and the keys of
        `model.detection`.
        """
        head = heads.choose(config, name, outputs, size, stated)
        known = heads.HEADS.get(head)
        found = known.classes([tuple(shape) for _, shape in outputs]) if known else None
        classes = _classes(config, name, head, stated.get("num_classes", found))
        options: dict[str, Any] = {"head": head, "size": list(size or ()), "classes": classes}
        origins: dict[str, Origin] = {"head": "given" if config.head else "read"}
        arrays = {"anchors": _anchors(config, name, outputs, stated)} if head == "ssd_raw" else {}
        if head == "ssd":
            options["scores_first"] = stated.get("scores_first", _scores_first(outputs))
        for key, default in _defaults(head).items():
            given = getattr(config.detection, key)
            options[key] = stated.get(key, default) if given is None else given
            origins[key] = "given" if given is not None else "read" if key in stated else "assumed"
        _check_coding(options)
        modules = () if known else (head.partition(":")[0],)
        return OutputFacts(classes, options, origins, arrays, modules, stated.get("label_offset"))

    def find_problem(self, reference: Predictions, candidate: Predictions) -> str:
        return comparison.find_problem(reference, candidate)

    def compare(self, reference: Predictions, candidate: Predictions) -> Comparison:
        return comparison.compare(reference, candidate)

    def difference(self, host: Predictions, target: Predictions, precision: str) -> str:
        return comparison.difference(host, target, precision)

    def score(
        self, predictions: Predictions, labels: Any, source: SourceModel, baseline: Predictions | None = None
    ) -> Figures:
        assert isinstance(source.preprocessing, Preprocessing)  # detectors need images
        return scoring.score(predictions, labels, source.preprocessing, source.label_offset, baseline=baseline)

    def drop(
        self, predictions: Predictions, baseline: Predictions, labels: Any, source: SourceModel, name: str = ""
    ) -> Figures:
        assert isinstance(source.preprocessing, Preprocessing)
        return scoring.drop(predictions, baseline, labels, source.preprocessing, source.label_offset, name)

    def doubts(
        self,
        figures: Mapping[str, float],
        comparison: base.Comparison | None,
        source: SourceModel,
        precision: str,
        fix: str,
    ) -> Iterator[Reason]:
        agreement = comparison.agreement_boxes if isinstance(comparison, Comparison) else None
        least = _INT8_AGREEMENT if precision.startswith("int8") else _FLOAT_AGREEMENT
        if agreement is not None and agreement < least:
            yield Reason(
                code="low_agreement",
                message=f"{agreement:.1%} of the unconverted model's confident boxes are found again; at least "
                f"{least:.0%} is usual for {precision}",
                advice=fix,
            )
        elif figures.get("accuracy_map50", 1.0) < _GUESSING and figures["accuracy_images"] >= _ENOUGH_IMAGES:
            yield Reason(
                code="labels_do_not_match",
                message=f"mAP at IoU 0.5 is {figures['accuracy_map50']:.1%}: almost no box has the right class and "
                "position",
                advice="likely causes: the label map (model.num_classes, model.label_offset, dataset.labels), "
                "model.head, model.preprocessing (mean, std, channels, resize_mode), or a file that was "
                "already quantized badly",
            )


def _defaults(head: str) -> dict[str, Any]:
    """The assumed values of the keys of `model.detection` that the head uses."""
    assumed = Reader.options
    defaults: dict[str, Any] = {key: assumed[key] for key in ("score_threshold", "max_detections")}
    iou_threshold = heads.HEADS[head].iou_threshold if head in heads.HEADS else assumed["iou_threshold"]
    if iou_threshold is not None:
        defaults |= {"iou_threshold": iou_threshold, "max_candidates": assumed["max_candidates"]}
    if head == "ssd_raw":
        defaults |= {**{key: values[0] for key, values in _CODING.items()}, "box_weights": _BOX_WEIGHTS}
    return defaults


def _classes(config: ModelConfig, name: str, head: str, found: int | None) -> int | None:
    wanted = config.num_classes
    if wanted is None or found is None or wanted == found or (head == "detr" and wanted == found - 1):
        return found if wanted is None else wanted
    raise ModelError(f"the outputs of {name} have {found} classes, not {wanted}", hint="remove model.num_classes")


def _scores_first(outputs: Outputs) -> bool | None:
    """Whether the scores are before the classes, by the names of the outputs; None if the names do not show it."""
    rows = [name.lower() for name, shape in outputs if len(shape) == 2]
    scores = [place for place, name in enumerate(rows) if "score" in name]
    classes = [place for place, name in enumerate(rows) if "class" in name]
    return scores < classes if len(scores) == len(classes) == 1 and scores != classes else None


def _check_coding(options: Mapping[str, Any]) -> None:
    """Raise `ModelError` for an invalid value of `model.detection`."""
    for key, valid in _CODING.items():
        if options.get(key, valid[0]) not in valid:
            raise ModelError(f"unknown model.detection.{key}={options[key]}", hint=f"valid: {', '.join(valid)}")
    weights = options.get("box_weights", _BOX_WEIGHTS)
    if len(weights) != len(_BOX_WEIGHTS) or min(weights) <= 0:
        raise ModelError(
            f"model.detection.box_weights={list(weights)} must be four positive numbers",
            hint="set those of x, y, width and height: [10,10,5,5] for SSD, [1,1,1,1] for RetinaNet",
        )


def _anchors(config: ModelConfig, name: str, outputs: Outputs, stated: Mapping[str, Any]) -> NDArray[np.float32]:
    """The anchors of the file `model.detection.anchors`, else of the source; checked against the outputs."""
    boxes = next(shape for _, shape in outputs if len(shape) == 3 and shape[2] == 4)[1]
    if config.detection.anchors is not None:
        path = Path(config.detection.anchors).expanduser()
        try:
            anchors: NDArray[np.float32] = np.load(path, allow_pickle=False).astype(np.float32)
        except (OSError, ValueError) as error:
            raise ModelError(f"cannot read the anchors {path}: {error}", hint="write them with numpy.save") from error
    elif "anchors" in stated:
        anchors = stated["anchors"]
    else:
        raise ModelError(
            f"the anchors of {name} are missing: its boxes are coded relative to anchors",
            hint="set model.detection.anchors=FILE.npy: float32 (A, 4) of centre x, centre y, width, height in 0..1",
        )
    if anchors.shape != (boxes, 4):
        raise ModelError(
            f"the anchors have the shape {anchors.shape}, and {name} has {boxes} boxes",
            hint=f"set model.detection.anchors to a file of shape ({boxes}, 4)",
        )
    if not (np.isfinite(anchors).all() and anchors[:, :2].max() <= _FARTHEST_CENTRE):
        raise ModelError(
            f"the anchors of {name} are invalid: centres reach {anchors[:, :2].max():g}, and must be fractions of the "
            "input (0..1)",
            hint="divide pixels by the width and height of the input",
        )
    return anchors
