"""COCO instances: the ground truth as the file states it, and a clear message about what is wrong with it."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edlab.cache import Cache
from edlab.config import DatasetConfig, ExifOrientation
from edlab.data import PreparedData, prepare
from edlab.errors import ConfigError, DataError, DataUnavailableError
from edlab.source import Preprocessing
from edlab.tasks.detection.annotations import Annotations, Boxes

SMALL = Preprocessing(height=8, width=8)
WIDTH, HEIGHT = 40, 30


@pytest.fixture
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """Outside tmp_path, which is the data set here."""
    return Cache(tmp_path_factory.mktemp("cache"))


def write_image(path: Path, size: tuple[int, int] = (WIDTH, HEIGHT), orientation: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.random.default_rng([*os.fsencode(path)]).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, exif=exif)


def annotation(image: int, category: int, box: list[float], **more: object) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": box, "area": 0.5 * box[2] * box[3], "iscrowd": 0} | more


@dataclasses.dataclass
class Coco:
    """A folder of images and its JSON, which tests change before they write it."""

    root: Path
    data: dict[str, Any]

    @property
    def file(self) -> Path:
        return self.root.parent / "ground_truth.json"

    def write(self, text: str | bytes | None = None) -> None:
        content = json.dumps(self.data) if text is None else text
        self.file.write_bytes(content.encode() if isinstance(content, str) else content)

    def prepare(self, cache: Cache, num_classes: int | None = 3, **changes: Any) -> PreparedData:
        names = changes.pop("class_names", ())
        config = DatasetConfig(
            name="own", kind="coco", path=str(self.root), annotations=str(self.file), calibration_fraction=0.0
        )
        return prepare(dataclasses.replace(config, **changes), SMALL, cache, num_classes=num_classes, class_names=names)


@pytest.fixture
def coco(tmp_path: Path) -> Coco:
    """Four images of 40 x 30, named so that their order is not that of the JSON file; the last has no objects."""
    images = [
        {"id": 100 + index, "file_name": f"{name}.png", "width": WIDTH, "height": HEIGHT}
        for index, name in enumerate("cabd")
    ]
    for image in images:
        write_image(tmp_path / "images" / str(image["file_name"]))
    categories = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}, {"id": 9, "name": "owl"}]
    annotations = [
        annotation(101, 7, [1.5, 2, 10, 20]),
        annotation(100, 3, [0, 0, 40, 30], iscrowd=1),
        annotation(101, 3, [5, 5, 3, 4], area=11.5),
        annotation(102, 7, [0, 10, 10, 10]),
    ]
    for index, item in enumerate(annotations):
        item["id"] = index + 1
    made = Coco(tmp_path / "images", {"images": images, "annotations": annotations, "categories": categories})
    made.write()
    return made


def objects(data: PreparedData) -> dict[str, Boxes]:
    """The objects of each scored image, by its file."""
    assert isinstance(data.labels, Annotations)
    assert len(data.labels) == len(data.files)
    scored = data.labels[data.evaluation]
    return dict(zip([data.files[row] for row in data.evaluation], scored.images, strict=True))


def codes(data: PreparedData) -> list[str]:
    return [reason.code for reason in data.reasons]


class TestGroundTruth:
    def test_it_is_that_of_the_file(self, coco: Coco, cache: Cache) -> None:
        data = coco.prepare(cache)
        found = objects(data)
        assert set(found) == {"a.png", "b.png", "c.png", "d.png"}
        boxes = found["a.png"]
        assert boxes.size == (HEIGHT, WIDTH)
        np.testing.assert_array_equal(boxes.corners, [[1.5, 2, 11.5, 22], [5, 5, 8, 9]])
        assert boxes.classes.tolist() == [1, 0]
        np.testing.assert_array_equal(boxes.areas, [100, 11.5])
        assert found["c.png"].crowds.tolist() == [True]
        assert len(found["d.png"].classes) == 0
        assert found["d.png"].corners.shape == (0, 4)
        assert np.load(data.images).shape == (4, 8, 8, 3)
        assert (codes(data), data.skipped) == ([], [])

    def test_a_category_without_objects_keeps_its_class(self, coco: Coco, cache: Cache) -> None:
        data = coco.prepare(cache)
        assert isinstance(data.labels, Annotations)
        assert data.labels.class_names == ("cat", "dog", "owl")
        assert data.classes == {"cat": 0, "dog": 1, "owl": 2}
        assert "in the order of their ids" in data.label_map

    def test_the_models_own_numbering_is_taken(self, coco: Coco, cache: Cache) -> None:
        by_id = coco.prepare(cache, 9)
        assert objects(by_id)["a.png"].classes.tolist() == [6, 2]
        assert "by id - 1" in by_id.label_map
        by_name = coco.prepare(cache, None, class_names=("owl", "Dog", "fish", "CAT"))
        assert objects(by_name)["a.png"].classes.tolist() == [1, 3]
        assert "by name" in by_name.label_map
        with pytest.raises(DataError, match="3 categories with ids from 3 to 9: a model of 3 or 9 classes fits"):
            coco.prepare(cache, 4)
        with pytest.raises(DataError, match="states neither the number"):
            coco.prepare(cache, None)

    def test_it_is_pycocotools_ground_truth(self, coco: Coco, cache: Cache) -> None:
        reference = pytest.importorskip("pycocotools.coco").COCO(str(coco.file))
        found = objects(coco.prepare(cache, 9))
        for image in reference.loadImgs(reference.getImgIds()):
            expected = reference.loadAnns(reference.getAnnIds([image["id"]]))
            boxes = found[image["file_name"]]
            sides = boxes.corners[:, 2:] - boxes.corners[:, :2]
            assert np.hstack([boxes.corners[:, :2], sides]).tolist() == [item["bbox"] for item in expected]
            assert (boxes.classes + 1).tolist() == [item["category_id"] for item in expected]
            assert boxes.areas.tolist() == [item["area"] for item in expected]
            assert boxes.crowds.tolist() == [bool(item["iscrowd"]) for item in expected]

    def test_a_part_of_the_images_has_its_own_objects(self, coco: Coco, cache: Cache) -> None:
        whole = coco.prepare(cache)
        everything = objects(whole)
        some = coco.prepare(cache, images=2, calibration_fraction=0.25)
        again = coco.prepare(cache, images=2, calibration_fraction=0.25)
        assert len(some.evaluation) == 2
        assert len(some.calibration_pool) == 1
        assert not set(some.evaluation) & set(some.calibration_pool)
        assert [some.files[row] for row in some.evaluation] == [again.files[row] for row in again.evaluation]
        for file, boxes in objects(some).items():
            np.testing.assert_array_equal(boxes.corners, everything[file].corners)

    def test_another_folder_may_calibrate(self, coco: Coco, tmp_path: Path, cache: Cache) -> None:
        for index in range(3):
            write_image(tmp_path / "others" / f"{index}.png")
        data = coco.prepare(cache, calibration_path=str(tmp_path / "others"))
        assert len(data.evaluation) == 4
        assert data.calibration_files == ["0.png", "1.png", "2.png"]

    def test_labels_can_be_digested(self, coco: Coco, cache: Cache) -> None:
        first = coco.prepare(cache).labels
        coco.data["annotations"][0]["bbox"][0] = 1.25
        coco.write()
        second = coco.prepare(cache).labels
        assert first is not None
        assert second is not None
        assert json.dumps(first.tolist()) != json.dumps(second.tolist())

    def test_ids_may_be_texts_and_ids_of_categories_may_be_0(self, coco: Coco, cache: Cache) -> None:
        for item in coco.data["images"]:
            item["id"] = str(item["id"])
        for item in coco.data["annotations"]:
            item["image_id"] = str(item["image_id"])
            item["category_id"] -= 3
        for item in coco.data["categories"]:
            item["id"] -= 3
        coco.write()
        assert objects(coco.prepare(cache, 7))["a.png"].classes.tolist() == [4, 0]

    def test_an_area_that_is_missing_is_that_of_the_box(self, coco: Coco, cache: Cache) -> None:
        for item in coco.data["annotations"]:
            del item["area"], item["iscrowd"]
        coco.write()
        data = coco.prepare(cache)
        assert objects(data)["a.png"].areas.tolist() == [200, 12]
        assert not objects(data)["c.png"].crowds.any()
        assert codes(data) == ["areas_of_boxes"]


class TestBoxesOutsideTheirImage:
    def test_they_are_scored_as_they_are_and_counted(self, coco: Coco, cache: Cache) -> None:
        """pycocotools neither clips nor drops ground truth; COCO's own files have boxes without an area."""
        boxes = [[-5, 5, 10, 10], [35, 5, 10, 10], [50, 5, 10, 10], [5, 5, 0, 10], [-9, 5, 9, 10]]
        coco.data["annotations"] += [annotation(103, 3, [*map(float, box)]) for box in boxes]
        coco.write()
        data = coco.prepare(cache)
        expected = [[x, y, x + width, y + height] for x, y, width, height in boxes]
        assert objects(data)["d.png"].corners.tolist() == expected
        messages = {reason.code: reason.message for reason in data.reasons}
        assert set(messages) == {"boxes_without_area", "boxes_outside_image"}
        assert messages["boxes_without_area"].startswith("3 of 9 boxes")
        assert messages["boxes_outside_image"].startswith("2 of 9 boxes")

    def test_a_rounded_edge_is_no_reason(self, coco: Coco, cache: Cache) -> None:
        coco.data["annotations"].append(annotation(103, 3, [-0.01, 0, 40.02, 30.01]))
        coco.write()
        assert codes(coco.prepare(cache)) == []


class TestImages:
    def test_those_that_are_missing_are_skipped_and_counted(self, coco: Coco, cache: Cache) -> None:
        (coco.root / "a.png").unlink()
        data = coco.prepare(cache)
        assert set(objects(data)) == {"b.png", "c.png", "d.png"}
        assert [name for name, _ in data.skipped] == ["a.png"]
        assert codes(data) == ["images_missing"]
        assert data.reasons[0].message.startswith("1 of 4 images in ground_truth.json are not in")

    def test_those_that_the_json_does_not_name_are_left_out_and_counted(self, coco: Coco, cache: Cache) -> None:
        write_image(coco.root / "more" / "x.png")
        data = coco.prepare(cache)
        assert len(data.evaluation) == 4
        assert codes(data) == ["images_without_label"]
        assert data.reasons[0].message.startswith("1 image was ignored: in")

    def test_none_there_is_an_error_that_finds_the_folder(self, coco: Coco, cache: Cache) -> None:
        with pytest.raises(DataError, match=r"none of the 4 images in .*ground_truth\.json is in") as caught:
            coco.prepare(cache, path=str(coco.root.parent))
        assert caught.value.hint == f"set dataset.path={coco.root}"
        for item in coco.data["images"]:
            item["file_name"] = f"elsewhere/{item['file_name']}"
        coco.write()
        with pytest.raises(DataError, match=r"the first is elsewhere/c\.png, and the folder has a\.png"):
            coco.prepare(cache)
        for file in coco.root.iterdir():
            file.unlink()
        with pytest.raises(DataError, match="has no images"):
            coco.prepare(cache)

    def test_names_may_have_folders_and_any_suffix(self, coco: Coco, cache: Cache) -> None:
        (coco.root / "sub").mkdir()
        (coco.root / "a.png").rename(coco.root / "sub" / "a.image")
        coco.data["images"][1]["file_name"] = "./sub/a.image"
        coco.write()
        data = coco.prepare(cache)
        assert set(objects(data)) == {"sub/a.image", "b.png", "c.png", "d.png"}
        assert (codes(data), data.left_out.get(".image", 0)) == ([], 0)

    def test_one_that_is_damaged_is_skipped_with_its_objects(self, coco: Coco, cache: Cache) -> None:
        (coco.root / "b.png").write_text("no image")
        data = coco.prepare(cache)
        assert objects(data)["a.png"].classes.tolist() == [1, 0]
        assert objects(data)["c.png"].crowds.tolist() == [True]
        assert [name for name, _ in data.skipped] == ["b.png"]

    @pytest.mark.parametrize("name", ["a\0.png", "\ud800.png", "x" * 300])
    def test_a_name_that_no_file_can_have_is_missing(self, coco: Coco, cache: Cache, name: str) -> None:
        coco.data["images"][1]["file_name"] = name
        coco.write()
        data = coco.prepare(cache)
        assert len(data.evaluation) == 3
        assert "images_missing" in codes(data)


class TestSizes:
    def test_an_image_of_another_size_is_not_scored(self, coco: Coco, cache: Cache) -> None:
        write_image(coco.root / "a.png", (20, 15))
        data = coco.prepare(cache)
        assert set(objects(data)) == {"b.png", "c.png", "d.png"}
        assert data.skipped == [("a.png", "it has 20 x 15 pixels, and its annotations state 40 x 30")]
        assert codes(data) == ["images_of_other_size"]
        again = coco.prepare(cache)
        assert again.skipped == data.skipped

    def test_a_turned_image_is_scored_where_its_orientation_is_applied(self, coco: Coco, cache: Cache) -> None:
        write_image(coco.root / "a.png", (HEIGHT, WIDTH), orientation=6)
        ignored = coco.prepare(cache)
        assert "a.png" not in objects(ignored)
        assert "its EXIF orientation swaps them" in ignored.skipped[0][1]
        assert "dataset.exif_orientation=apply" in ignored.reasons[-1].advice
        applied = coco.prepare(cache, exif_orientation=ExifOrientation.apply)
        assert objects(applied)["a.png"].size == (HEIGHT, WIDTH)
        assert (applied.skipped, codes(applied)) == ([], [])

    def test_it_calibrates_no_more_than_it_is_scored(self, coco: Coco, cache: Cache) -> None:
        for name in "ab":
            write_image(coco.root / f"{name}.png", (20, 15))
        data = coco.prepare(cache, calibration_fraction=0.5)
        used = [data.files[row] for row in (*data.evaluation, *data.calibration_pool)]
        assert sorted(used) == ["c.png", "d.png"]

    def test_all_of_another_size_is_an_error(self, coco: Coco, cache: Cache) -> None:
        for name in "abcd":
            write_image(coco.root / f"{name}.png", (20, 15))
        with pytest.raises(DataError, match=r"no image has the size that its annotations state; a\.png: it has 20"):
            coco.prepare(cache)


class TestFindingTheAnnotations:
    def found(self, coco: Coco, cache: Cache, *places: str) -> PreparedData:
        for place in places:
            path = coco.root / place
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(coco.data))
        return coco.prepare(cache, annotations=None)

    @pytest.mark.parametrize(
        "place", ["instances.json", "annotations/instances_x.json", "../annotations/instances.json"]
    )
    def test_the_only_one_is_taken(self, coco: Coco, cache: Cache, place: str) -> None:
        assert len(self.found(coco, cache, place).evaluation) == 4

    def test_of_several_the_one_named_after_the_folder(self, coco: Coco, cache: Cache) -> None:
        names = ("train2017", "images", "val2017")
        data = self.found(coco, cache, *(f"../annotations/instances_{name}.json" for name in names))
        assert "instances_images.json" in data.label_map

    def test_several_are_listed(self, coco: Coco, cache: Cache) -> None:
        with pytest.raises(DataError, match=r"instances_a\.json, .*instances_b\.json") as caught:
            self.found(coco, cache, "instances_a.json", "../annotations/instances_b.json")
        assert "dataset.annotations=FILE" in caught.value.hint

    def test_none_is_said_with_what_is_there(self, coco: Coco, cache: Cache) -> None:
        with pytest.raises(DataError, match=r"instances\*\.json is not found .*found: .*captions\.json") as caught:
            self.found(coco, cache, "../annotations/captions.json")
        assert "dataset.annotations=FILE" in caught.value.hint

    def test_without_a_folder_the_data_set_is_not_there(self, coco: Coco, cache: Cache) -> None:
        with pytest.raises(DataUnavailableError, match="folder is missing"):
            coco.prepare(cache, path=None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"images": [', r"is not valid JSON: .*line 1 column 13"),
        ("", "is not valid JSON: .*line 1 column 1"),
        (b"\xff\xfe\x00", "is not valid JSON"),
        ("[" * 100_000, "is not valid JSON"),
        ("1" * 5000, "is not valid JSON"),
        ("[]", "contains no object with images"),
        ("3", "contains no object with images"),
        ('[{"image_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}]', "contains a list of detection results"),
        ("{}", "has no list 'images'; it has: nothing"),
        ('{"info": {}, "images": [{}]}', "has no list 'annotations'; it has: info, images"),
        ('{"images": [{}], "annotations": [{"bbox": []}]}', "has no list 'categories'"),
        ('{"images": {}, "annotations": [], "categories": []}', "has no list 'images'"),
        ('{"images": [], "annotations": [{"bbox": []}], "categories": [{}]}', "has no images: there is nothing"),
        ('{"images": [{}], "annotations": [], "categories": [{}]}', "has no annotations: there is nothing"),
        ('{"images": [{}], "annotations": [{"caption": "A cat."}]}', "contains captions, not instances"),
        ('{"images": [{}], "annotations": [{"segments_info": []}], "categories": [{}]}', "contains panoptic segments"),
    ],
)
def test_a_file_that_is_not_instances_is_refused(coco: Coco, cache: Cache, text: str | bytes, message: str) -> None:
    coco.write(text)
    with pytest.raises(DataError, match=message) as caught:
        coco.prepare(cache)
    assert "ground_truth.json" in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("key", "position", "changes", "message"),
    [
        ("images", 1, {"id": 100}, r"images\[1\] has the id 100, which is already used"),
        ("images", 1, {"id": None}, r"images\[1\] has no id"),
        ("images", 1, {"file_name": "c.png"}, r"images\[1\] 'c.png' is listed twice, with the ids 100 and 101"),
        ("images", 1, {"file_name": 5}, r"images\[1\] has no file_name"),
        ("images", 1, {"width": 0}, r"images\[1\] 'a.png' has no height and width"),
        ("images", 1, {"height": None}, "has no height and width"),
        ("categories", 0, {"id": 3}, r"categories\[1\] has the id 3, which is already used"),
        ("categories", 0, {"id": -1}, r"categories\[0\] has no whole number as id"),
        ("categories", 0, {"name": None}, r"categories\[0\] has no name"),
        ("annotations", 2, {"image_id": 999}, r"annotations\[2\] has the image_id 999, which no image has"),
        ("annotations", 2, {"image_id": [1]}, r"annotations\[2\] has the image_id \[1\], which no image has"),
        ("annotations", 2, {"category_id": 1}, r"annotations\[2\] has the category_id 1, which no category has"),
        ("annotations", 2, {"category_id": "3"}, 'has the category_id "3", which no category has'),
        ("annotations", 2, {"bbox": [1, 2, 3]}, r"annotations\[2\] has the bbox \[1, 2, 3\], which is not x, y"),
        ("annotations", 2, {"bbox": [1, 2, 3, "4"]}, "which is not x, y, width, height"),
        ("annotations", 2, {"bbox": [1, 2, float("nan"), 4]}, "which is not x, y, width, height"),
        ("annotations", 2, {"bbox": [float("inf"), 2, 3, 4]}, "which is not x, y, width, height"),
        ("annotations", 2, {"bbox": [1, 2, 3, 10**400]}, "which is not x, y, width, height"),
        ("annotations", 2, {"bbox": None}, "which is not x, y, width, height"),
        ("annotations", 2, {"bbox": [10, 10, -3, 4]}, "with a negative width or height"),
        ("annotations", 2, {"iscrowd": 2}, "has iscrowd 2, which is neither 0 nor 1"),
        ("annotations", 2, {"area": float("nan")}, "has the area NaN"),
        ("annotations", 2, {"area": -1}, "has the area -1"),
    ],
)
def test_a_wrong_entry_is_named(
    coco: Coco, cache: Cache, key: str, position: int, changes: dict[str, Any], message: str
) -> None:
    coco.data[key][position] |= changes
    coco.write()
    with pytest.raises(DataError, match=message) as caught:
        coco.prepare(cache)
    assert caught.value.hint


def test_a_missing_file_is_named(coco: Coco, cache: Cache) -> None:
    for name, message in (("nowhere.json", "No such file"), (".", "a folder, not a file")):
        with pytest.raises(DataError, match=f"cannot read the annotations .*{message}"):
            coco.prepare(cache, annotations=str(coco.root / name))


def test_each_kind_has_its_task() -> None:
    from edlab.data import task_of

    tasks = {kind: task_of(kind) for kind in ("digits", "image_folder", "imagenet", "imagenette", "coco", "yolo")}
    assert [kind for kind, task in tasks.items() if task == "detection"] == ["coco", "yolo"]
    assert set(tasks.values()) == {"classification", "detection"}
    assert task_of("synthetic") is None
    with pytest.raises(ConfigError, match="unknown dataset 'voc'") as caught:
        task_of("voc")
    assert "coco" in caught.value.hint
