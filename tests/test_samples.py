"""The main job on real photographs with real weights: what a person would quote."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from workplace import Workplace

from edlab.record import RunRecord, Status

CONVERTERS = ("onnxruntime", "openvino", "litert")


def every_fourth_class(test_data: Path, folder: Path, first: int) -> Path:
    """250 of the photographs, in `folder`."""
    folder.mkdir()
    for each in sorted((test_data / "imagenet_samples").iterdir())[first::4]:
        (folder / each.name).symlink_to(each)
    return folder


@pytest.fixture(scope="module")
def photographs(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return every_fourth_class(test_data, tmp_path_factory.mktemp("photographs") / "scored", 0)


@pytest.fixture(scope="module")
def rows(
    test_data: Path, photographs: Path, tmp_path_factory: pytest.TempPathFactory, shared_cache: Path
) -> dict[tuple[str, str], RunRecord]:
    """MobileNet V2 in fp32 and int8 on three runtimes, by (converter, quantization)."""
    place = Workplace(tmp_path_factory.mktemp("samples"), shared_cache)
    sweep = ["-m", f"converter={','.join(CONVERTERS)}", "quantization=fp32,int8"]
    others = every_fourth_class(test_data, photographs.with_name("others"), 1)
    result = place.run(
        *sweep,
        "model=mobilenet_v2",
        f"model.weights={test_data}/weights/mobilenet_v2_torchvision.pt",
        "model.preprocessing.mean=[0.5,0.5,0.5]",
        "model.preprocessing.std=[0.5,0.5,0.5]",
        "dataset=image_folder",
        f"dataset.path={photographs}",
        f"dataset.calibration_path={others}",
        timeout_s=1200,
    )
    records = place.records()
    assert all(record.status is Status.ok for record in records), result.stdout + result.stderr
    return {(record.params["converter.name"], record.params["quantization.name"]): record for record in records}


def torchvision_top1(test_data: Path, photographs: Path) -> float:
    """The same weights and images by torch and torchvision's own transforms: nothing of edlab but the import."""
    import torch
    from PIL import Image

    from edlab.torchvision_import import import_torchvision

    torchvision = import_torchvision()
    transforms = torchvision.transforms
    model = torchvision.models.mobilenet_v2()
    model.load_state_dict(torch.load(test_data / "weights" / "mobilenet_v2_torchvision.pt"))
    model.eval()
    prepare = transforms.Compose(
        [
            transforms.Resize(256),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize([0.5] * 3, [0.5] * 3),
        ]
    )
    files = sorted(photographs.glob("*/*.JPEG"))
    classes = sorted(path.name for path in (test_data / "imagenet_samples").iterdir())
    right = 0
    with torch.inference_mode():
        for start in range(0, len(files), 50):
            batch = files[start : start + 50]
            images = torch.stack([prepare(Image.open(path).convert("RGB")) for path in batch])
            labels = torch.tensor([classes.index(path.parent.name) for path in batch])
            right += int((model(images).argmax(1) == labels).sum())
    return right / len(files)


def test_fp32_is_what_torchvision_gives(
    test_data: Path, photographs: Path, rows: dict[tuple[str, str], RunRecord]
) -> None:
    expected = torchvision_top1(test_data, photographs)
    for converter in CONVERTERS:
        metrics = rows[converter, "fp32"].metrics
        assert metrics["accuracy_images"] == 250
        assert metrics["accuracy_top1"] == pytest.approx(expected, abs=0.001)


@pytest.mark.slow
def test_without_antialiasing_the_weights_reach_their_published_accuracy(
    test_data: Path, tmp_path_factory: pytest.TempPathFactory, shared_cache: Path
) -> None:
    """89.3 % on all 1,000 photographs, measured by those who made the weights' file; see README beside it."""
    place = Workplace(tmp_path_factory.mktemp("timm"), shared_cache)
    weights = [
        "model=timm",
        "model.arch=mobilenetv2_100",
        "model.arguments.pad_type=same",
        f"model.weights={test_data}/weights/mobilenetv2_100_same_timm.pt",
        "model.preprocessing.mean=[0.5,0.5,0.5]",
        "model.preprocessing.std=[0.5,0.5,0.5]",
        "model.preprocessing.interpolation=bilinear",
        "model.preprocessing.antialias=false",
        "model.preprocessing.resize=256",
    ]
    result = place.run(
        "quantization=fp32",
        "dataset=image_folder",
        f"dataset.path={test_data}/imagenet_samples",
        "dataset.calibration_fraction=0",
        *weights,
        timeout_s=1200,
    )
    assert len(place.records()) == 1, result.stdout + result.stderr
    (record,) = place.records()
    assert record.metrics["accuracy_images"] == 1000
    assert abs(round(1000 * record.metrics["accuracy_top1"]) - 893) <= 1


def test_int8_stays_within_a_point_and_a_half_of_its_fp32_row(rows: dict[tuple[str, str], RunRecord]) -> None:
    for converter in CONVERTERS:
        fp32, int8 = rows[converter, "fp32"], rows[converter, "int8"]
        assert fp32.metrics["accuracy_images"] == int8.metrics["accuracy_images"] == 250
        assert abs(int8.metrics["accuracy_top1"] - fp32.metrics["accuracy_top1"]) <= 0.015
        assert fp32.metrics["accuracy_drop"] == pytest.approx(0, abs=0.002)


def test_int8_files_are_a_quarter_of_fp32_files(rows: dict[tuple[str, str], RunRecord]) -> None:
    for converter in CONVERTERS:
        sizes = [rows[converter, name].metrics["artifact_size_mb"] for name in ("int8", "fp32")]
        assert np.divide(*sizes) < 0.35
