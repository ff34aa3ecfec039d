from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from edlab.errors import DataError
from edlab.metrics import Figures, accuracy, drop


def ranked(top_k: np.ndarray, classes: int = 10) -> np.ndarray:
    """Logits whose best classes are `top_k` (N, k), best first."""
    logits = np.zeros((len(top_k), classes), np.float32)
    for rank, column in enumerate(top_k.T):
        logits[np.arange(len(top_k)), column] = top_k.shape[1] - rank
    return logits


LOGITS = ranked(np.array([[7, 1, 2, 3, 4], [1, 7, 2, 3, 4], [5, 1, 2, 3, 4], [3, 4, 5, 6, 7]]))
TARGETS = np.array([7, 7, 7, 3])


def test_top1_and_top5_count_the_right_class_among_the_best() -> None:
    values = accuracy(LOGITS, TARGETS).values
    assert values["accuracy_top1"] == 0.5
    assert values["accuracy_top5"] == 0.75
    assert values["accuracy_images"] == 4


def test_wilson_interval_equals_the_published_formula() -> None:
    labels = load_digits().target  # real, unbalanced labels
    predicted = np.where(np.arange(len(labels)) % 9 == 0, (labels + 1) % 10, labels)
    values = accuracy(ranked(predicted[:, None]), labels).values
    p, n, z = values["accuracy_top1"], len(labels), 1.959964
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))  # Wilson, 1927
    assert values["accuracy_ci95_low"] == pytest.approx(centre - half, abs=1e-6)
    assert values["accuracy_ci95_high"] == pytest.approx(centre + half, abs=1e-6)


def test_drop_is_positive_where_conversion_costs_accuracy() -> None:
    baseline = ranked(TARGETS[:, None])
    values = accuracy(LOGITS, TARGETS, baseline=baseline).values
    assert values["accuracy_drop"] == 0.5
    assert values["accuracy_drop_ci95_low"] < 0.5 < values["accuracy_drop_ci95_high"]


def test_drop_of_the_same_predictions_is_nothing_with_an_interval_around_it() -> None:
    values = accuracy(LOGITS, TARGETS, baseline=LOGITS).values
    assert values["accuracy_drop"] == 0
    assert values["accuracy_drop_ci95_low"] == -values["accuracy_drop_ci95_high"] < 0


def test_drop_interval_covers_the_true_drop_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    targets, covered = np.ones(300, dtype=int), 0
    for _ in range(500):
        baseline = (generator.random(300) < 0.8).astype(int)
        now = np.where(generator.random(300) < 0.05, 0, baseline)  # loses 5 % of 0.8
        values = accuracy(ranked(now[:, None], 2), targets, baseline=ranked(baseline[:, None], 2)).values
        covered += values["accuracy_drop_ci95_low"] <= 0.04 <= values["accuracy_drop_ci95_high"]
    assert covered / 500 >= 0.92


def test_difference_to_the_claim_is_signed() -> None:
    values = accuracy(LOGITS, TARGETS, claimed_top1=0.7).values
    assert values["accuracy_claimed_difference"] == pytest.approx(-0.2)
    assert "accuracy_claimed_difference" in accuracy(LOGITS, TARGETS).missing


def test_top5_is_withheld_where_fewer_classes_are_known() -> None:
    figures = accuracy(ranked(np.array([[1], [0]]), 3), np.array([1, 2]))
    assert "accuracy_top5" not in figures.values
    assert "best 3" in figures.missing["accuracy_top5"]


def test_ties_and_nan_are_counted_and_never_win() -> None:
    logits = np.array([[1, 1, 0, 0], [np.nan, 0, 2, 1], [np.nan] * 4, [0, 3, 0, 0]], np.float32)
    values = accuracy(logits, np.array([0, 2, 0, 1])).values
    assert values["accuracy_tied_images"] == 1  # the first of them counts
    assert values["accuracy_nan_images"] == 2
    assert values["accuracy_top1"] == 0.75


def test_the_drops_of_each_cause_add_up_to_the_whole() -> None:
    generator = np.random.default_rng(0)
    targets = generator.integers(0, 10, 200)
    steps = [ranked(np.where(generator.random(200) < p, targets, (targets + 1) % 10)[:, None]) for p in (1, 0.9, 0.8)]
    parts = [
        drop(after, before, targets, name).values
        for before, after, name in ((steps[0], steps[1], "conversion"), (steps[1], steps[2], "quantization"))
    ]
    whole = drop(steps[2], steps[0], targets).values["accuracy_drop"]
    assert parts[0]["accuracy_drop_conversion"] + parts[1]["accuracy_drop_quantization"] == pytest.approx(whole)
    assert parts[1]["accuracy_drop_quantization_ci95_low"] < parts[1]["accuracy_drop_quantization"]


def test_predictions_of_other_images_are_refused() -> None:
    with pytest.raises(DataError, match="4 predictions"):
        accuracy(LOGITS, TARGETS[:3])
    with pytest.raises(DataError, match="no image"):
        accuracy(LOGITS[:0], TARGETS[:0])


def test_figures_together_keep_a_value_over_an_older_reason() -> None:
    both = Figures.withheld(["a", "b"], "not yet") | Figures({"a": 1.0})
    assert both == Figures({"a": 1.0}, {"b": "not yet"})
