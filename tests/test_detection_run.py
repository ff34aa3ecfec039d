"""A detector from the shell: a file with a head of the user's own, its rows, records and what MLflow holds."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient
from workplace import FAST, Workplace

from edlab.record import Status

SCORES = ("accuracy_map", "accuracy_map50", "accuracy_map75", "accuracy_images", "accuracy_drop")
AGREEMENT = ("agreement_boxes", "agreement_iou", "agreement_score_difference")

DOCS = Path(__file__).parents[1] / "docs" / "detection.md"


def head() -> str:
    """FastestDet's head as docs/detection.md shows it: of dog-qiuqiu/FastestDet, module/detector.py and test.py."""
    (code,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    return str(code)


@pytest.fixture(scope="module")
def detection_data() -> Path:
    """The folder with FastestDet and 128 photographs of COCO; skips where EDLAB_TEST_DATA does not point at one."""
    folder = Path(os.environ.get("EDLAB_TEST_DATA") or "", "detection")
    if not (folder / "fastestdet_coco_352.onnx").is_file():
        pytest.skip("EDLAB_TEST_DATA does not name a folder with detection/")
    return folder


def words(detection_data: Path) -> tuple[str, ...]:
    """A command's words for FastestDet: OpenCV's channels and resize, as it was trained."""
    return (
        "model=file",
        f"model.path={detection_data}/fastestdet_coco_352.onnx",
        "model.head=fastestdet:decode",
        "model.num_classes=80",
        "model.preprocessing.channels=bgr",
        "model.detection.iou_threshold=0.45",
        "dataset=yolo",
        f"dataset.path={detection_data}/coco128_val",
    )


def with_head(place: Workplace) -> Workplace:
    (place.folder / "fastestdet.py").write_text(head())
    path = place.environment.get("PYTHONPATH", "")
    place.environment["PYTHONPATH"] = f"{place.folder}:{path}".rstrip(":")
    return place


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory, shared_cache, detection_data: Path) -> Workplace:  # type: ignore[no-untyped-def]
    """FastestDet on three runtimes, fp32 and int8 by exact kernels, made once."""
    place = with_head(Workplace(tmp_path_factory.mktemp("detectors"), shared_cache))
    # The photographs also calibrate: it takes all 128 to have the known accuracy.
    calibration = f"dataset.calibration_path={detection_data}/coco128_val/images"
    toolchains = ("converter=onnxruntime,openvino,litert", "quantization=fp32,int8")
    place.result = place.run(  # type: ignore[attr-defined]
        "-m", *words(detection_data), *toolchains, "quantization.calibration.images=32", calibration, timeout_s=1500
    )
    return place


@pytest.mark.slow
@pytest.mark.timeout(1800)  # it makes all rows
def test_every_row_has_the_known_accuracy(sweep: Workplace) -> None:
    """AP 18.2 and AP50 33.8 of 128 photographs, by pycocotools from the network's own code."""
    assert sweep.result.returncode == 0, sweep.result.stdout + sweep.result.stderr  # type: ignore[attr-defined]
    records = sweep.records()
    assert [record.params["quantization.name"] for record in records] == ["fp32", "int8"] * 3
    for record in records:
        assert record.status is Status.ok, record.reason
        assert all(name in record.metrics for name in (*SCORES, *AGREEMENT, "postprocess_ms"))
        assert record.metrics["accuracy_images"] == 128
        near = 0.001 if record.params["quantization.name"] == "fp32" else 0.015
        assert record.metrics["accuracy_map"] == pytest.approx(0.1822, abs=near)
        if record.params["quantization.name"] == "fp32":
            assert record.metrics["accuracy_map50"] == pytest.approx(0.3377, abs=near)
        assert abs(record.metrics["accuracy_drop"]) <= near
        assert record.tags["task"] == "detection"


@pytest.mark.slow
def test_what_was_assumed_and_read_is_recorded(sweep: Workplace) -> None:
    params = sweep.records()[0].params
    assert params["model.input.head"] == "fastestdet:decode (given)"
    assert params["model.input.iou_threshold"] == "0.45 (given)"
    assert params["model.input.score_threshold"] == "0.001 (assumed)"
    assert "class numbers" in params["dataset.label_map"]


@pytest.mark.slow
def test_table_files_and_mlflow_have_the_figures(sweep: Workplace) -> None:
    record = sweep.records()[1]
    output = sweep.result.stdout  # type: ignore[attr-defined]
    assert "mAP" in output
    stored = json.loads(next((sweep.folder / "mlruns" / "sweeps").glob("*/1/result.json")).read_text())
    run = MlflowClient(f"sqlite:///{sweep.folder}/mlruns/mlflow.db").get_run(record.run_id)
    for name in (*SCORES, *AGREEMENT):
        assert stored["metrics"][name] == record.metrics[name]
        assert run.data.metrics[name] == pytest.approx(record.metrics[name])


def test_a_detector_and_a_data_set_of_another_task_are_refused(workplace: Workplace, detection_data: Path) -> None:
    """Both ways round: a detector without boxes to score, and a classifier that is given boxes."""
    place = with_head(workplace)
    detector = [word for word in words(detection_data) if not word.startswith("dataset")]
    result = place.run(*detector, "task=detection", "dataset=digits")
    assert result.returncode != 0
    output = " ".join((result.stdout + result.stderr).split())
    assert "is a detection model, and dataset=digits is for classification" in output
    assert "dataset=coco or dataset=yolo" in output
    result = place.run("model=digits_cnn", "dataset=yolo", f"dataset.path={detection_data}/coco128_val")
    assert result.returncode != 0
    assert "output of a classifier" in " ".join((result.stdout + result.stderr).split())


def test_a_detector_without_boxes_to_score_is_timed(workplace: Workplace, detection_data: Path) -> None:
    place = with_head(workplace)
    detector = [word for word in words(detection_data) if not word.startswith("dataset")]
    result = place.run(*detector, "task=detection", "dataset=synthetic")
    assert result.returncode == 0, result.stdout + result.stderr
    (record,) = place.records()
    assert "no labels" in record.missing["accuracy_map"]
    assert record.metrics["postprocess_ms"] > 0


def test_the_shipped_detectors_bring_a_data_set_with_boxes(workplace: Workplace) -> None:
    listed = workplace.edlab("models").stdout
    for name in ("ssdlite320_mobilenet_v3_large", "retinanet_resnet50_fpn"):
        assert name in listed
        shown = workplace.edlab("run", *FAST, f"model={name}", "--cfg", "job").stdout
        assert "kind: coco" in shown


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory, shared_cache) -> Workplace:  # type: ignore[no-untyped-def]
    """The embedded detector on its scenes by three toolchains, fp32 and int8: nothing to download."""
    place = Workplace(tmp_path_factory.mktemp("digits"), shared_cache)
    toolchains = ("converter=onnxruntime,openvino,litert", "quantization=fp32,int8")
    place.result = place.run("-m", "model=digits_detector", *toolchains, timeout_s=900)  # type: ignore[attr-defined]
    return place


@pytest.mark.timeout(1800)  # it makes all rows
def test_the_embedded_detector_finds_the_digits(digits: Workplace) -> None:
    """mAP above 0.9 by each toolchain, and int8 within a point and a half."""
    assert digits.result.returncode == 0, digits.result.stdout + digits.result.stderr  # type: ignore[attr-defined]
    records = digits.records()
    assert len(records) == 6
    for record in records:
        assert record.metrics["accuracy_images"] == 260
        assert record.metrics["accuracy_map"] > 0.9
        assert abs(record.metrics["accuracy_drop"]) < 0.015
        assert record.metrics["agreement_boxes"] > 0.95
        assert record.params["model.input.head"] == "ssd_raw (read)"
    assert "mAP" in digits.result.stdout  # type: ignore[attr-defined]
