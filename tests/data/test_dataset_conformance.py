"""Built-in data sets pass the suite that third parties subclass; data sets that break a rule do not."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import ClassVar

import numpy as np
from conformance import Part
from PIL import Image
from workplace import Workplace

from edlab.config import DatasetConfig
from edlab.source import ArrayInput
from edlab.testing.dataset import DatasetConformance

WIDTH, HEIGHT, IMAGES, CLASSES = 40, 30, 12, 3


def draw(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


class _OnFiles(DatasetConformance):
    classes = CLASSES

    def change(self, config: DatasetConfig) -> None:
        draw(next(Path(config.path or "").rglob("*.png")), 1000)


class TestDigits(DatasetConformance):
    dataset = "digits"
    classes = 10

    def config(self, folder: Path) -> DatasetConfig:
        return DatasetConfig(name="digits", kind="digits")


class TestSynthetic(DatasetConformance):
    dataset = "synthetic"
    classes = 10

    def config(self, folder: Path) -> DatasetConfig:
        return DatasetConfig(name="synthetic", kind="synthetic")


class TestImageFolder(_OnFiles):
    dataset = "image_folder"

    def config(self, folder: Path) -> DatasetConfig:
        for index in range(IMAGES):
            draw(folder / "images" / "abc"[index % CLASSES] / f"{index}.png", index)
        return DatasetConfig(name="own", kind=self.dataset, path=str(folder / "images"))


class TestImagenet(_OnFiles):
    """One flat folder, and the file of labels."""

    dataset = "imagenet"
    classes = 1000

    def config(self, folder: Path) -> DatasetConfig:
        for index in range(IMAGES):
            draw(folder / "val" / f"{index}.png", index)
        labels = folder / "labels.txt"
        labels.write_text("".join(f"{index}.png {index * 90}\n" for index in range(IMAGES)))
        return DatasetConfig(name="own", kind=self.dataset, path=str(folder / "val"), labels=str(labels))


class TestCoco(_OnFiles):
    dataset = "coco"
    class_names = ("cat", "dog", "owl")

    def config(self, folder: Path) -> DatasetConfig:
        categories = [{"id": 3 * index, "name": name} for index, name in enumerate(self.class_names, 1)]
        images = [
            {"id": index, "file_name": f"{index}.png", "width": WIDTH, "height": HEIGHT} for index in range(IMAGES)
        ]
        annotations = [
            {
                "id": 1 + index,
                "image_id": index,
                "category_id": 3 * (1 + index % CLASSES),
                "bbox": [1, 2, 10 + index, 20],
                "area": 100,
                "iscrowd": 0,
            }
            for index in range(IMAGES)
        ]
        for index in range(IMAGES):
            draw(folder / "images" / f"{index}.png", index)
        file = folder / "instances.json"
        file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
        return DatasetConfig(name="own", kind=self.dataset, path=str(folder / "images"), annotations=str(file))


class TestYolo(_OnFiles):
    dataset = "yolo"

    def config(self, folder: Path) -> DatasetConfig:
        root = folder / "scenes"
        (root / "labels").mkdir(parents=True)
        (root / "classes.txt").write_text("cat\ndog\nowl\n")
        for index in range(IMAGES):
            draw(root / "images" / f"{index}.png", index)
            (root / "labels" / f"{index}.txt").write_text(f"{index % CLASSES} 0.5 0.5 0.25 0.5\n")
        return DatasetConfig(name="own", kind=self.dataset, path=str(root))


class TestArrays(DatasetConformance):
    dataset = "arrays"
    classes = 4
    input: ClassVar[ArrayInput] = ArrayInput(shape=(5, 2))

    def config(self, folder: Path) -> DatasetConfig:
        self._write(folder / "arrays.npz", 0)
        return DatasetConfig(name="own", kind="arrays", path=str(folder / "arrays.npz"))

    def change(self, config: DatasetConfig) -> None:
        self._write(Path(config.path or ""), 1)

    def _write(self, path: Path, seed: int) -> None:
        inputs = np.random.default_rng(seed).normal(size=(IMAGES, 5, 2)).astype(np.float32)
        np.savez(path, inputs=inputs, labels=np.arange(IMAGES) % self.classes)


class TestSyntheticArrays(TestSynthetic):
    input: ClassVar[ArrayInput] = ArrayInput(shape=(5, 2))


ARCHIVE = Part(
    name="acme_archive",
    source="""
from pathlib import Path

import numpy as np
from PIL import Image

from edlab.cache import sha256_files
from edlab.data import Catalogue, Dataset, Decoded
from edlab.errors import DataError


class Archive(Dataset):
    def images(self, wanted):
        path = Path(self.config.path or "")
        if not path.is_file():
            raise DataError(f"there is no archive {path}", hint="set dataset.path=FILE.npz")
        with np.load(path) as file:
            pixels, labels = file["pixels"], file["labels"]
        digest = sha256_files([path])
        return Catalogue(
            names=[f"image {index}" for index in range(len(pixels))],
            identity=[[digest, index] for index in range(len(pixels))],
            open_image=lambda index: Decoded(Image.fromarray(pixels[index])),
            labels=labels.astype(np.int64),
            classes=3,
        )
""",
    entries=("edlab.datasets: acme_archive = acme_archive:Archive",),
    suite="""
from pathlib import Path

import numpy as np

from edlab.config import DatasetConfig
from edlab.testing.dataset import DatasetConformance


class TestArchive(DatasetConformance):
    dataset = "acme_archive"
    classes = 3

    def config(self, folder):
        self._write(folder / "images.npz", 0)
        return DatasetConfig(name="acme", kind=self.dataset, path=str(folder / "images.npz"))

    def change(self, config):
        self._write(Path(config.path), 1)

    def _write(self, path, seed):
        pixels = np.random.default_rng(seed).integers(0, 256, (12, 20, 20, 3)).astype(np.uint8)
        np.savez(path, pixels=pixels, labels=np.arange(12) % 3)
""",
)

# What of the archive above is replaced, by what, and the test of the suite that must see it.
BROKEN = [
    ('f"image {index}"', '"image"', "test_each_image_has_a_name_and_an_identity"),
    (
        "Image.fromarray(pixels[index])",
        'Image.fromarray(pixels[index]).convert("L")',
        "test_images_are_decoded_alike_each_time",
    ),
    ("pixels[index]))", "pixels[0]))", "test_rows_are_inputs_of_the_model"),
    ("labels.astype(np.int64)", "labels.astype(np.int32)", "test_labels_are_of_its_task_and_classes_of_the_model"),
    ("[digest, index]", "[float(np.random.random()), index]", "test_the_second_time_nothing_is_decoded"),
    ("sha256_files([path])", '"always the same"', "test_a_picture_that_changed_is_not_taken_from_the_cache"),
    (', hint="set dataset.path=FILE.npz"', "", "test_a_path_that_is_missing_is_an_error_with_a_hint"),
    ("classes=3,", "classes=wanted.classes,", "test_a_model_of_other_classes_is_refused"),
    (
        "names=[",
        "own_calibration=np.random.default_rng().permutation(12)[:3],\n            names=[",
        "test_the_seed_decides_and_nothing_else",
    ),
    (
        "            classes=3,\n",
        "            classes=3,\n            own_calibration=np.arange(self.config.images or 4),\n",
        "test_fewer_images_are_the_first_of_all",
    ),
]


def test_the_suite_fails_data_sets_that_break_a_rule(tmp_path: Path) -> None:
    ARCHIVE.check_suite(tmp_path, BROKEN)


def test_a_data_set_of_a_package_is_scored_by_its_name(tmp_path: Path, workplace: Workplace) -> None:
    site = ARCHIVE._replace(source=ARCHIVE.source.replace("classes=3", "classes=10")).install(tmp_path / "site")
    workplace.environment["PYTHONPATH"] = os.pathsep.join([str(site), workplace.environment.get("PYTHONPATH", "")])
    pixels = np.random.default_rng(0).integers(0, 256, (40, 20, 20, 3)).astype(np.uint8)
    np.savez(tmp_path / "images.npz", pixels=pixels, labels=np.arange(40) % 10)
    words = ["quantization=fp32", "dataset=acme_archive"]
    result = workplace.run(*words, f"dataset.path={tmp_path / 'images.npz'}")
    assert result.returncode == 0, result.stdout + result.stderr
    (record,) = workplace.records()
    assert record.metrics["accuracy_images"] == 36  # a tenth is set aside
    assert record.metrics["accuracy_top1"] < 0.5  # noise
    assert record.details["dataset"]["name"] == "acme_archive"
