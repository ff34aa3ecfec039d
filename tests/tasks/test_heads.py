"""The head of outputs, by their shapes: what is recognised, what is refused, and what is read for the agent."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edlab import tasks
from edlab.config import DetectionConfig, ModelConfig, ModelOrigin
from edlab.errors import ModelError
from edlab.models.outputs import choose_outputs
from edlab.tasks import OutputFacts
from edlab.tasks.detection import Task

Outputs = Sequence[tuple[str, Sequence[int | None]]]

SSD: Outputs = [("a", (1, 10, 4)), ("b", (1, 10)), ("c", (1, 10)), ("d", (1,))]
PAIR: Outputs = [("logits", (1, 100, 92)), ("boxes", (1, 100, 4))]
ANCHORED: Outputs = [("boxes", (1, 1917, 4)), ("scores", (1, 1917, 91))]
YOLOV5: Outputs = [("out", (1, 25200, 85))]
YOLOV8: Outputs = [("out", (1, 84, 8400))]
END_TO_END: Outputs = [("out", (1, 300, 6))]
CLASSIFIER: Outputs = [("logits", (1, 1000))]


def read(outputs: Outputs, size: Any = (640, 640), stated: Any = None, **keys: Any) -> OutputFacts:
    detection = DetectionConfig(**keys.pop("detection", {}))
    config = ModelConfig(name="net", origin=ModelOrigin.file, detection=detection, **keys)
    return Task().read_outputs(config, "net", outputs, size, stated or {})


def refused(outputs: Outputs, size: Any = (640, 640), **keys: Any) -> tuple[str, str]:
    """Message and hint."""
    with pytest.raises(ModelError) as caught:
        read(outputs, size, **keys)
    return caught.value.message, caught.value.hint


@pytest.mark.parametrize(
    ("outputs", "size", "head", "classes"),
    [
        (SSD, (300, 300), "ssd", None),
        ([SSD[3], SSD[1], SSD[0], SSD[2]], (300, 300), "ssd", None),
        ([("a", (1, 1, 4)), ("b", (1, 1)), ("c", (1, 1)), ("d", (1,))], (300, 300), "ssd", None),
        (PAIR, (800, 800), "detr", 92),
        (PAIR[::-1], (800, 800), "detr", 92),
        (YOLOV5, (640, 640), "yolov5", 80),
        ([("out", (1, 102000, 85))], (1280, 1280), "yolov5", 80),  # P6
        (YOLOV8, (640, 640), "yolov8", 80),
        (YOLOV8, None, "yolov8", 80),
        ([("out", (1, 5, 2100))], (320, 320), "yolov8", 1),
        ([("out", (1, 84, 84))], (64, 64), "yolov8", 80),  # as many boxes as columns
        ([("out", (1, 84, 3549))], (352, 480), None, None),
        (END_TO_END, (640, 640), "yolov10", None),
    ],
)
def test_a_form_is_recognised_by_its_shapes(outputs: Outputs, size: Any, head: str | None, classes: int | None) -> None:
    config = ModelConfig(name="net", origin=ModelOrigin.file)
    assert tasks.of_outputs(config, outputs, size).name == ("detection" if head else "classification")
    if head:
        facts = read(outputs, size)
        assert (facts.options["head"], facts.num_classes) == (head, classes)
        assert facts.origins["head"] == "read"


@pytest.mark.parametrize(
    "outputs",
    [
        CLASSIFIER,
        [("logits", (1, 1000)), ("aux", (1, 1000))],
        [("tokens", (1, 197, 768))],
        [("mask", (1, 21, 64, 64))],
        [("tokens", (1, 768, 49))],
    ],
)
def test_other_models_are_not_detectors(outputs: Outputs) -> None:
    config = ModelConfig(name="net", origin=ModelOrigin.file)
    assert tasks.of_outputs(config, outputs, (224, 224)).name == "classification"


@pytest.mark.parametrize(
    ("outputs", "size", "fits"),
    [
        ([("out", (1, 252, 6))], (64, 64), "yolov5 or yolov10"),  # one class, or the best 252 boxes
        (END_TO_END, None, "yolov5 or yolov10"),
    ],
)
def test_outputs_of_two_forms_are_refused_with_both(outputs: Outputs, size: Any, fits: str) -> None:
    message, hint = refused(outputs, size)
    assert "unclear how to decode" in message
    assert hint == f"set model.head={fits}"
    for head in fits.split(" or "):
        facts = read(outputs, size, head=head)
        assert (facts.options["head"], facts.origins["head"]) == (head, "given")


@pytest.mark.parametrize(
    ("outputs", "head", "fits"),
    [(YOLOV8, "yolov5", "yolov8"), (YOLOV5, "ssd", "yolov5"), (PAIR, "ssd", "ssd_raw or detr")],
)
def test_the_wrong_head_is_refused_with_those_that_fit(outputs: Outputs, head: str, fits: str) -> None:
    message, hint = refused(outputs, head=head)
    assert message.startswith(f"model.head={head} decodes ")
    assert hint == f"set model.head={fits}"


def test_an_unknown_head_is_refused_with_all_there_are() -> None:
    message, hint = refused(YOLOV8, head="yolov9")
    assert "unknown model.head=yolov9" in message
    assert "yolov8" in hint
    assert "package.module:function" in hint


def test_outputs_of_no_form_are_refused_with_the_ways_out() -> None:
    message, hint = refused([("out", (1, 85, 22, 22))])
    assert "out (1, 85, 22, 22)" in message
    assert "model.head=package.module:function" in hint
    facts = read([("out", (1, 85, 22, 22))], head="package.own:decode", num_classes=80)
    assert facts.modules == ("package.own",)
    assert (facts.num_classes, facts.options["classes"]) == (80, 80)


@pytest.mark.parametrize("outputs", [CLASSIFIER, [("scores", (1, 1000, 1, 1))]])
@pytest.mark.parametrize("head", [None, "yolov8"])
def test_a_classifier_is_called_one(outputs: Outputs, head: str | None) -> None:
    message, hint = refused(outputs, head=head)
    assert "the output of a classifier" in message
    assert "dataset" in hint


def test_of_several_outputs_one_can_be_chosen() -> None:
    """A segmentation model of YOLO is a detector by its first output."""
    config = ModelConfig(name="net", origin=ModelOrigin.file, output="boxes", task="detection")
    outputs = [("boxes", (1, 84, 8400)), ("masks", (1, 32, 160, 160))]
    chosen = choose_outputs(config, "net", outputs, (640, 640))
    assert chosen.positions == (0,)
    assert chosen.read((640, 640)).facts.options["head"] == "yolov8"


# ---- classes


def test_a_number_of_classes_against_the_outputs_is_refused() -> None:
    message, hint = refused(YOLOV8, num_classes=90)
    assert "the outputs of net have 80 classes, not 90" in message
    assert "remove model.num_classes" in hint
    assert read(YOLOV8, num_classes=80).num_classes == 80


def test_detr_has_one_class_less_with_no_object() -> None:
    facts = read(PAIR, num_classes=91)
    assert (facts.num_classes, facts.options["classes"]) == (91, 91)
    assert "not 90" in refused(PAIR, num_classes=90)[0]


@pytest.mark.parametrize(("stated", "offset"), [({}, None), ({"label_offset": 1}, 1)])
def test_how_many_classes_are_none_is_what_the_source_states(stated: Any, offset: int | None) -> None:
    assert read(YOLOV8, stated=stated).label_offset == offset


def test_the_names_of_outputs_tell_scores_from_classes() -> None:
    names = ["detection_boxes", "detection_classes", "detection_scores", "num_detections"]
    outputs = [(name, shape) for name, (_, shape) in zip(names, SSD, strict=True)]
    assert read(outputs).options["scores_first"] is False
    assert read(outputs[::-1]).options["scores_first"] is True
    assert read(SSD).options["scores_first"] is None


# ---- thresholds and anchors


def test_what_is_given_stands_over_what_is_stated_and_that_over_what_is_assumed() -> None:
    facts = read(YOLOV8, detection={"max_detections": 7}, stated={"max_detections": 9, "score_threshold": 0.05})
    shown = {key: (facts.options[key], facts.origins[key]) for key in facts.origins}
    assert shown == {
        "head": ("yolov8", "read"),
        "score_threshold": (0.05, "read"),
        "max_detections": (7, "given"),
        "iou_threshold": (0.7, "assumed"),
        "max_candidates": (1000, "assumed"),
    }
    assert "iou_threshold" not in read(END_TO_END).options  # nothing is suppressed


@pytest.fixture
def anchors(tmp_path: Path) -> str:
    np.save(tmp_path / "anchors.npy", np.full((1917, 4), 0.5))
    return str(tmp_path / "anchors.npy")


def test_anchors_make_coded_boxes_readable(anchors: str) -> None:
    facts = read(ANCHORED, detection={"anchors": anchors})
    assert (facts.options["head"], facts.num_classes) == ("ssd_raw", 91)
    assert facts.arrays["anchors"].dtype == np.float32
    assumed = {key for key, origin in facts.origins.items() if origin == "assumed"}
    assert {"activation", "box_weights", "box_order"} <= assumed
    assert "the anchors of net are missing" in refused(ANCHORED)[0]


def test_few_boxes_without_anchors_are_detrs(anchors: str) -> None:
    assert read(PAIR).options["head"] == "detr"
    assert refused(PAIR, detection={"anchors": anchors})[1] == "set model.head=ssd_raw or detr"
    assert (
        "have the shape (1917, 4), and net has 100 boxes"
        in refused(PAIR, detection={"anchors": anchors}, head="ssd_raw")[0]
    )


def test_wrong_anchors_are_refused(anchors: str, tmp_path: Path) -> None:
    np.save(tmp_path / "pixels.npy", np.full((1917, 4), 150.0))
    (tmp_path / "text.npy").write_text("0.5 0.5 0.1 0.1")
    assert "divide pixels" in refused(ANCHORED, detection={"anchors": str(tmp_path / "pixels.npy")})[1]
    for name in ("text.npy", "missing.npy"):
        assert "cannot read the anchors" in refused(ANCHORED, detection={"anchors": str(tmp_path / name)})[0]


@pytest.mark.parametrize(
    ("key", "value", "valid"),
    [
        ("activation", "relu", "sigmoid, softmax, none"),
        ("box_order", "whxy", "xywh, yxhw"),
        ("box_weights", [10.0, 5.0], "[10,10,5,5]"),
        ("box_weights", [10.0, 10.0, 0.0, 5.0], "[10,10,5,5]"),
    ],
)
def test_an_unknown_coding_is_refused_with_what_is_valid(anchors: str, key: str, value: Any, valid: str) -> None:
    message, hint = refused(ANCHORED, detection={"anchors": anchors, key: value})
    assert f"model.detection.{key}={value}" in message
    assert valid in hint
