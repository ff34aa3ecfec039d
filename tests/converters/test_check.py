"""The comparison of logits, and what counts as garbage."""

from __future__ import annotations

import numpy as np
import pytest

from edlab.converters.check import compare
from edlab.errors import ConversionError

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
