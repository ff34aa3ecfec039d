"""COCO's metrics of a detector's predictions, with intervals and the comparison to a baseline."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edlab.cache import digest
from edlab.errors import DataError
from edlab.metrics import Figures
from edlab.source import Preprocessing
from edlab.tasks.detection import coco, resampling
from edlab.tasks.detection.annotations import NO_DETECTION, Annotations
from edlab.tasks.detection.coco import Detections, Matches
from edlab.tasks.detection.geometry import to_pixels

_MAP = "accuracy_map"
_NO_OBJECT = "the images have no object"
_STATS = (  # COCOeval's, in its order
    (_MAP, "object"),
    ("accuracy_map50", "object"),
    ("accuracy_map75", "object"),
    ("accuracy_map_small", "object of up to 32 x 32 pixels"),
    ("accuracy_map_medium", "object of 32 x 32 to 96 x 96 pixels"),
    ("accuracy_map_large", "object of 96 x 96 pixels or more"),
    ("accuracy_ar1", "object"),
    ("accuracy_ar10", "object"),
    ("accuracy_ar100", "object"),
)
_CENTRAL = (2.5, 97.5)  # percentiles
# Minimum number of images for an interval: with fewer it contains the true value too rarely (docs/metrics.md).
_FEWEST_FOR_MAP = 2000
_FEWEST_FOR_DROP = 30
_MOST_KNOWN = 8


@dataclass(frozen=True)
class _Precision:
    """mAP (0..1) of the images, NaN if they have no object, and of resamples of them."""

    value: float
    resamples: NDArray[np.float64]
    images: int

    def interval(self) -> Figures:
        """The 95 % interval of the basic bootstrap (Davison and Hinkley, Bootstrap methods and their application, 5.2).

        mAP of few images is too high on average, and the mAP of their resamples is too high again. So the interval is
        mirrored at the value: in simulations it contains the truth far more often than the percentiles.
        """
        names = ["accuracy_ci95_low", "accuracy_ci95_high"]
        if math.isnan(self.value):
            return Figures.withheld(names, _NO_OBJECT)
        if self.images < _FEWEST_FOR_MAP:
            return Figures.withheld(names, _too_few(self.images, _FEWEST_FOR_MAP))
        high, low = 2 * self.value - np.nanpercentile(self.resamples, _CENTRAL)
        return Figures(dict(zip(names, (max(0.0, float(low)), min(1.0, float(high))), strict=True)))


_known: dict[str, _Precision] = {}  # by its inputs; the most recently used one is last


def score(
    predictions: NDArray[np.floating],
    truth: Annotations,
    preprocessing: Preprocessing,
    label_offset: int,
    *,
    baseline: NDArray[np.floating] | None = None,
) -> Figures:
    """COCO's metrics (0..1) by pycocotools, mAP's bootstrap interval, and the drop against a baseline.

    `predictions`, `baseline`: (N, K, 6) of this model and of the unconverted one for the images of `truth`.
    `preprocessing` is that of the predictions; a class minus `label_offset` is an index into the truth's class names.
    `accuracy_drop` is the baseline minus this.

    All K detections of an image are passed to COCOeval unchanged, even if a box extends beyond the image. It scores
    the best 100 of each class and image, so an image can have more than 100; `accuracy_detections` counts those that
    were passed. Images with NaN in their outputs (`accuracy_nan_images`) have none.

    Raises `DataError` if the shapes do not match, or if the truth does not have a predicted class.
    """
    evaluation, detections = _evaluate(predictions, truth, preprocessing, label_offset, by_size=True)
    figures = Figures(
        {
            "accuracy_images": float(len(truth)),
            "accuracy_detections": float(len(detections.images)),
            "accuracy_nan_images": float(_nan_images(predictions).sum()),
        }
    )
    for (name, kind), value in zip(_STATS, coco.summary(evaluation), strict=False):
        missing = Figures.withheld([name], f"the images have no {kind}")
        figures |= missing if value == -1 else Figures({name: float(value)})
    this = _precision(coco.matches(evaluation), len(truth))
    figures |= this.interval()
    if baseline is not None:
        figures |= _drop(this, _precision_of(baseline, truth, preprocessing, label_offset), "accuracy_drop")
    return figures | Figures.withheld(["accuracy_claimed_difference"], "no accuracy is claimed for this model")


def drop(
    predictions: NDArray[np.floating],
    baseline: NDArray[np.floating],
    truth: Annotations,
    preprocessing: Preprocessing,
    label_offset: int,
    name: str = "",
) -> Figures:
    """mAP of `baseline` minus that of `predictions`, and its 95 % interval from resamples that both share.

    The metric is `accuracy_drop`, with the suffix `_name` if there is a name. The interval is the bootstrap's
    percentiles (Efron and Tibshirani, An introduction to the bootstrap, 1993, 13.3): what resampling adds to both
    cancels. Raises as `score` does.
    """
    this, other = (_precision_of(each, truth, preprocessing, label_offset) for each in (predictions, baseline))
    return _drop(this, other, f"accuracy_drop_{name}" if name else "accuracy_drop")


def find_unknown_class(predictions: NDArray[np.floating], classes: range) -> str:
    """What is wrong with the predicted classes if one is not among `classes`. Empty if none is wrong.

    Images with NaN do not count.
    """
    predicted = predictions[..., 5][_given(predictions)]
    unknown = np.unique(predicted[~np.isin(predicted, classes)])
    if not len(unknown):
        return ""
    shown = ", ".join(f"{number:g}" for number in unknown[:5]) + (", ..." if len(unknown) > 5 else "")
    return f"invalid classes ({shown}): valid are {classes.start} to {classes.stop - 1}"


def _evaluate(
    predictions: NDArray[np.floating],
    truth: Annotations,
    preprocessing: Preprocessing,
    label_offset: int,
    *,
    by_size: bool,
) -> tuple[coco.Evaluation, Detections]:
    if len(predictions) != len(truth):
        raise DataError(f"{len(predictions)} predictions do not belong to {len(truth)} images")
    if not len(truth):
        raise DataError("no images to score", hint="lower dataset.calibration_fraction, or add images")
    if unknown := find_unknown_class(predictions, range(label_offset, label_offset + len(truth.class_names))):
        raise DataError(
            f"the model outputs {unknown}",
            hint="set the classes in the model's order (dataset.labels), and model.label_offset (1 if its class 0 "
            "is the background)",
        )
    detections = _detections(predictions, truth, preprocessing, label_offset)
    return coco.evaluate(detections, truth, by_size=by_size), detections


def _detections(
    predictions: NDArray[np.floating], truth: Annotations, preprocessing: Preprocessing, label_offset: int
) -> Detections:
    sizes = [image.size for image in truth.images]
    corners = to_pixels(predictions[..., :4], sizes, preprocessing)
    given = _given(predictions)
    scores, classes = predictions[..., 4][given].astype(np.float64), predictions[..., 5][given].astype(np.int64)
    return Detections(np.nonzero(given)[0], corners[given], scores, classes - label_offset)


def _given(predictions: NDArray[np.floating]) -> NDArray[np.bool_]:
    """A mask (N, K) of the detections."""
    mask: NDArray[np.bool_] = (predictions[..., 5] != NO_DETECTION) & ~_nan_images(predictions)[:, None]
    return mask


def _nan_images(predictions: NDArray[np.floating]) -> NDArray[np.bool_]:
    mask: NDArray[np.bool_] = np.isnan(predictions).any(axis=(1, 2))
    return mask


def _precision_of(
    predictions: NDArray[np.floating], truth: Annotations, preprocessing: Preprocessing, label_offset: int
) -> _Precision:
    """For predictions that several metrics, or the rows of a sweep, share: they are matched once per process."""
    content = hashlib.sha256(predictions.tobytes()).hexdigest()
    key = digest([content, truth.tolist(), truth.class_names, preprocessing.model_dump(), label_offset])
    known = _known.pop(key, None)
    if known is None:
        evaluation, _ = _evaluate(predictions, truth, preprocessing, label_offset, by_size=False)
        known = _precision(coco.matches(evaluation), len(truth))
    _known[key] = known
    if len(_known) > _MOST_KNOWN:
        del _known[next(iter(_known))]
    return known


def _precision(matches: list[Matches], images: int) -> _Precision:
    value = resampling.mean_average_precision(matches, np.ones((images, 1), np.int32))[0]
    return _Precision(float(value), resampling.mean_average_precision(matches, resampling.resampled(images)), images)


def _drop(this: _Precision, baseline: _Precision, metric: str) -> Figures:
    names = [f"{metric}_ci95_low", f"{metric}_ci95_high"]
    if math.isnan(baseline.value):
        return Figures.withheld([metric, *names], _NO_OBJECT)
    figures = Figures({metric: baseline.value - this.value})
    if this.images < _FEWEST_FOR_DROP:
        return figures | Figures.withheld(names, _too_few(this.images, _FEWEST_FOR_DROP))
    low, high = np.nanpercentile(baseline.resamples - this.resamples, _CENTRAL)
    return figures | Figures(dict(zip(names, (float(low), float(high)), strict=True)))


def _too_few(images: int, fewest: int) -> str:
    return f"{images} images are too few for an interval: at least {fewest} are needed"
