"""The comparison of logits, and what counts as garbage."""

from __future__ import annotations

import numpy as np
import pytest

from edlab.converters.check import compare, ensure_same_file
from edlab.errors import ConversionError, MeasurementError

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
        (np.ones((2, 3)), "the same output for every image"),
        (np.ones((2, 4)), "shape"),
    ],
)
def test_garbage_is_refused_with_a_reason(candidate: np.ndarray, message: str) -> None:
    with pytest.raises(ConversionError, match=message) as caught:
        compare(REFERENCE, candidate)
    assert caught.value.hint


def test_a_source_that_is_constant_itself_is_not_the_conversions_fault() -> None:
    constant = np.ones((2, 3), np.float32)
    assert compare(constant, constant * 2).agreement_top1 == 1
    assert compare(REFERENCE[:1], REFERENCE[:1]).agreement_top1 == 1


def test_images_for_which_the_source_itself_gives_nan_are_left_out() -> None:
    broken = np.array([[1.0, 2.0, 3.0], [np.nan, 1.0, 2.0]], np.float32)
    comparison = compare(broken, broken)
    assert (comparison.agreement_top1, comparison.images) == (1, 1)
    with pytest.raises(ConversionError, match="the source model gives NaN"):
        compare(broken[1:], broken[1:])


def logits_of(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(16, 10)).astype(np.float32)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize(
    ("target", "message"),
    [
        (np.full((16, 10), np.nan), "NaN or infinity for 16 of 16 images"),
        (logits_of(0)[:, :3], "shape"),
        (np.ones((16, 10)), "the same output for every image"),
        (logits_of(1), "other outputs"),
        (logits_of(0)[:, ::-1], "other outputs"),
    ],
)
def test_a_runtime_that_computes_something_else_from_the_same_file_is_refused(
    precision: str, target: np.ndarray, message: str
) -> None:
    with pytest.raises(MeasurementError, match=message) as caught:
        ensure_same_file(logits_of(0), target, precision=precision, comparable=True, where="acme on board")
    assert "acme on board" in caught.value.message


def test_rounding_is_no_disagreement() -> None:
    host = logits_of(0)
    ensure_same_file(host, host.astype(np.float16), precision="fp32", comparable=True, where="")
    noise = np.random.default_rng(3).normal(scale=0.15, size=host.shape)  # 16 dB
    ensure_same_file(host, host + noise, precision="int8", comparable=True, where="")


def test_kernels_known_to_saturate_are_left_to_the_verdict_unless_they_give_garbage() -> None:
    ensure_same_file(logits_of(0), logits_of(1), precision="int8", comparable=False, where="")
    with pytest.raises(MeasurementError, match="NaN"):
        ensure_same_file(logits_of(0), np.full((16, 10), np.nan), precision="int8", comparable=False, where="")


def test_a_constant_output_with_the_right_classes_is_no_garbage() -> None:
    """8-bit softmax of a two-class model saturates: every confident image gives the same two integers."""
    reference = np.array([[0.001, 0.999], [0.004, 0.996], [0.002, 0.998]], np.float32)
    assert compare(reference, np.array([[0, 0.996]] * 3, np.float32)).agreement_top1 == 1


def test_an_infinity_that_the_source_gives_as_well_is_compared_as_equal() -> None:
    masked = np.array([[1.0, -np.inf, 3.0], [3.0, -np.inf, 2.0]], np.float32)
    assert compare(masked, masked).sqnr_db is None
    with pytest.raises(ConversionError, match="NaN or infinity for 2 of 2 images"):
        compare(REFERENCE, masked)
