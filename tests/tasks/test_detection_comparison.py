"""Detections against those of their source model."""

from __future__ import annotations

import numpy as np
import pytest

from edlab.tasks.detection.annotations import NO_DETECTION
from edlab.tasks.detection.comparison import compare, difference, find_problem


def boxes_of(*rows: tuple[float, float, float, float, float, int], of: int = 4) -> np.ndarray:
    """One image's detections: x1, y1, x2, y2, score, class."""
    image = np.zeros((of, 6), np.float32)
    image[:, 5] = NO_DETECTION
    image[: len(rows)] = np.array(rows, np.float32).reshape(-1, 6)
    return image


LEFT, RIGHT = (0.0, 0.2, 0.4, 0.6), (0.5, 0.2, 0.9, 0.6)
REFERENCE = np.stack([boxes_of((*LEFT, 0.9, 1), (*RIGHT, 0.6, 2), (*RIGHT, 0.2, 5)), boxes_of((*LEFT, 0.8, 3))])


def detections(seed: int, images: int = 16, rows: int = 8) -> np.ndarray:
    rng = np.random.default_rng(seed)
    start = rng.uniform(0, 0.7, (images, rows, 2))
    sides, scores = rng.uniform(0.1, 0.3, start.shape), -np.sort(-rng.uniform(0.2, 1, (images, rows, 1)), axis=1)
    labels = rng.integers(0, 5, (images, rows, 1))
    return np.concatenate([start, start + sides, scores, labels], axis=2).astype(np.float32)


def moved(predictions: np.ndarray, by: float) -> np.ndarray:
    """Each box shifted by this share of its width."""
    result = predictions.copy()
    result[..., [0, 2]] += by * (predictions[..., 2] - predictions[..., 0])[..., None]
    return result


def test_equal_detections_agree() -> None:
    figures = compare(REFERENCE, REFERENCE).figures()
    assert figures.values == {
        "agreement_boxes": 1, "agreement_iou": 1, "agreement_score_difference": 0, "agreement_images": 2,
    }  # fmt: skip


def test_each_confident_detection_is_looked_for_by_class_and_overlap() -> None:
    shifted = (0.04, 0.2, 0.44, 0.6)  # by a tenth of the width: IoU 0.9 / 1.1
    candidate = np.stack([boxes_of((*shifted, 0.7, 1), (*RIGHT, 0.6, 4)), boxes_of((0.3, 0.2, 0.7, 0.6, 0.8, 3))])
    values = compare(REFERENCE, candidate).figures().values
    assert values["agreement_boxes"] == pytest.approx(1 / 3)  # of the others one is of another class, one too far off
    assert values["agreement_iou"] == pytest.approx(0.9 / 1.1, abs=1e-6)
    assert values["agreement_score_difference"] == pytest.approx(0.2, abs=1e-6)


def test_a_detection_is_found_again_once_and_whatever_its_score() -> None:
    reference = boxes_of((*LEFT, 0.9, 1), (0.01, 0.2, 0.41, 0.6, 0.8, 1))[None]
    assert compare(reference, boxes_of((*LEFT, 0.9, 1))[None]).agreement_boxes == 0.5
    assert compare(reference, boxes_of((*LEFT, 0.05, 1), (*LEFT, 0.04, 1))[None]).agreement_boxes == 1


def test_without_a_confident_detection_there_is_no_agreement() -> None:
    unsure = boxes_of((*LEFT, 0.29, 1))[None]
    figures = compare(unsure, unsure).figures()
    assert figures.values == {"agreement_images": 1}
    assert "0.3" in figures.missing["agreement_boxes"]


def test_without_a_match_there_is_no_mean_of_the_matches() -> None:
    figures = compare(REFERENCE, np.stack([boxes_of(), boxes_of()])).figures()
    assert figures.values["agreement_boxes"] == 0
    assert set(figures.missing) == {"agreement_iou", "agreement_score_difference"}


def test_images_for_which_the_reference_has_nan_are_left_out() -> None:
    broken = REFERENCE.copy()
    broken[1, 0] = np.nan
    comparison = compare(broken, broken)
    assert (comparison.images, comparison.agreement_boxes) == (1, 1)
    assert find_problem(broken, REFERENCE) == find_problem(broken, broken) == ""


@pytest.mark.parametrize(
    ("candidate", "problem"),
    [
        (REFERENCE[:, :3], "the shape (2, 3, 6) instead of (2, 4, 6)"),
        (np.where(np.arange(2)[:, None, None] == 1, np.nan, REFERENCE), "NaN or infinity for 1 of 2 images"),
        (np.stack([boxes_of(), boxes_of()]), "no detections in any of the 2 images that should have some"),
        (np.stack([boxes_of((*LEFT, 0.9, 1))] * 2), "the same detections for every image"),
    ],
)
def test_garbage_is_found(candidate: np.ndarray, problem: str) -> None:
    assert find_problem(REFERENCE, candidate) == problem
    assert find_problem(REFERENCE, REFERENCE) == ""


def test_a_class_that_the_model_does_not_have_is_found() -> None:
    assert find_problem(REFERENCE, REFERENCE, range(6)) == ""
    assert find_problem(REFERENCE, REFERENCE, range(1, 4)) == "invalid classes (5): valid are 1 to 3"


def test_a_reference_that_is_constant_or_finds_nothing_is_not_the_candidates_fault() -> None:
    constant, nothing = np.stack([boxes_of((*LEFT, 0.9, 1))] * 2), np.stack([boxes_of()] * 2)
    assert find_problem(constant, constant) == find_problem(nothing, nothing) == ""
    assert find_problem(np.stack([boxes_of((*LEFT, 0.2, 1)), boxes_of()]), nothing) == ""


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_rounding_is_the_difference(precision: str) -> None:
    host = detections(0)
    assert difference(host, host, precision) == ""
    assert difference(host, moved(host, 0.01), precision) == ""
    one_lost = host.copy()
    one_lost[0, 0, 5] = 7
    assert difference(host[:1, :2], one_lost[:1, :2], precision) == ""  # one of few


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_what_rounding_does_not_explain_is_not_the_difference(precision: str) -> None:
    host = detections(0)
    other_scores = host.copy()
    other_scores[..., 4] = np.sqrt(host[..., 4])
    assert "different detections" in difference(host, detections(1), precision)
    assert "different detections" in difference(host, moved(host, 0.4), precision)
    assert "different scores" in difference(host, other_scores, precision)


def test_boxes_may_move_further_in_int8() -> None:
    host = detections(0)
    assert difference(host, moved(host, 0.1), "int8") == ""
    assert "IoU over 0.9" in difference(host, moved(host, 0.1), "fp16")


def test_what_a_target_detects_in_addition_counts_too() -> None:
    target = detections(0)
    host = target.copy()
    host[:, ::2, 5] = NO_DETECTION
    assert "different detections" in difference(host, target, "fp32")
