"""Images to tensors and tensors to classes, against the formulas written out."""

from __future__ import annotations

import numpy as np
import pytest

from edlab.agent.preprocess import InputTable, dequantize, normalise, top_classes

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 5, 7, 3), np.uint8)
NORMALISED = (IMAGES / 255 - np.array(MEAN)) / np.array(STD)


def test_normalise_in_both_layouts() -> None:
    channels_last = normalise(IMAGES, MEAN, STD, "NHWC")
    assert channels_last.dtype == np.float32
    np.testing.assert_allclose(channels_last, NORMALISED, atol=1e-6)
    np.testing.assert_array_equal(normalise(IMAGES, MEAN, STD, "NCHW"), channels_last.transpose(0, 3, 1, 2))


@pytest.mark.parametrize(("dtype", "scale", "zero_point"), [("int8", 0.02, -3), ("uint8", 0.0187, 114)])
def test_quantized_inputs_are_rounded_and_clipped(dtype: str, scale: float, zero_point: int) -> None:
    limits = np.iinfo(dtype)
    expected = np.clip(np.round(NORMALISED / scale) + zero_point, limits.min, limits.max)
    tensor = InputTable(MEAN, STD, "NHWC", dtype, scale, zero_point).apply(IMAGES)
    assert tensor.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(tensor, expected)
    assert expected.min() == limits.min or expected.max() == limits.max  # the case does clip


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(("dtype", "scale", "zero_point"), [("float32", None, None), ("int8", 0.02, -3)])
def test_bgr_is_the_same_table_over_reversed_channels(
    layout: str, dtype: str, scale: float | None, zero_point: int | None
) -> None:
    """mean and std are in the order of the model's channels."""
    reversed_images = np.ascontiguousarray(IMAGES[..., ::-1])
    expected = InputTable(MEAN, STD, layout, dtype, scale, zero_point).apply(reversed_images)
    tensor = InputTable(MEAN, STD, layout, dtype, scale, zero_point, "bgr").apply(IMAGES)
    np.testing.assert_array_equal(tensor, expected)


def test_a_buffer_given_is_the_one_written() -> None:
    table = InputTable(MEAN, STD, "NCHW", "float16")
    out = np.empty(table.shape(3, 5, 7, 3), np.float16)
    assert table.apply(IMAGES, out) is out
    np.testing.assert_allclose(out, NORMALISED.transpose(0, 3, 1, 2), atol=2e-3)


def test_dequantize() -> None:
    quantized = np.array([[-128, 0, 127]], np.int8)
    np.testing.assert_allclose(dequantize(quantized, 0.5, 2), [[-65, -1, 62.5]])
    np.testing.assert_array_equal(dequantize(quantized, None, None), quantized.astype(np.float32))


def test_top_classes_are_best_first_and_ties_keep_their_order() -> None:
    logits = np.array([[1, 3, 2, 3], [0, 0, 0, 0]], np.float32)
    np.testing.assert_array_equal(top_classes(logits, 3), [[1, 3, 2], [0, 1, 2]])
    assert top_classes(logits, 3).dtype == np.int32
    assert top_classes(logits, 9).shape == (2, 4)


def test_nan_is_never_a_class() -> None:
    logits = np.array([[np.nan, 1, 2], [np.nan, np.nan, np.nan]], np.float32)
    np.testing.assert_array_equal(top_classes(logits, 3), [[2, 1, -1], [-1, -1, -1]])
