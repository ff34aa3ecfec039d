"""Classification: the comparison of logits, what counts as garbage, and what degrades a run."""

from __future__ import annotations

import numpy as np
import pytest

from edlab.errors import ModelError
from edlab.source import Preprocessing, SourceModel
from edlab.tasks.classification import Comparison, Task

TASK = Task()
compare, find_problem, difference = TASK.compare, TASK.find_problem, TASK.difference

REFERENCE = np.array([[1.0, 2.0, 3.0], [3.0, 1.0, 2.0]], np.float32)


def test_agreement_is_the_share_of_images_with_the_same_best_class() -> None:
    assert compare(REFERENCE, REFERENCE[::-1]).agreement_top1 == 0
    assert compare(REFERENCE, np.array([[1, 2, 3], [1, 3, 2]], np.float32)).agreement_top1 == 0.5


def test_sqnr_is_signal_over_noise_in_decibel() -> None:
    # sum reference^2 = 28; noise of 0.1 on each of 6 values is 0.06
    assert compare(REFERENCE, REFERENCE + 0.1).sqnr_db == pytest.approx(10 * np.log10(28 / 0.06), abs=1e-3)


def test_equal_logits_have_no_sqnr() -> None:
    comparison = compare(REFERENCE, REFERENCE)
    assert comparison.agreement_top1 == 1
    assert comparison.sqnr_db is None


@pytest.mark.parametrize(
    ("candidate", "message"),
    [
        (np.array([[1, np.nan, 3], [3, 1, 2]]), "NaN or infinity for 1 of 2 images"),
        (np.array([[1, 2, np.inf], [3, 1, np.nan]]), "NaN or infinity for 2 of 2 images"),
        (np.ones((2, 3)), "the same values for every image"),
        (np.ones((2, 4)), "shape"),
    ],
)
def test_garbage_is_refused_with_a_reason(candidate: np.ndarray, message: str) -> None:
    assert message in find_problem(REFERENCE, candidate)


def test_a_source_that_is_constant_itself_is_not_the_conversions_fault() -> None:
    constant = np.ones((2, 3), np.float32)
    assert not find_problem(constant, constant * 2)
    assert compare(constant, constant * 2).agreement_top1 == 1
    assert compare(REFERENCE[:1], REFERENCE[:1]).agreement_top1 == 1


def test_images_for_which_the_source_itself_gives_nan_are_left_out() -> None:
    broken = np.array([[1.0, 2.0, 3.0], [np.nan, 1.0, 2.0]], np.float32)
    comparison = compare(broken, broken)
    assert (comparison.agreement_top1, comparison.images) == (1, 1)
    with pytest.raises(ModelError, match="the source model outputs NaN"):
        compare(broken[1:], broken[1:])


def logits_of(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(16, 10)).astype(np.float32)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize(
    ("target", "message"),
    [
        (np.full((16, 10), np.nan), "NaN or infinity for 16 of 16 images"),
        (logits_of(0)[:, :3], "shape"),
        (np.ones((16, 10)), "the same values for every image"),
        (logits_of(1), "different values"),
        (logits_of(0)[:, ::-1], "different values"),
    ],
)
def test_a_runtime_that_computes_something_else_from_the_same_file_is_refused(
    precision: str, target: np.ndarray, message: str
) -> None:
    found = find_problem(logits_of(0), target) or difference(logits_of(0), target, precision)
    assert message in found


def test_rounding_is_no_disagreement() -> None:
    host = logits_of(0)
    assert not difference(host, host.astype(np.float16).astype(np.float32), "fp32")
    noise = np.random.default_rng(3).normal(scale=0.15, size=host.shape)  # 16 dB
    assert not difference(host, host + noise, "int8")


def test_a_constant_output_with_the_right_classes_is_no_garbage() -> None:
    """8-bit softmax of a two-class model saturates: every confident image has the same two integers."""
    reference = np.array([[0.001, 0.999], [0.004, 0.996], [0.002, 0.998]], np.float32)
    candidate = np.array([[0, 0.996]] * 3, np.float32)
    assert not find_problem(reference, candidate)
    assert compare(reference, candidate).agreement_top1 == 1


def source(classes: int, claimed: float | None = None) -> SourceModel:
    return SourceModel(
        name="net",
        format="onnx",
        path="net.onnx",
        sha256="",
        layout="NCHW",
        preprocessing=Preprocessing(height=8, width=8),
        num_classes=classes,
        weights="file",
        claimed_top1=claimed,
    )


GOOD = Comparison(agreement_top1=0.99, sqnr_db=30.0, images=500)
FIGURES = {"accuracy_top1": 0.7, "accuracy_ci95_low": 0.65, "accuracy_ci95_high": 0.75, "accuracy_images": 500.0}


def codes(
    figures: dict[str, float],
    comparison: Comparison | None = GOOD,
    precision: str = "int8",
    classes: int = 1000,
    claimed: float | None = None,
) -> list[str]:
    found = list(TASK.doubts(figures, comparison, source(classes, claimed), precision, "the fix"))
    assert all(reason.message and reason.advice for reason in found)
    return [reason.code for reason in found]


def accuracy(top1: float, low: float, high: float, images: float = 500.0) -> dict[str, float]:
    return {
        "accuracy_top1": top1,
        "accuracy_ci95_low": low,
        "accuracy_ci95_high": high,
        "accuracy_images": images,
    }


def test_good_outputs_are_in_no_doubt() -> None:
    assert codes(FIGURES) == []


@pytest.mark.parametrize(
    ("comparison", "precision", "code"),
    [
        (Comparison(0.94, 30.0, 500), "int8", "low_agreement"),
        (Comparison(0.97, 30.0, 500), "fp16", "low_agreement"),
        (Comparison(0.99, 19.0, 500), "int8", "low_sqnr"),
    ],
)
def test_outputs_unlike_the_sources_are_in_doubt(comparison: Comparison, precision: str, code: str) -> None:
    assert codes(FIGURES, comparison, precision) == [code]


@pytest.mark.parametrize(
    ("figures", "classes", "claimed"),
    [
        (accuracy(0.0012, 0.0005, 0.003), 1000, None),
        (accuracy(0.1, 0.09, 0.11), 1000, None),
        (accuracy(0.148, 0.09, 0.22), 12, None),
        (accuracy(0.46, 0.37, 0.56), 2, None),
        (accuracy(0.3, 0.29, 0.31), 1000, 0.7),
    ],
)
def test_an_accuracy_near_guessing_puts_the_labels_in_doubt(
    figures: dict[str, float], classes: int, claimed: float | None
) -> None:
    assert codes(figures, classes=classes, claimed=claimed) == ["labels_do_not_match"]


def test_a_lossy_conversion_is_not_the_labels_fault() -> None:
    assert "labels_do_not_match" not in codes(accuracy(0.001, 0, 0.01), Comparison(0.1, 3.0, 500))


@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("right", [0.0, 1.0])
def test_a_handful_of_images_blames_no_labels(images: int, right: float) -> None:
    assert codes(accuracy(right, 0.2, 1, images), classes=2) == []


def test_an_infinity_that_the_source_gives_as_well_is_compared_as_equal() -> None:
    masked = np.array([[1.0, -np.inf, 3.0], [3.0, -np.inf, 2.0]], np.float32)
    assert compare(masked, masked).sqnr_db is None
    assert "NaN or infinity for 2 of 2 images" in find_problem(REFERENCE, masked)
