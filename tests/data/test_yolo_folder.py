"""YOLO's txt files: where they are, what they contain, and what is refused."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edlab.cache import Cache
from edlab.config import DatasetConfig, ExifOrientation
from edlab.data import PreparedData, prepare
from edlab.errors import DataError, DataUnavailableError
from edlab.source import Preprocessing
from edlab.tasks.detection.annotations import Annotations, Boxes

SMALL = Preprocessing(height=8, width=8)
LABELS = {"a": "0 0.5 0.5 0.25 0.5\n1 0.1 0.2 0.2 0.4\n", "b": "", "c": "2 0.5 0.5 1 1"}


@pytest.fixture
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """Outside tmp_path, which is the data set here."""
    return Cache(tmp_path_factory.mktemp("cache"))


def write_image(path: Path, size: tuple[int, int] = (40, 20), orientation: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.random.default_rng([*os.fsencode(path)]).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, exif=exif)


def fill(images: Path, labels: Path) -> None:
    """Images a to d of 40 x 20; b has an empty label file, d has none."""
    for name in "abcd":
        write_image(images / f"{name}.png")
    labels.mkdir(parents=True, exist_ok=True)
    for name, text in LABELS.items():
        (labels / f"{name}.txt").write_text(text)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    fill(tmp_path / "images", tmp_path / "labels")
    return tmp_path


def prepared(root: Path, cache: Cache, num_classes: int | None = 3, **changes: Any) -> PreparedData:
    names = changes.pop("class_names", ())
    config = DatasetConfig(name="own", kind="yolo", path=str(root), calibration_fraction=0.0)
    return prepare(dataclasses.replace(config, **changes), SMALL, cache, num_classes=num_classes, class_names=names)


def objects(data: PreparedData) -> dict[str, Boxes]:
    """The objects of each scored image, by its name without folder and suffix."""
    assert isinstance(data.labels, Annotations)
    assert len(data.labels) == len(data.files)
    scored = data.labels[data.evaluation]
    return dict(zip([Path(data.files[row]).stem for row in data.evaluation], scored.images, strict=True))


def codes(data: PreparedData) -> list[str]:
    return [reason.code for reason in data.reasons]


class TestGroundTruth:
    def test_boxes_are_in_pixels_of_the_image(self, root: Path, cache: Cache) -> None:
        data = prepared(root, cache)
        found = objects(data)
        assert set(found) == {"a", "b", "c", "d"}
        assert found["a"].size == (20, 40)
        np.testing.assert_allclose(found["a"].corners, [[15, 5, 25, 15], [0, 0, 8, 8]], atol=1e-12)
        np.testing.assert_allclose(found["a"].areas, [100, 64])
        assert found["a"].classes.tolist() == [0, 1]
        assert not found["a"].crowds.any()
        assert found["c"].corners.tolist() == [[0, 0, 40, 20]]
        assert (codes(data), data.skipped) == ([], [])

    def test_an_image_without_objects_counts(self, root: Path, cache: Cache) -> None:
        found = objects(prepared(root, cache))
        for name in "bd":
            assert found[name].corners.shape == (0, 4)
            assert found[name].size == (20, 40)

    def test_the_size_is_that_of_the_turned_image(self, root: Path, cache: Cache) -> None:
        write_image(root / "images" / "c.png", (20, 40), orientation=6)
        applied = prepared(root, cache, exif_orientation=ExifOrientation.apply)
        assert objects(applied)["c"].corners.tolist() == [[0, 0, 40, 20]]
        assert codes(applied) == []
        ignored = prepared(root, cache)
        assert objects(ignored)["c"].corners.tolist() == [[0, 0, 20, 40]]
        assert codes(ignored) == ["exif_orientation_ignored"]

    def test_a_part_and_a_seeded_split_keep_their_objects(self, root: Path, cache: Cache) -> None:
        everything = objects(prepared(root, cache))
        some = prepared(root, cache, images=2, calibration_fraction=0.25)
        assert (len(some.evaluation), len(some.calibration_pool)) == (2, 1)
        for name, boxes in objects(some).items():
            np.testing.assert_array_equal(boxes.corners, everything[name].corners)

    def test_a_line_that_is_there_twice_is_one_object(self, root: Path, cache: Cache) -> None:
        (root / "labels" / "c.txt").write_text("2 0.5 0.5 1 1\n\n2 0.5 0.5 1.0 1\r\n1 0.5 0.5 1 1\n")
        assert objects(prepared(root, cache))["c"].classes.tolist() == [2, 1]

    def test_boxes_beyond_the_image_are_scored_as_they_are_and_counted(self, root: Path, cache: Cache) -> None:
        (root / "labels" / "c.txt").write_text("2 0 0.5 0.5 1\n2 0.5 0.5 0 1\n2 0.5 0.5 1.000001 1\n")
        data = prepared(root, cache)
        assert objects(data)["c"].corners[0].tolist() == [-10, 0, 10, 20]
        messages = {reason.code: reason.message for reason in data.reasons}
        assert messages["boxes_without_area"].startswith("1 of 5 boxes")
        assert messages["boxes_outside_image"].startswith("1 of 5 boxes")

    def test_real_files_are_read(self, cache: Cache, test_data: Path) -> None:
        folder = test_data / "detection" / "coco128_val"
        if not folder.is_dir():
            pytest.skip(f"there is no {folder}")
        data = prepared(folder, cache, 80)
        found = objects(data)
        assert len(found) == 128
        assert sum(len(boxes.classes) for boxes in found.values()) == 898
        assert max(int(boxes.classes.max()) for boxes in found.values() if len(boxes.classes)) == 77
        assert (codes(data), data.skipped) == ([], [])
        with pytest.raises(DataError, match="COCO's ids"):
            prepared(folder, cache, 90)


class TestLayout:
    @pytest.mark.parametrize(
        ("images", "labels", "path"),
        [
            ("images", "labels", "."),
            ("images/val", "labels/val", "."),
            ("images/val", "labels/val", "images/val"),
            ("images", "labels", "images"),
            ("valid/images", "valid/labels", "."),
            ("all", "all", "all"),
            ("images/holiday", "images/holiday", "."),
        ],
    )
    def test_labels_are_found(self, tmp_path: Path, cache: Cache, images: str, labels: str, path: str) -> None:
        fill(tmp_path / images, tmp_path / labels)
        data = prepared(tmp_path / path, cache)
        assert {name: len(boxes.classes) for name, boxes in objects(data).items()} == {"a": 2, "b": 0, "c": 1, "d": 0}
        assert codes(data) == []

    @pytest.mark.parametrize(("first", "path"), [("images/", "images/val"), ("", "val")])
    def test_training_images_are_not_scored_with_the_others(
        self, tmp_path: Path, cache: Cache, first: str, path: str
    ) -> None:
        for split in ("train", "val"):
            images = tmp_path / (f"images/{split}" if first else f"{split}/images")
            fill(images, Path(str(images).replace("/images", "/labels")))
        with pytest.raises(DataError, match=r"val, train in .* are parts of a data set") as caught:
            prepared(tmp_path, cache)
        assert caught.value.hint == f"set dataset.path={tmp_path / path}"

    def test_no_label_file_at_all_is_an_error(self, tmp_path: Path, cache: Cache) -> None:
        write_image(tmp_path / "images" / "a.png")
        with pytest.raises(DataError, match=r"no label file is found for the 1 images .*labels/a\.txt"):
            prepared(tmp_path, cache)
        (tmp_path / "labels").mkdir()
        (tmp_path / "labels" / "a.txt").write_text("\n")
        with pytest.raises(DataError, match="there is nothing to score"):
            prepared(tmp_path, cache)

    def test_label_files_in_two_places_are_refused(self, root: Path, cache: Cache) -> None:
        (root / "images" / "d.txt").write_text(LABELS["a"])
        with pytest.raises(DataError, match="in two places"):
            prepared(root, cache)

    def test_label_files_without_an_image_are_counted(self, root: Path, cache: Cache) -> None:
        (root / "images" / "a.png").unlink()
        (root / "labels" / "classes.txt").write_text("x\n")
        data = prepared(root, cache)
        assert set(objects(data)) == {"b", "c", "d"}
        assert codes(data) == ["labels_without_image"]
        assert data.reasons[0].message.startswith("1 label file has no image")

    def test_no_images_and_no_folder_are_errors(self, tmp_path: Path, cache: Cache) -> None:
        with pytest.raises(DataError, match="has no images"):
            prepared(tmp_path, cache)
        with pytest.raises(DataUnavailableError, match="folder is missing"):
            prepared(tmp_path, cache, path=None)


class TestClassNames:
    def test_without_names_the_number_is_the_class(self, root: Path, cache: Cache) -> None:
        data = prepared(root, cache, 5)
        assert isinstance(data.labels, Annotations)
        assert data.labels.class_names == ("0", "1", "2", "3", "4")
        assert "does not name its classes" in data.label_map
        with pytest.raises(DataError, match="class 2, and the model's 2 classes are 0 to 1"):
            prepared(root, cache, 2)
        with pytest.raises(DataError, match="states neither the number"):
            prepared(root, cache, None)

    @pytest.mark.parametrize(
        ("file", "text"),
        [
            ("data.yaml", "nc: 3\nnames: [cat, dog, owl]\n"),
            ("data.yaml", "path: .\nnames:\n  0: cat\n  1: dog\n  2: owl\n"),
            ("classes.txt", "cat\ndog\nowl\n"),
        ],
    )
    def test_the_folders_own_names_are_taken(self, root: Path, cache: Cache, file: str, text: str) -> None:
        (root / file).write_text(text)
        data = prepared(root, cache)
        assert data.classes == {"cat": 0, "dog": 1, "owl": 2}
        assert file in data.label_map
        inner = prepared(root / "images", cache)
        assert inner.classes == data.classes
        named = prepared(root, cache, None, class_names=("OWL", "bird", "cat", "dog"))
        assert objects(named)["a"].classes.tolist() == [2, 3]
        assert "by name" in named.label_map
        with pytest.raises(DataError, match="3 classes and the model has 80"):
            prepared(root, cache, 80)

    def test_a_labels_file_comes_first(self, root: Path, cache: Cache) -> None:
        (root / "data.yaml").write_text("names: [cat, dog]\n")
        (root / "names.list").write_text("one\ntwo\nthree\n")
        assert prepared(root, cache, labels=str(root / "names.list")).classes == {"one": 0, "two": 1, "three": 2}

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("names: [cat, dog]\n", "class 2, and names 2 classes"),
            ("nc: 4\nnames: [cat, dog, owl]\n", "nc is 4, and names is"),
            ("names: {1: cat, 2: dog, 3: owl}\n", "not numbered from 0"),
            ("names: [cat\n", "cannot read the class names"),
            (b"names: [\xff]\n", "cannot read the class names"),
            ("names: cat\n", "is inconsistent"),
        ],
    )
    def test_a_wrong_data_yaml_is_refused(self, root: Path, cache: Cache, text: str | bytes, message: str) -> None:
        (root / "data.yaml").write_bytes(text.encode() if isinstance(text, str) else text)
        with pytest.raises(DataError, match=message) as caught:
            prepared(root, cache)
        assert "dataset.labels=FILE" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 0.5 0.5 0.1\n", "line 1 has 4 fields, not 5"),
        ("0 0.5 0.5 0.1 0.1\n0 0.5 0.5 0.1 0.1 0.9\n", "line 2 has 6 fields, not 5 .with a confidence"),
        ("0 0.1 0.1 0.2 0.1 0.2 0.2 0.1 0.2\n", "has 9 fields, not 5 .an outline"),
        ("1.0 0.5 0.5 0.1 0.1\n", "line 1: '1.0' is not a class number"),
        ("-1 0.5 0.5 0.1 0.1\n", "'-1' is not a class number"),
        pytest.param("1" * 5000 + " 0.5 0.5 0.1 0.1\n", "1' is not a class number", id="long"),
        ("cat 0.5 0.5 0.1 0.1\n", "'cat' is not a class number"),
        ("0 320 240 64 48\n", "not in fractions of the image"),
        ("0 0.5 0.5 1.2 0.1\n", "not in fractions of the image"),
        ("0 -0.2 0.5 0.1 0.1\n", "not in fractions of the image"),
        ("0 0.5 0.5 -0.001 0.1\n", "not in fractions of the image"),
        ("0 nan 0.5 0.1 0.1\n", "not in fractions of the image"),
        ("0 0.5 0.5 inf 0.1\n", "not in fractions of the image"),
        ("0 0,5 0.5 0.1 0.1\n", "could not convert string to float: '0,5'"),
        (b"0 0.5 0.5 0.1 \xff\n", "not valid UTF-8 text"),
        ("0 0.5 0.5 0.1 0.1\n".encode("utf-16"), "not valid UTF-8 text"),
    ],
)
def test_a_wrong_line_is_named(root: Path, cache: Cache, text: str | bytes, message: str) -> None:
    (root / "labels" / "c.txt").write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(DataError, match=message) as caught:
        prepared(root, cache)
    assert "c.txt" in caught.value.message
    assert caught.value.hint


def test_a_label_file_that_cannot_be_read_is_an_error(root: Path, cache: Cache) -> None:
    (root / "labels" / "c.txt").unlink()
    os.mkfifo(root / "labels" / "c.txt")
    with pytest.raises(DataError, match=r"cannot read the label file .*c\.txt: a FIFO, not a file"):
        prepared(root, cache)


def test_a_broken_link_is_no_image_without_objects(root: Path, cache: Cache) -> None:
    (root / "labels" / "c.txt").unlink()
    (root / "labels" / "c.txt").symlink_to("nowhere.txt")
    with pytest.raises(DataError, match=r"cannot read the label file .*c\.txt: No such file"):
        prepared(root, cache)
