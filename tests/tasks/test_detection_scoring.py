"""COCO's metrics: equal to the results of pycocotools with files, and to hand computations."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scenes import PREPROCESSING, Detection, objects, predicted, random_scene

from edlab.data.pixels import read_image, resize_and_crop
from edlab.errors import DataError
from edlab.source import Preprocessing
from edlab.tasks.detection import coco, scoring
from edlab.tasks.detection.annotations import NO_DETECTION, Annotations, Boxes
from edlab.tasks.detection.geometry import to_pixels
from edlab.tasks.detection.resampling import mean_average_precision, resampled
from edlab.tasks.detection.scoring import drop, find_unknown_class, score

STATS = (
    "accuracy_map", "accuracy_map50", "accuracy_map75", "accuracy_map_small", "accuracy_map_medium",
    "accuracy_map_large", "accuracy_ar1", "accuracy_ar10", "accuracy_ar100",
)  # fmt: skip


def by_files(truth: Annotations, found: list[list[Detection]], folder: Path, first_id: int = 1) -> np.ndarray:
    """COCOeval's figures from an annotation file and a result file. Annotations are numbered from 1: it treats object
    number 0 as not found.
    """
    annotations, results = [], []
    for row, (image, detections) in enumerate(zip(truth.images, found, strict=True), first_id):
        for corners, label, crowd, area in zip(image.corners, image.classes, image.crowds, image.areas, strict=True):
            x1, y1, x2, y2 = corners.tolist()
            annotations.append(
                {"id": len(annotations) + 1, "image_id": row, "category_id": int(label) + first_id, "area": float(area),
                 "bbox": [x1, y1, x2 - x1, y2 - y1], "iscrowd": int(crowd)}
            )  # fmt: skip
        for x1, y1, x2, y2, value, label in sorted(detections, key=lambda one: -one[4]):
            bbox = [float(x1), float(y1), float(x2 - x1), float(y2 - y1)]
            results.append({"image_id": row, "category_id": label + first_id, "bbox": bbox, "score": float(value)})
    ground_truth = {
        "images": [{"id": row} for row in range(first_id, first_id + len(truth))],
        "categories": [{"id": index, "name": name} for index, name in enumerate(truth.class_names, first_id)],
        "annotations": annotations,
    }
    (folder / "truth.json").write_text(json.dumps(ground_truth))
    (folder / "results.json").write_text(json.dumps(results))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(folder / "truth.json"))
        evaluation = COCOeval(coco, coco.loadRes(str(folder / "results.json")), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("first_id", [0, 1])
def test_the_figures_are_those_of_pycocotools_by_files(
    tmp_path: Path, seed: int, first_id: int, capsys: pytest.CaptureFixture[str]
) -> None:
    truth, found = random_scene(seed)
    expected = by_files(truth, found, tmp_path, first_id)
    figures = score(predicted(found, truth, label_offset=1), truth, PREPROCESSING, 1)
    assert 0.05 < expected[0] < 0.9
    for name, value in zip(STATS, expected, strict=False):
        assert figures.values[name] == pytest.approx(value, abs=1e-4), name
    assert figures.values["accuracy_detections"] == sum(len(each) for each in found)
    assert max(len(each) for each in found) > 100
    assert capsys.readouterr().out == ""


def test_predictions_in_float32_score_the_same(tmp_path: Path) -> None:
    truth, found = random_scene(9)
    figures = score(predicted(found, truth).astype(np.float32), truth, PREPROCESSING, 0)
    assert figures.values["accuracy_map"] == pytest.approx(by_files(truth, found, tmp_path)[0], abs=1e-4)


def test_the_drop_has_the_precision_that_pycocotools_has() -> None:
    """The interval's accumulation is edlab's own; with each image once it is that of COCOeval."""
    for seed in range(4):
        truth, found = random_scene(seed)
        this, nothing = predicted(found, truth), predicted([[] for _ in found], truth)
        lost = drop(nothing, this, truth, PREPROCESSING, 0).values["accuracy_drop"]
        assert lost == pytest.approx(score(this, truth, PREPROCESSING, 0).values["accuracy_map"], abs=1e-12)


def test_a_perfect_detector_scores_one() -> None:
    truth, _ = random_scene(0)
    found = [
        [(*corners, 0.9, int(label)) for corners, label in zip(image.corners, image.classes, strict=True)]
        for image in truth.images
    ]
    figures = score(predicted(found, truth), truth, PREPROCESSING, 0)
    assert figures.values["accuracy_map"] == 1
    assert figures.values["accuracy_map50"] == 1


def test_a_single_object_that_is_found_scores_one() -> None:
    truth = Annotations((objects([[10, 20, 110, 120]], [0]),), ("first", "second"))
    figures = score(predicted([[(10, 20, 110, 120, 0.9, 0)]], truth), truth, PREPROCESSING, 0)
    assert figures.values["accuracy_map"] == pytest.approx(1, abs=1e-12)  # COCOeval adds 2e-16 to the one detection
    assert "32 x 32" in figures.missing["accuracy_map_small"]


@pytest.mark.parametrize(("shift", "thresholds"), [(0, 10), (10, 7), (20, 4), (30, 1), (40, 0)])
def test_a_shifted_box_counts_at_the_thresholds_below_its_iou(shift: int, thresholds: int) -> None:
    # (100 - shift) / (100 + shift): 0.818 is right at 0.5 to 0.8, 0.667 at 0.5 to 0.65, 0.538 at 0.5, 0.429 at none
    truth = Annotations((objects([[50, 50, 150, 150]], [0]),) * 3, ("only",))
    found = [[(50 + shift, 50, 150 + shift, 150, 0.9, 0)]] * 3
    figures = score(predicted(found, truth), truth, PREPROCESSING, 0)
    assert figures.values["accuracy_map"] == pytest.approx(thresholds / 10)


def test_a_wrong_detection_above_the_right_one_halves_the_precision() -> None:
    truth = Annotations((objects([[50, 50, 150, 150]], [0]),), ("only",))
    found = [[(300, 300, 400, 400, 0.9, 0), (50, 50, 150, 150, 0.8, 0)]]
    assert score(predicted(found, truth), truth, PREPROCESSING, 0).values["accuracy_map"] == pytest.approx(0.5)


def test_images_without_any_object_have_no_map() -> None:
    truth = Annotations((objects([], []),) * 2, ("only",))
    found = predicted([[(0, 0, 9, 9, 0.5, 0)]] * 2, truth)
    figures = score(found, truth, PREPROCESSING, 0, baseline=found)
    assert not {"accuracy_map", "accuracy_drop", "accuracy_ci95_low", "accuracy_ar1"} & set(figures.values)
    for name in (
        *STATS,
        "accuracy_drop",
        "accuracy_drop_ci95_low",
        "accuracy_ci95_high",
    ):
        assert "no object" in figures.missing[name]


def test_a_model_that_finds_nothing_scores_zero() -> None:
    truth, found = random_scene(0)
    figures = score(predicted([[] for _ in found], truth), truth, PREPROCESSING, 0)
    assert figures.values["accuracy_map"] == 0
    assert figures.values["accuracy_detections"] == 0


def test_the_baseline_that_rows_share_is_matched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each row has its own copy of it, and a change of any part of it is a different key."""
    truth, found = random_scene(3)
    baseline = predicted(found, truth)
    candidate = baseline.copy()
    candidate[..., 4] *= 0.5
    matched: list[bool] = []
    evaluate = coco.evaluate

    def counted(found: coco.Detections, truth: Annotations, *, by_size: bool) -> coco.Evaluation:
        matched.append(by_size)
        return evaluate(found, truth, by_size=by_size)

    monkeypatch.setattr(coco, "evaluate", counted)
    monkeypatch.setattr(scoring, "_known", {})
    first = score(candidate, truth, PREPROCESSING, 0, baseline=baseline)
    again = score(candidate, copy.deepcopy(truth), PREPROCESSING, 0, baseline=baseline.copy())
    assert first.values == again.values
    assert matched == [True, False, True]
    empty = np.zeros_like(baseline)
    empty[..., 5] = NO_DETECTION
    other = score(candidate, truth, PREPROCESSING, 0, baseline=empty)
    assert other.values["accuracy_drop"] == pytest.approx(-other.values["accuracy_map"])
    assert other.values["accuracy_map"] > 0


def test_images_with_nan_are_counted_and_have_no_detections() -> None:
    truth = Annotations((objects([[50, 50, 150, 150]], [0]),) * 2, ("only",))
    predictions = predicted([[(50, 50, 150, 150, 0.9, 0), (0, 0, 9, 9, 0.1, 0)]] * 2, truth, label_offset=1)
    predictions[1] = 0
    predictions[1, 0] = np.nan
    values = score(predictions, truth, PREPROCESSING, 1).values
    assert (values["accuracy_nan_images"], values["accuracy_detections"]) == (1, 2)
    assert values["accuracy_map"] == pytest.approx(51 / 101)  # precision 1 at recalls up to 0.5


def test_a_class_that_the_data_set_does_not_have_is_an_error() -> None:
    truth = Annotations((objects([[50, 50, 150, 150]], [0]),), ("first", "second"))
    for label, offset in ((0, 1), (3, 1), (2, 0)):
        predictions = predicted([[(50, 50, 150, 150, 0.9, label)]], truth)
        with pytest.raises(DataError, match=rf"invalid classes \({label}\)") as caught:
            score(predictions, truth, PREPROCESSING, offset)
        assert "model.label_offset" in caught.value.hint
    assert find_unknown_class(predictions, range(3)) == ""
    assert find_unknown_class(predictions, range(1, 2)) == "invalid classes (2): valid are 1 to 1"


def test_predictions_of_other_images_are_an_error() -> None:
    truth = Annotations((objects([], []),), ("only",))
    with pytest.raises(DataError, match="2 predictions do not belong to 1 images"):
        score(np.zeros((2, 1, 6)), truth, PREPROCESSING, 0)
    with pytest.raises(DataError, match="no image"):
        score(np.zeros((0, 1, 6)), truth[[]], PREPROCESSING, 0)


def test_a_drop_has_the_name_of_its_part() -> None:
    truth, found = random_scene(0)
    part = drop(predicted(found, truth), predicted(found, truth), truth, PREPROCESSING, 0, name="runtime")
    assert part.values == dict.fromkeys(
        ("accuracy_drop_runtime", "accuracy_drop_runtime_ci95_low", "accuracy_drop_runtime_ci95_high"), 0.0
    )


def test_a_resample_has_the_precision_of_the_images_that_it_draws() -> None:
    """One matching with each image counted as often as it is drawn, and scoring the drawn images as a data set."""
    truth, found = random_scene(3)
    predictions = predicted(found, truth)
    predictions[..., 4] += np.random.default_rng(0).uniform(
        0, 1e-4, predictions.shape[:2]
    )  # equal scores have no order
    sizes = [image.size for image in truth.images]
    given = predictions[..., 5] != NO_DETECTION
    detections = coco.Detections(
        np.nonzero(given)[0],
        to_pixels(predictions[..., :4], sizes, PREPROCESSING)[given],
        predictions[..., 4][given],
        predictions[..., 5][given].astype(np.int64),
    )
    matches = coco.matches(coco.evaluate(detections, truth, by_size=False))
    multiplicity = resampled(len(truth))
    assert (multiplicity.sum(axis=0) == len(truth)).all()
    resamples = mean_average_precision(matches, multiplicity)
    for column in (0, 1, 2):
        rows = np.repeat(np.arange(len(truth)), multiplicity[:, column])
        scored = score(predictions[rows], truth[rows], PREPROCESSING, 0).values["accuracy_map"]
        assert resamples[column] == pytest.approx(scored, abs=1e-12)


@pytest.fixture
def enough_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if 100 images were enough for mAP's interval."""
    monkeypatch.setattr(scoring, "_FEWEST_FOR_MAP", 100)


def test_the_interval_lies_around_the_map(enough_images: None) -> None:
    truth, found = random_scene(3, images=100)
    values = score(predicted(found, truth), truth, PREPROCESSING, 0).values
    assert 0 < values["accuracy_ci95_low"] < values["accuracy_map"] < values["accuracy_ci95_high"] < 1
    assert values == score(predicted(found, truth), truth, PREPROCESSING, 0).values  # the resamples are always the same


def test_the_interval_of_the_drop_is_paired(enough_images: None) -> None:
    """Of two models that fail on the same images, the difference is more precise than either."""
    truth, found = random_scene(3, images=120)
    worse = [[one for index, one in enumerate(each) if index % 10] for each in found]
    values = score(predicted(worse, truth), truth, PREPROCESSING, 0, baseline=predicted(found, truth)).values
    width = values["accuracy_drop_ci95_high"] - values["accuracy_drop_ci95_low"]
    assert values["accuracy_drop_ci95_low"] <= values["accuracy_drop"] <= values["accuracy_drop_ci95_high"]
    assert 0 < width < values["accuracy_ci95_high"] - values["accuracy_ci95_low"]


def test_few_images_have_no_interval() -> None:
    truth, found = random_scene(0, images=20)
    predictions = predicted(found, truth)
    figures = score(predictions, truth, PREPROCESSING, 0, baseline=predictions)
    assert figures.values["accuracy_drop"] == 0
    assert "at least 2000 are needed" in figures.missing["accuracy_ci95_low"]
    assert "at least 30 are needed" in figures.missing["accuracy_drop_ci95_high"]


@pytest.fixture(scope="module")
def photographs() -> Path:
    folder = Path(os.environ.get("EDLAB_TEST_DATA", ""), "detection")
    if not os.environ.get("EDLAB_TEST_DATA") or not folder.is_dir():
        pytest.skip("EDLAB_TEST_DATA does not name a folder with detection/")
    return folder


def yolo_labels(image: Path) -> Boxes:
    """class, centre x, centre y, width, height in fractions of the image, one line each."""
    with Image.open(image) as opened:
        width, height = opened.size
    labels = image.parents[1] / "labels" / f"{image.stem}.txt"
    lines = labels.read_text().splitlines() if labels.exists() else []
    rows = np.array([line.split() for line in lines], np.float64).reshape(-1, 5)
    sides = rows[:, 3:] * (width, height)
    start = rows[:, 1:3] * (width, height) - sides / 2
    return objects(np.concatenate([start, start + sides], axis=1), rows[:, 0], (height, width))


def fastest_det(output: np.ndarray, rows: int) -> np.ndarray:
    """From (85, 22, 22), objectness, four of the box, 80 of the classes: (rows, 6), in fractions of the input."""
    output = output.astype(np.float64)
    y, x = np.mgrid[:22, :22]
    scores = (output[0] ** 0.6 * output[5:].max(axis=0) ** 0.4).ravel()
    centres = np.stack([x + np.tanh(output[1]), y + np.tanh(output[2])], axis=-1).reshape(-1, 2) / 22
    halves = np.stack([1 / (1 + np.exp(-output[3])), 1 / (1 + np.exp(-output[4]))], axis=-1).reshape(-1, 2) / 2
    boxes, classes = np.concatenate([centres - halves, centres + halves], axis=1), output[5:].argmax(axis=0).ravel()
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] > 0.001]
    kept: list[int] = []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(best)
        order = order[(classes[order] != classes[best]) | (overlaps(boxes[best], boxes[order]) <= 0.45)]
    found = np.zeros((rows, 6), np.float32)
    found[:, 5] = NO_DETECTION
    kept = kept[:rows]
    found[: len(kept)] = np.column_stack([boxes[kept], scores[kept], classes[kept]])
    return found


def overlaps(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    sides = np.clip(np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2]), 0, None)
    shared = sides.prod(axis=1)
    return shared / ((box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(axis=1) - shared)


def test_a_trained_detector_scores_what_pycocotools_gives_it(photographs: Path) -> None:
    """FastestDet on the first 128 images of COCO val2017, resized bilinearly: 18.22 and 33.77."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(photographs / "fastestdet_coco_352.onnx"))
    preprocessing = Preprocessing(height=352, width=352, channels="bgr")
    images = sorted((photographs / "coco128_val" / "images").iterdir())
    predictions = []
    for path in images:
        pixels = resize_and_crop(read_image(path), preprocessing)[..., ::-1]
        tensor = np.ascontiguousarray(pixels.transpose(2, 0, 1)[None].astype(np.float32) / 255)
        predictions.append(fastest_det(session.run(None, {session.get_inputs()[0].name: tensor})[0][0], 100))
    truth = Annotations(tuple(yolo_labels(path) for path in images), tuple(str(index) for index in range(80)))
    assert len(truth) == 128
    figures = score(np.stack(predictions), truth, preprocessing, 0)
    assert 100 * figures.values["accuracy_map"] == pytest.approx(18.2, abs=0.1)
    assert 100 * figures.values["accuracy_map50"] == pytest.approx(33.8, abs=0.1)
    assert "at least 2000 are needed" in figures.missing["accuracy_ci95_low"]
    assert not any(math.isnan(value) for value in figures.values.values())
