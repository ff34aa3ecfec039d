"""Object detection: boxes, scores and classes, decoded by the model's head."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...messages import TensorSpec
from .. import base
from . import heads
from .boxes import Detections, Limits

NO_DETECTION = -1.0  # the class of a row without a detection


class Task(base.Task):
    """Detections (max_detections, 6): x1, y1, x2, y2 as fractions of the input, score, class; best first.

    Rows without a detection are zeros with class `NO_DETECTION`. If the outputs contain NaN, the first row is NaN: the
    absence of detections then has no meaning.
    """

    options: dict[str, Any] = {  # noqa: RUF012
        "head": "",  # of `heads.HEADS`, or package.module:function
        "size": [],  # of the input: height, width
        "classes": None,  # this and the options up to `anchors` are described in `heads.Facts`
        "scores_first": None,
        "activation": None,
        "box_weights": None,
        "box_order": None,
        "anchors": None,  # the path of an npy file
        "label_offset": 0,
        "score_threshold": 0.001,  # as Ultralytics and torchvision evaluate: mAP uses unlikely detections too
        "iou_threshold": 0.5,
        "max_candidates": 1000,
        "max_detections": 300,  # as in Ultralytics and torchvision
    }

    def __init__(self, outputs: list[TensorSpec], options: dict[str, Any]) -> None:
        super().__init__(outputs, options)
        self._head = heads.find(self.options["head"])
        self._facts = heads.facts(self.options)
        self._limits = Limits(
            self.options["score_threshold"],
            self.options["iou_threshold"],
            self.options["max_candidates"],
            self.options["max_detections"],
            self.options["label_offset"],
        )

    def read(self, outputs: list[np.ndarray]) -> np.ndarray:
        values = self.values(outputs)
        rows = np.zeros((self._limits.detections, 6), np.float32)
        rows[:, 5] = NO_DETECTION
        if any(np.isnan(value.min(initial=np.inf)) for value in values):
            rows[0] = np.nan
            return rows
        found: Detections = self._head(values, self._facts, self._limits)
        count = min(len(found.scores), len(rows))
        rows[:count, :4] = found.boxes[:count]
        rows[:count, 4] = found.scores[:count]
        rows[:count, 5] = found.classes[:count]
        return rows
