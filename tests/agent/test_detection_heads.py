"""The heads of detectors, against boxes computed by hand and a suppression written out in loops."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edlab.agent.errors import AgentError
from edlab.agent.messages import TensorSpec
from edlab.agent.tasks.detection import NO_DETECTION, Task
from edlab.agent.tasks.detection.boxes import Detections, Limits, candidates, overlaps, suppress

SIZE = [100, 200]  # height, width


def read(outputs: Sequence[Any], head: str, **options: Any) -> np.ndarray:
    """What the task reads of float outputs: (max_detections, 6)."""
    arrays = [np.asarray(output, np.float32) for output in outputs]
    specs = [TensorSpec(f"out{place}", array.shape, "float32", None, None) for place, array in enumerate(arrays)]
    return Task(specs, {"head": head, "size": SIZE, "max_detections": 5, **options}).read(arrays)


def found(rows: np.ndarray) -> np.ndarray:
    """Those with a detection, of which none may follow one without."""
    count = int((rows[:, 5] != NO_DETECTION).sum())
    assert (rows[count:] == [0, 0, 0, 0, 0, NO_DETECTION]).all()
    return rows[:count]


def assert_found(rows: np.ndarray, expected: Sequence[Sequence[float]]) -> None:
    assert rows.dtype == np.float32
    assert rows.shape == (5, 6)
    np.testing.assert_allclose(found(rows), np.array(expected).reshape(-1, 6), atol=1e-6)


# ---- TFLite_Detection_PostProcess

BOXES = [[[0.1, 0.2, 0.3, 0.4], [0.5, 0.1, 0.9, 0.6], [0, 0, 0, 0]]]  # y1, x1, y2, x2
CLASSES, SCORES, COUNT = [[7, 0, 0]], [[0.9, 0.25, 0]], [2]
SSD = [[0.2, 0.1, 0.4, 0.3, 0.9, 7], [0.1, 0.5, 0.6, 0.9, 0.25, 0]]


@pytest.mark.parametrize(
    "outputs",
    [
        (BOXES, CLASSES, SCORES, COUNT),
        (SCORES, BOXES, COUNT, CLASSES),
        (COUNT, CLASSES, BOXES, SCORES),
        ([COUNT], SCORES, CLASSES, BOXES),
    ],
)
def test_ssd_takes_its_outputs_in_any_order(outputs: Sequence[Any]) -> None:
    assert_found(read(outputs, "ssd"), SSD)


def test_ssd_can_be_told_which_row_has_the_scores() -> None:
    """A single certain detection of class 0 or 1: the values do not tell."""
    outputs = (BOXES, [[1.0, 0, 0]], [[1.0, 0, 0]], [1])
    assert read(outputs, "ssd", scores_first=False)[0, 4:].tolist() == [1, 1]
    outputs = (BOXES, [[0.0, 0, 0]], [[1.0, 0, 0]], [1])
    assert read(outputs, "ssd", scores_first=False)[0, 4:].tolist() == [1, 0]
    assert not len(found(read(outputs, "ssd", scores_first=True)))  # a score of 0


def test_ssd_with_room_for_one_detection() -> None:
    outputs = ([[[0.1, 0.2, 0.3, 0.4]]], [[3]], [[0.5]], [1])
    assert_found(read(outputs, "ssd"), [[0.2, 0.1, 0.4, 0.3, 0.5, 3]])
    assert_found(read((*outputs[:3], [0]), "ssd"), [])


# ---- SSD and RetinaNet over anchors

ANCHORS = np.array([[0.5, 0.5, 0.2, 0.4], [0.25, 0.75, 0.1, 0.1]], np.float32)
CODES = [[[0.5, -0.25, 0, np.log(2)], [0, 0, 0, 0]]]
# centre 0.5 + 0.5 * 0.2, 0.5 - 0.25 * 0.4; size 0.2, 2 * 0.4; the second is its anchor
FIRST, SECOND = [0.5, 0, 0.7, 0.8], [0.2, 0.7, 0.3, 0.8]


@pytest.fixture
def anchors(tmp_path: Path) -> str:
    np.save(tmp_path / "anchors.npy", ANCHORS)
    return str(tmp_path / "anchors.npy")


def logit(*values: float) -> list[float]:
    return [float(np.log(value / (1 - value))) for value in values]


def test_ssd_raw_by_sigmoid(anchors: str) -> None:
    logits = [[logit(0.8, 0.0001, 0.3), logit(0.0001, 0.6, 0.0001)]]
    expected = [[*FIRST, 0.8, 0], [*SECOND, 0.6, 1], [*FIRST, 0.3, 2]]
    options = {"anchors": anchors, "activation": "sigmoid"}
    assert_found(read((CODES, logits), "ssd_raw", **options), expected)
    assert_found(read((logits, CODES), "ssd_raw", **options), expected)
    assert_found(read((CODES, logits), "ssd_raw", score_threshold=0.5, **options), expected[:2])


def test_ssd_raw_by_softmax_with_a_background(anchors: str) -> None:
    """Classes keep the model's numbers, and the background takes its share of the softmax."""
    scores = np.array([[0.1, 0.7, 0.2], [0.6, 0.0005, 0.3995]])
    expected = [[*FIRST, 0.7, 1], [*SECOND, 0.3995, 2], [*FIRST, 0.2, 2]]
    rows = read((CODES, [np.log(scores) + 3]), "ssd_raw", anchors=anchors, activation="softmax", label_offset=1)
    assert_found(rows, expected)


def test_ssd_raw_of_scores_that_are_activated(anchors: str) -> None:
    rows = read((CODES, [[[0.2, 0], [0, 0.9]]]), "ssd_raw", anchors=anchors, activation="none")
    assert_found(rows, [[*SECOND, 0.9, 1], [*FIRST, 0.2, 0]])


def test_ssd_raw_with_weights_and_the_order_of_tensorflow(anchors: str) -> None:
    codes = np.array(CODES)[..., [1, 0, 3, 2]] * [10, 10, 5, 5]
    rows = read(
        (codes, [[[0.2, 0], [0, 0.9]]]),
        "ssd_raw",
        anchors=anchors,
        activation="none",
        box_weights=[10.0, 10.0, 5.0, 5.0],
        box_order="yxhw",
    )
    assert_found(rows, [[*SECOND, 0.9, 1], [*FIRST, 0.2, 0]])


def test_a_background_never_takes_the_place_of_an_object(anchors: str) -> None:
    """It is the likeliest class of nearly all anchors: chosen by it, the few candidates would be of the wrong boxes."""
    logits = [[logit(0.99, 0.002), logit(0.2, 0.8)]]
    options = {"anchors": anchors, "activation": "sigmoid", "label_offset": 1, "max_candidates": 1}
    assert_found(read((CODES, logits), "ssd_raw", **options), [[*SECOND, 0.8, 1]])


@pytest.mark.parametrize("threshold", [0, 1])
def test_the_thresholds_at_both_ends(anchors: str, threshold: int) -> None:
    logits = [[[-50, 50], [-50, 0]]]
    rows = read((CODES, logits), "ssd_raw", anchors=anchors, activation="sigmoid", score_threshold=threshold)
    assert len(found(rows)) == (4 if threshold == 0 else 0)


# ---- YOLO

# centre x, centre y, width, height in pixels of an input of 100 x 200
PIXELS = np.array([[100, 50, 40, 20], [20, 90, 40, 40]], np.float32)
YOLO = [[0.4, 0.4, 0.6, 0.6], [0, 0.7, 0.2, 1]]  # the second goes beyond the input


@pytest.mark.parametrize("units", [1, [200, 100, 200, 100]])
def test_yolov5_multiplies_by_the_objectness(units: Any) -> None:
    table = np.concatenate([PIXELS / units, [[0.5, 0.9, 0.2], [0.8, 0, 0.5]]], axis=1)
    expected = [[*YOLO[0], 0.45, 0], [*YOLO[1], 0.4, 1], [*YOLO[0], 0.1, 1]]
    assert_found(read([table[None]], "yolov5"), expected)
    assert_found(read([table[None]], "yolov5", score_threshold=0.42), expected[:1])


@pytest.mark.parametrize("units", [1, [200, 100, 200, 100]])
def test_yolov8_has_a_column_a_box(units: Any) -> None:
    table = np.concatenate([PIXELS / units, [[0.9, 0.2], [0, 0.5]]], axis=1)
    assert_found(read([table.T[None]], "yolov8"), [[*YOLO[0], 0.9, 0], [*YOLO[1], 0.5, 1], [*YOLO[0], 0.2, 1]])


def test_a_box_in_the_corner_does_not_make_pixels_fractions() -> None:
    """All boxes of the output tell which it is, not the few that are likely."""
    table = np.array([[1, 1, 1, 1, 0.9], [150, 60, 20, 20, 0]], np.float32)
    assert_found(read([table.T[None]], "yolov8"), [[0.0025, 0.005, 0.0075, 0.015, 0.9, 0]])


@pytest.mark.parametrize("units", [1, [200, 100, 200, 100]])
def test_yolov10_needs_no_suppression(units: Any) -> None:
    corners = np.array([[80, 40, 120, 60], [80, 40, 120, 60], [0, -3, 40, 110]]) / units
    table = np.concatenate([corners, [[0.9, 2], [0.8, 2], [0.95, 7.0001]]], axis=1)
    assert_found(read([table[None]], "yolov10"), [[0, 0, 0.2, 1, 0.95, 7], [*YOLO[0], 0.9, 2], [*YOLO[0], 0.8, 2]])


# ---- DETR

CENTRES = np.array([[[0.5, 0.5, 0.2, 0.2], [0.1, 0.8, 0.2, 0.4]]], np.float32)
DETR = [[0.4, 0.4, 0.6, 0.6], [0, 0.6, 0.2, 1]]


def test_detr_by_softmax_leaves_out_no_object() -> None:
    logits = np.log([[[0.7, 0.1, 0.2], [0.05, 0.15, 0.8]]])
    expected = [[*DETR[0], 0.7, 0], [*DETR[1], 0.15, 1]]
    assert_found(read((logits, CENTRES), "detr", classes=2), expected)
    assert_found(read((CENTRES, logits), "detr", classes=2), expected)
    assert_found(read((CENTRES, logits), "detr", classes=2, label_offset=1), [[*DETR[1], 0.15, 1], [*DETR[0], 0.1, 1]])


def test_detr_by_sigmoid_counts_each_class_of_a_query() -> None:
    logits = [[logit(0.7, 0.1, 0.2), logit(0.05, 0.15, 0.8)]]
    expected = [[*DETR[1], 0.8, 2], [*DETR[0], 0.7, 0], [*DETR[0], 0.2, 2], [*DETR[1], 0.15, 1], [*DETR[0], 0.1, 1]]
    assert_found(read((logits, CENTRES), "detr", classes=3), expected)


def test_four_classes_are_no_boxes() -> None:
    logits = [[logit(0.7, 0.1, 0.0001, 0.0001), logit(0.0001, 0.0001, 0.0001, 0.8)]]
    expected = [[*DETR[1], 0.8, 3], [*DETR[0], 0.7, 0], [*DETR[0], 0.1, 1]]
    assert_found(read((logits, CENTRES), "detr", classes=4), expected)
    assert_found(read((CENTRES, logits), "detr", classes=4), expected)


# ---- what no head may stumble over

EMPTY = {
    "ssd": [np.zeros((1, 3, 4)), np.zeros((1, 3)), np.zeros((1, 3)), [0]],
    "ssd_raw": [CODES, np.full((1, 2, 3), -20)],
    "yolov5": [np.zeros((1, 9, 8))],
    "yolov8": [np.zeros((1, 7, 20))],
    "yolov10": [np.zeros((1, 9, 6))],
    "detr": [CENTRES, np.full((1, 2, 3), -20)],
}


@pytest.mark.parametrize("head", EMPTY)
def test_nothing_found_is_no_error(head: str, anchors: str) -> None:
    assert_found(read(EMPTY[head], head, anchors=anchors), [])


@pytest.mark.parametrize("head", EMPTY)
def test_nan_among_the_outputs_is_said(head: str, anchors: str) -> None:
    for broken in range(len(EMPTY[head])):
        outputs = [np.array(output, np.float32) for output in EMPTY[head]]
        outputs[broken].flat[-1] = np.nan
        rows = read(outputs, head, anchors=anchors)
        assert np.isnan(rows[0]).all()
        assert (rows[1:, 5] == NO_DETECTION).all()


def test_masked_logits_are_no_nan() -> None:
    logits = [[[-np.inf, *logit(0.7)], [np.inf, -np.inf]]]
    assert_found(read((logits, CENTRES), "detr", classes=2), [[*DETR[1], 1, 0], [*DETR[0], 0.7, 1]])


@pytest.mark.parametrize("head", ["yolov8", "yolov10"])
def test_no_more_than_max_detections(head: str) -> None:
    places = np.arange(40)[:, None]
    sizes = np.full((40, 2), 0.4) if head == "yolov8" else np.repeat(places, 2, axis=1) + 0.4
    scores = np.linspace(0.1, 0.9, 40)[:, None]
    table = np.concatenate([places, places, sizes, scores, np.zeros((40, 1))], axis=1)
    rows = found(read([table[None] if head == "yolov10" else table[:, :5].T[None]], head))
    np.testing.assert_allclose(rows[:, 4], np.linspace(0.9, 0.1, 40)[:5], atol=1e-6)


def test_quantized_outputs_are_dequantized() -> None:
    table = np.array([[[51, 102, 51, 102, 204]]], np.uint8).transpose(0, 2, 1)
    task = Task([TensorSpec("out", table.shape, "uint8", 1 / 255, 0)], {"head": "yolov8", "size": [8, 8]})
    np.testing.assert_allclose(task.read([table])[0], [0.1, 0.2, 0.3, 0.6, 0.8, 0], atol=1e-6)


def test_a_head_of_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_head.py").write_text(
        "from edlab.agent.tasks.detection import boxes\n"
        "def decode(outputs, facts, limits):\n"
        "    assert facts.size == (100, 200) and facts.classes == 3\n"
        "    return boxes.candidates(outputs[0][0], outputs[1][0], limits)\n"
    )
    (tmp_path / "broken_head.py").write_text("def decode(:\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    outputs = ([[[0.1, 0.2, 0.3, 0.4]]], [[[0.2, 0, 0.6]]])
    rows = read(outputs, "own_head:decode", classes=3)
    assert_found(rows, [[0.1, 0.2, 0.3, 0.4, 0.6, 2], [0.1, 0.2, 0.3, 0.4, 0.2, 0]])
    for name in ("own_head:nothing", "broken_head:decode", "no_such_head:decode", "yolov99"):
        with pytest.raises(AgentError, match="cannot be imported") as caught:
            read(outputs, name)
        assert "model.head" in caught.value.hint


# ---- suppression

LIMITS = Limits(score=0.001, iou=0.5, candidates=1000, detections=300)


def reference_iou(a: np.ndarray, b: np.ndarray) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    union = sum(max(c[2] - c[0], 0) * max(c[3] - c[1], 0) for c in (a, b)) - shared
    return float(shared / union) if union > 0 else 0.0


def reference_suppression(all_of: Detections, limits: Limits) -> list[int]:
    kept: list[int] = []
    for index, box in enumerate(all_of.boxes):
        rivals = [other for other in kept if all_of.classes[other] == all_of.classes[index]]
        if all(reference_iou(all_of.boxes[other], box) <= limits.iou for other in rivals):
            kept.append(index)
    return kept[: limits.detections]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("classes", [1, 7])
@pytest.mark.parametrize("limits", [LIMITS, LIMITS._replace(iou=0.2, detections=20), LIMITS._replace(iou=0.0)])
def test_suppression_is_that_of_the_definition(seed: int, classes: int, limits: Limits) -> None:
    random = np.random.default_rng(seed)
    centres, sizes = random.random((300, 2)), random.uniform(-0.02, 0.3, (300, 2))  # some are the wrong way round
    boxes = np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=1).astype(np.float32)
    boxes[::17, 2] = boxes[::17, 0]  # without an area
    boxes[5::11] = boxes[4::11][: len(boxes[5::11])]  # twins
    scores = np.sort(random.random(300).astype(np.float32))[::-1]
    given = Detections(boxes, scores, random.integers(0, classes, 300))
    expected = given.take(np.array(reference_suppression(given, limits)))
    for this, other in zip(suppress(given, limits), expected, strict=True):
        np.testing.assert_array_equal(this, other)


def test_overlaps_are_those_of_the_definition() -> None:
    random = np.random.default_rng(0)
    a, b = random.random((30, 4)), random.random((20, 4))
    expected = [[reference_iou(one, other) for other in b] for one in a]
    np.testing.assert_allclose(overlaps(a, b), expected, atol=1e-12)
    assert overlaps(a[:0], b).shape == (0, 20)


@pytest.mark.parametrize("most", [1, 10, 100, 5000])
def test_candidates_are_the_best_scores_of_all(most: int) -> None:
    random = np.random.default_rng(1)
    scores = random.random((80, 12)).astype(np.float32)
    scores[3, 4] = np.nan
    boxes = np.arange(320, dtype=np.float32).reshape(80, 4)
    given = candidates(boxes, scores, LIMITS._replace(score=0.25, candidates=most, label_offset=2))
    every = [
        (-scores[row, column], row, column)
        for row in range(80)
        for column in range(2, 12)
        if scores[row, column] >= 0.25
    ]
    best = sorted(every)[:most]
    np.testing.assert_array_equal(given.scores, [-score for score, _, _ in best])
    np.testing.assert_array_equal(given.classes, [column for _, _, column in best])
    np.testing.assert_array_equal(given.boxes, boxes[[row for _, row, _ in best]])
