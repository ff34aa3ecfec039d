"""Accuracy from the outputs for each image, and comparisons with other values."""

from __future__ import annotations

import math

import numpy as np
import scipy
from numpy.typing import NDArray

from edlab.agent.preprocess import top_classes
from edlab.errors import DataError
from edlab.metrics.figures import Figures

_TOP = 5
Z95 = 1.959964  # the normal distribution's 97.5 % quantile


def accuracy(
    logits: NDArray[np.floating],
    targets: NDArray[np.integer],
    *,
    baseline: NDArray[np.floating] | None = None,
    claimed_top1: float | None = None,
) -> Figures:
    """Top-1 and top-5 (0..1) with a Wilson 95 % interval, the drop against a baseline, and against the claim.

    `logits`, `baseline`: (N, classes) outputs of this model and of the unconverted one for the same images; `targets`:
    (N,) the correct class of each as the model numbers it (label + the model's label offset). `accuracy_drop` is the
    baseline minus this: positive if conversion costs accuracy. Its interval is for paired proportions.
    `accuracy_tied_images` have several best classes, of which the first counts; `accuracy_nan_images` have a NaN in
    their outputs, which is never a best class. Raises `DataError` if the shapes do not match.
    """
    if len(logits) != len(targets) or (baseline is not None and len(baseline) != len(targets)):
        raise DataError(f"{len(logits)} predictions do not belong to {len(targets)} labels")
    if not len(targets):
        raise DataError("no images to score", hint="lower dataset.calibration_fraction, or add images")
    top_k = top_classes(logits, _TOP)
    right = top_k[:, 0] == targets
    interval = scipy.stats.binomtest(int(right.sum()), len(right)).proportion_ci(0.95, method="wilson")
    values = {
        "accuracy_top1": float(right.mean()),
        "accuracy_ci95_low": float(interval.low),
        "accuracy_ci95_high": float(interval.high),
        "accuracy_images": float(len(right)),
        "accuracy_tied_images": float(_tied(logits)),
        "accuracy_nan_images": float(np.isnan(logits).any(axis=1).sum()),
    }
    figures = Figures(values) | _top5(top_k, targets)
    if baseline is not None:
        figures |= drop(logits, baseline, targets)
    if claimed_top1 is None:
        return figures | Figures.withheld(["accuracy_claimed_difference"], "this model has no claimed accuracy")
    return figures | Figures({"accuracy_claimed_difference": values["accuracy_top1"] - claimed_top1})


def drop(
    logits: NDArray[np.floating], baseline: NDArray[np.floating], targets: NDArray[np.integer], name: str = ""
) -> Figures:
    """The top-1 of `baseline` minus the top-1 of `logits`, and its 95 % interval from the images for which they differ.

    The metric is `accuracy_drop`, with the suffix `_name` if there is a name. The interval is that of
    `paired_difference`.
    """
    right, baseline_right = top_classes(logits, 1)[:, 0] == targets, top_classes(baseline, 1)[:, 0] == targets
    metric = f"accuracy_drop_{name}" if name else "accuracy_drop"
    names = (metric, f"{metric}_ci95_low", f"{metric}_ci95_high")
    return Figures(dict(zip(names, paired_difference(baseline_right, right), strict=True)))


def paired_difference(right: NDArray[np.bool_], other: NDArray[np.bool_]) -> tuple[float, float, float]:
    """The share of right images minus that of `other`, (N,) for the same images, and its 95 % interval.

    It is Wald's, with half an image added to each cell of the 2 x 2 table (Agresti and Min, Simple improved confidence
    intervals for comparing matched proportions, Statistics in Medicine 24, 2005).
    """
    images = len(right) + 2
    won = np.count_nonzero(right & ~other) + 0.5
    lost = np.count_nonzero(other & ~right) + 0.5
    centre = (won - lost) / images
    half_width = Z95 * math.sqrt(lost + won - (lost - won) ** 2 / images) / images
    return float(right.mean() - other.mean()), float(centre - half_width), float(centre + half_width)


def _tied(logits: NDArray[np.floating]) -> int:
    """The number of images with several best classes."""
    best = np.where(np.isnan(logits), -np.inf, logits).max(axis=1, keepdims=True)
    return int(((logits == best).sum(axis=1) > 1).sum())


def _top5(top_k: NDArray[np.integer], targets: NDArray[np.integer]) -> Figures:
    if top_k.shape[1] < _TOP:
        return Figures.withheld(["accuracy_top5"], f"only the best {top_k.shape[1]} classes are known")
    return Figures({"accuracy_top5": float((top_k[:, :_TOP] == targets[:, None]).any(axis=1).mean())})
