"""Accuracy from the best classes of each image, with what it is compared to."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from edlab.errors import DataError
from edlab.metrics.figures import Figures

_Z95 = 1.959964  # the normal distribution's 97.5 % quantile


def accuracy(
    top_k: NDArray[np.integer],
    targets: NDArray[np.integer],
    *,
    baseline: NDArray[np.integer] | None = None,
    claimed_top1: float | None = None,
) -> Figures:
    """Top-1 and top-5 (0..1) with a Wilson 95 % interval, the drop against a baseline, and against the claim.

    `top_k`, `baseline`: (N, k) class indices, best first, of this model and of the unconverted one on the same
    images; `targets`: (N,) the right class of each as the model numbers it (label + the model's label offset).
    `accuracy_drop` is baseline less this: positive where conversion costs accuracy. Its interval is that of paired
    proportions. Raises `DataError` where the shapes do not belong together.
    """
    if len(top_k) != len(targets) or (baseline is not None and len(baseline) != len(targets)):
        raise DataError(f"{len(top_k)} predictions do not belong to {len(targets)} labels")
    if not len(targets):
        raise DataError("there is no image to score", hint="lower dataset.calibration_fraction, or add images")
    right = top_k[:, 0] == targets
    interval = binomtest(int(right.sum()), len(right)).proportion_ci(0.95, method="wilson")
    values = {
        "accuracy_top1": float(right.mean()),
        "accuracy_ci95_low": float(interval.low),
        "accuracy_ci95_high": float(interval.high),
        "accuracy_images": float(len(right)),
    }
    figures = Figures(values) | _top5(top_k, targets)
    if baseline is not None:
        figures |= _drop(right, baseline[:, 0] == targets)
    if claimed_top1 is None:
        return figures | Figures.withheld(["accuracy_claimed_difference"], "no accuracy is claimed for this model")
    return figures | Figures({"accuracy_claimed_difference": values["accuracy_top1"] - claimed_top1})


def _top5(top_k: NDArray[np.integer], targets: NDArray[np.integer]) -> Figures:
    if top_k.shape[1] < 5:
        return Figures.withheld(["accuracy_top5"], f"only the best {top_k.shape[1]} classes are known")
    return Figures({"accuracy_top5": float((top_k[:, :5] == targets[:, None]).any(axis=1).mean())})


def _drop(right: NDArray[np.bool_], baseline_right: NDArray[np.bool_]) -> Figures:
    """The drop, and its 95 % interval from the images on which the two differ.

    The interval is Wald's after half an image is added to each cell of the 2 x 2 table (Agresti and Min, Simple
    improved confidence intervals for comparing matched proportions, Statistics in Medicine 24, 2005).
    """
    images = len(right) + 2
    lost = np.count_nonzero(baseline_right & ~right) + 0.5
    won = np.count_nonzero(right & ~baseline_right) + 0.5
    centre = (lost - won) / images
    half_width = _Z95 * math.sqrt(lost + won - (lost - won) ** 2 / images) / images
    return Figures(
        {
            "accuracy_drop": float(baseline_right.mean() - right.mean()),
            "accuracy_drop_ci95_low": float(centre - half_width),
            "accuracy_drop_ci95_high": float(centre + half_width),
        }
    )
