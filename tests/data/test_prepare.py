"""Data sets: which images, which labels, which pixels; what is missing or damaged is reported, not guessed."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edlab.cache import Cache
from edlab.config import ClassOrder, DatasetConfig, ExifOrientation
from edlab.data import PreparedData, image_files, imagenette, pixels, prepare
from edlab.data.classes import imagenet_wnids
from edlab.data.digit_scenes import list_digit_scenes
from edlab.errors import ConfigError, DataError, DataUnavailableError
from edlab.source import Preprocessing

SMALL = Preprocessing(height=16, width=16, resize=18)


def write_image(path: Path, seed: int = 0, size: tuple[int, int] = (40, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three classes of ten images, named so that their order is not that of creation."""
    root = tmp_path / "images"
    for class_index, name in enumerate(("cat", "ant", "bee")):
        for index in range(10):
            write_image(root / name / f"{index}.png", seed=10 * class_index + index)
    return root


def config(root: Path, **changes: object) -> DatasetConfig:
    return dataclasses.replace(DatasetConfig(name="own", kind="image_folder", path=str(root)), **changes)  # type: ignore[arg-type]


def true_class(data: PreparedData, row: int) -> str:
    return data.files[row].split("/")[0]


def test_folders_are_classes_in_sorted_order(folder: Path, cache: Cache) -> None:
    data = prepare(config(folder), SMALL, cache, num_classes=3)
    assert data.labels is not None
    assert {true_class(data, row): int(data.labels[row]) for row in data.evaluation} == {"ant": 0, "bee": 1, "cat": 2}


def test_a_labels_file_gives_the_order_of_the_classes(folder: Path, tmp_path: Path, cache: Cache) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("bee\ncat\nowl\nant\n")
    data = prepare(config(folder, labels=str(labels)), SMALL, cache, num_classes=4)
    assert data.labels is not None
    assert {true_class(data, row): int(data.labels[row]) for row in data.evaluation} == {"bee": 0, "cat": 1, "ant": 3}


def test_a_subset_of_imagenet_is_scored_by_wordnet_id(tmp_path: Path, cache: Cache) -> None:
    for wnid in ("n02123045", "n01440764"):  # tabby cat is class 281, tench class 0
        write_image(tmp_path / "val" / wnid / "0.JPEG")
    wanted = config(tmp_path / "val", calibration_fraction=0.0)
    data = prepare(wanted, SMALL, cache, num_classes=1000)
    assert data.labels is not None
    assert dict(zip(data.files, data.labels.tolist(), strict=True)) == {"n01440764/0.JPEG": 0, "n02123045/0.JPEG": 281}
    flat = prepare(dataclasses.replace(wanted, kind="imagenet", path=str(tmp_path)), SMALL, cache, num_classes=1000)
    assert flat.labels is not None
    assert flat.labels.tolist() == [0, 281]


def test_imagenet_in_one_folder_takes_a_file_of_labels(
    tmp_path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(3):
        write_image(tmp_path / "val" / f"ILSVRC2012_val_{index}.JPEG", seed=index)
    labels = tmp_path / "val.txt"
    labels.write_text("ILSVRC2012_val_0.JPEG 65\nILSVRC2012_val_1.JPEG n02123045\nILSVRC2012_val_2.JPEG 999\n")
    monkeypatch.setenv("EDLAB_IMAGENET", str(tmp_path / "val"))
    wanted = DatasetConfig(name="imagenet", kind="imagenet", labels=str(labels), calibration_fraction=0.0)
    data = prepare(wanted, SMALL, cache, num_classes=1000)
    assert data.labels is not None
    assert data.labels.tolist() == [65, 281, 999]
    labels.write_text("ILSVRC2012_val_0.JPEG tabby\n")
    with pytest.raises(DataError, match="line 1"):
        prepare(wanted, SMALL, cache, num_classes=1000)


def test_the_wordnet_ids_are_the_thousand_classes_in_order() -> None:
    wnids = imagenet_wnids()
    assert len(set(wnids)) == 1000
    assert list(wnids) == sorted(wnids)


def test_calibration_and_evaluation_share_no_image_and_do_not_change(folder: Path, cache: Cache) -> None:
    data = prepare(config(folder, calibration_fraction=0.2), SMALL, cache, num_classes=3)
    again = prepare(config(folder, calibration_fraction=0.2), SMALL, cache, num_classes=3)
    other = prepare(config(folder, calibration_fraction=0.2, seed=1), SMALL, cache, num_classes=3)
    assert len(data.calibration_pool) == 6
    assert len(data.evaluation) == 24
    assert not set(data.calibration_pool) & set(data.evaluation)
    assert data.evaluation.tolist() == again.evaluation.tolist()
    assert data.evaluation.tolist() != other.evaluation.tolist()


def test_no_calibration_fraction_scores_everything(folder: Path, cache: Cache) -> None:
    data = prepare(config(folder, calibration_fraction=0.0), SMALL, cache, num_classes=3)
    assert sorted(data.evaluation) == list(range(30))


def test_a_limit_of_images_scores_a_part_and_keeps_the_pool(folder: Path, cache: Cache) -> None:
    all_of_them = prepare(config(folder), SMALL, cache, num_classes=3)
    some = prepare(config(folder, images=5), SMALL, cache, num_classes=3)
    names = [some.files[row] for row in some.evaluation]
    assert names == [all_of_them.files[row] for row in all_of_them.evaluation[:5]]
    assert [some.files[row] for row in some.calibration_pool] == [
        all_of_them.files[row] for row in all_of_them.calibration_pool
    ]


def test_calibration_images_are_drawn_with_a_seed_and_fewer_are_among_more(folder: Path, cache: Cache) -> None:
    data = prepare(config(folder, calibration_fraction=0.5), SMALL, cache, num_classes=3)
    eight = data.calibration_indices(8, seed=0)
    assert len(set(eight)) == 8
    assert set(eight) <= set(data.calibration_pool.tolist())
    assert data.calibration_indices(4, seed=0) == eight[:4]
    assert data.calibration_indices(8, seed=1) != eight


def test_more_calibration_images_than_are_set_aside_are_refused(folder: Path, cache: Cache) -> None:
    data = prepare(config(folder), SMALL, cache, num_classes=3)
    with pytest.raises(DataError, match="64 calibration images are required, and own provides 3") as caught:
        data.calibration_indices(64, seed=0)
    assert "quantization.calibration.images" in caught.value.hint
    assert "dataset.calibration_fraction" in caught.value.hint


def test_calibration_on_another_folder_scores_all_of_the_first(folder: Path, tmp_path: Path, cache: Cache) -> None:
    for index in range(4):
        write_image(tmp_path / "other" / f"{index}.png", seed=100 + index)
    data = prepare(config(folder, calibration_path=str(tmp_path / "other")), SMALL, cache, num_classes=3)
    plain = prepare(config(folder), SMALL, cache, num_classes=3)
    assert len(data.evaluation) == 30
    assert data.calibration_images != data.images
    assert len(np.load(data.calibration_images)) == 4
    assert sorted(data.calibration_indices(4, seed=0)) == [0, 1, 2, 3]
    assert data.digest != plain.digest


def test_a_corrupt_image_is_skipped_and_named(folder: Path, cache: Cache) -> None:
    whole = (folder / "ant" / "3.png").read_bytes()
    (folder / "ant" / "3.png").write_bytes(whole[: len(whole) // 2])
    (folder / "bee" / "0.png").write_text("no image")
    data = prepare(config(folder, calibration_fraction=0.0), SMALL, cache, num_classes=3)
    assert sorted(name for name, _ in data.skipped) == ["ant/3.png", "bee/0.png"]
    assert all(reason for _, reason in data.skipped)
    stored = np.load(data.images)
    assert stored.shape == (28, 16, 16, 3)
    assert len(data.files) == len(data.evaluation) == 28
    assert data.labels is not None
    for row in data.evaluation:
        expected = pixels.resize_and_crop(pixels.read_image(folder / data.files[row]), SMALL)
        np.testing.assert_array_equal(stored[row], expected)
        assert ["ant", "bee", "cat"][data.labels[row]] == true_class(data, row)


def test_only_corrupt_images_are_an_error_and_leave_nothing(folder: Path, cache: Cache) -> None:
    for path in folder.rglob("*.png"):
        path.write_text("no image")
    with pytest.raises(DataError, match="none of the 30 images can be read"):
        prepare(config(folder), SMALL, cache, num_classes=3)
    assert not list((cache.root / "prepared").glob("*/images.npy"))


def test_images_are_decoded_once(folder: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    fractions: list[float] = []
    first = prepare(config(folder), SMALL, cache, num_classes=3, on_progress=fractions.append)
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    monkeypatch.setattr(image_files, "decode", lambda path, **_: pytest.fail(f"{path} is decoded again"))
    second = prepare(config(folder), normalised_otherwise(SMALL), cache, num_classes=3)
    assert second.images == first.images


def normalised_otherwise(preprocessing: Preprocessing) -> Preprocessing:
    """Other normalisation, the same pixels."""
    return preprocessing.model_copy(update={"mean": (0.5, 0.5, 0.5)})


def test_a_changed_image_is_prepared_anew(folder: Path, cache: Cache) -> None:
    first = prepare(config(folder), SMALL, cache, num_classes=3)
    write_image(folder / "ant" / "0.png", seed=77, size=(50, 50))
    assert prepare(config(folder), SMALL, cache, num_classes=3).digest != first.digest
    assert prepare(config(folder), Preprocessing(height=8, width=8), cache, num_classes=3).digest != first.digest


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"path": "nowhere"}, "the data set nowhere is not found"),
        ({"path": None}, "folder is missing"),
        ({"labels": "nowhere.txt"}, "cannot read the labels file"),
    ],
)
def test_a_missing_data_set_is_named(folder: Path, cache: Cache, changes: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        prepare(config(folder, **changes), SMALL, cache, num_classes=3)
    assert caught.value.hint


def test_a_folder_without_images_is_an_error(tmp_path: Path, cache: Cache) -> None:
    with pytest.raises(DataError, match="has no class folders"):
        prepare(config(tmp_path), SMALL, cache, num_classes=3)
    (tmp_path / "ant").mkdir()
    with pytest.raises(DataError, match="has no images"):
        prepare(config(tmp_path), SMALL, cache, num_classes=1)


def test_another_number_of_classes_is_an_error_naming_both(folder: Path, cache: Cache) -> None:
    with pytest.raises(DataError, match="own has 3 classes and the model has 10"):
        prepare(config(folder), SMALL, cache, num_classes=10)
    with pytest.raises(DataError) as caught:
        prepare(config(folder), SMALL, cache, num_classes=4)
    assert "model.label_offset=1" in caught.value.hint


@pytest.mark.parametrize("changes", [{"calibration_fraction": 1.0}, {"images": 0}, {"kind": "folder"}])
def test_a_wrong_setting_is_an_error(folder: Path, cache: Cache, changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        prepare(config(folder, **changes), SMALL, cache, num_classes=3)


def test_digit_scenes_are_the_same_each_time_and_score_unseen_digits(cache: Cache) -> None:
    wanted = DatasetConfig(name="digit_scenes", kind="digit_scenes")
    scenes = list_digit_scenes()
    again = list_digit_scenes()
    assert scenes.labels.tolist() == again.labels.tolist()
    assert np.array_equal(scenes.open_image(7).image, again.open_image(7).image)
    data = prepare(wanted, Preprocessing(height=128, width=128), cache, num_classes=10)
    assert (len(data.evaluation), len(data.calibration_pool)) == (260, 100)
    assert not set(data.evaluation) & set(data.calibration_pool)
    pixels = np.load(data.images)
    for boxes, image in zip(data.labels.images[:20], pixels[:20], strict=True):
        for x1, y1, x2, y2 in boxes.corners.astype(int):
            digit = image[y1:y2, x1:x2, 0].astype(float)
            assert digit.min() < 130 < np.percentile(image[..., 0], 60)  # dark ink in it
            for edge in (digit[0], digit[-1], digit[:, 0], digit[:, -1]):
                assert edge.min() < image[..., 0].mean()  # that reaches each side


def test_the_embedded_digits_are_those_of_scikit_learn() -> None:
    from sklearn.datasets import load_digits as original

    from edlab.data.digits import load_digits

    digits, theirs = load_digits(), original()
    assert (digits.labels == theirs.target).all()
    assert (np.rint(digits.pixels * (16 / 255)) == theirs.images).all()


def test_digits_score_what_the_embedded_model_was_not_trained_on(cache: Cache) -> None:
    wanted = DatasetConfig(name="digits", kind="digits", seed=5)
    data = prepare(wanted, Preprocessing(height=32, width=32), cache, num_classes=10)
    default = prepare(dataclasses.replace(wanted, seed=0), Preprocessing(height=32, width=32), cache, num_classes=10)
    assert (len(data.evaluation), len(data.calibration_pool)) == (360, 1437)
    assert set(data.evaluation) == set(default.evaluation)
    assert not set(data.evaluation) & set(data.calibration_pool)


def test_synthetic_images_have_no_labels_and_are_seeded(cache: Cache) -> None:
    wanted = DatasetConfig(name="synthetic", kind="synthetic", images=8)
    data = prepare(wanted, SMALL, cache, num_classes=7)
    images = np.load(data.images)
    assert data.labels is None
    assert len(data.evaluation) == 8
    assert len(data.calibration_indices(64, seed=0)) == 64
    assert len(np.unique(images.reshape(len(images), -1), axis=0)) == len(images)
    other = prepare(dataclasses.replace(wanted, seed=1), SMALL, cache, num_classes=7)
    assert (np.load(other.images) != images).any()


def test_synthetic_images_are_smooth_like_photographs(cache: Cache) -> None:
    data = prepare(
        DatasetConfig(name="synthetic", kind="synthetic", images=8), Preprocessing(height=160, width=160), cache,
        num_classes=7,
    )  # fmt: skip
    image = np.load(data.images)[0].astype(float)
    neighbours = np.corrcoef(image[:, 1:].ravel(), image[:, :-1].ravel())[0, 1]
    assert neighbours > 0.5  # of white noise it is 0


class TestImagenette:
    """Against an archive of the same layout at another address."""

    @pytest.fixture
    def archive(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        write_image(tmp_path / "imagenette2-320" / "val" / "n01440764" / "0.JPEG")
        path = tmp_path / "served.tgz"
        with tarfile.open(path, "w:gz") as tar:
            tar.add(tmp_path / "imagenette2-320", "imagenette2-320")
        monkeypatch.setattr(imagenette, "URL", path.as_uri())
        monkeypatch.setattr(imagenette, "MD5", hashlib.md5(path.read_bytes()).hexdigest())
        return path

    def test_it_is_downloaded_once(self, archive: Path, cache: Cache) -> None:
        wanted = DatasetConfig(name="imagenette", kind="imagenette", calibration_fraction=0.0)
        assert prepare(wanted, SMALL, cache, num_classes=1000).files == ["n01440764/0.JPEG"]
        archive.unlink()
        assert prepare(wanted, SMALL, cache, num_classes=1000).files == ["n01440764/0.JPEG"]

    def test_without_a_network_it_is_unavailable(self, archive: Path, cache: Cache) -> None:
        archive.unlink()
        with pytest.raises(DataUnavailableError, match="cannot download Imagenette") as caught:
            prepare(DatasetConfig(name="imagenette", kind="imagenette"), SMALL, cache, num_classes=1000)
        assert "image_folder" in caught.value.hint

    def test_a_damaged_archive_is_refused(self, archive: Path, cache: Cache) -> None:
        archive.write_bytes(archive.read_bytes()[:-20])
        with pytest.raises(DataError, match="wrong MD5"):
            prepare(DatasetConfig(name="imagenette", kind="imagenette"), SMALL, cache, num_classes=1000)
        assert not list((cache.root / "downloads").glob("*/"))


@pytest.mark.parametrize("size", [(341, 500), (500, 341), (256, 256), (97, 301), (1000, 30)])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_pixels_are_those_of_torchvision(size: tuple[int, int], interpolation: str) -> None:
    from edlab.torchvision_import import import_torchvision

    transforms = import_torchvision().transforms
    mode = transforms.InterpolationMode(interpolation)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8))
    reference = transforms.Compose([transforms.Resize(57, mode), transforms.CenterCrop((48, 55))])
    preprocessing = Preprocessing.model_validate(
        {"height": 48, "width": 55, "resize": 57, "interpolation": interpolation}
    )
    np.testing.assert_array_equal(pixels.resize_and_crop(image, preprocessing), np.asarray(reference(image)))


@pytest.mark.parametrize("size", [(341, 500), (500, 341), (97, 301)])
def test_without_antialiasing_pixels_lie_between_their_nearest_neighbours(size: tuple[int, int]) -> None:
    import torch

    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    preprocessing = Preprocessing(height=48, width=55, antialias=False)
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    reference = torch.nn.functional.interpolate(tensor, (48, 55), mode="bilinear", align_corners=False)[0]
    given = pixels.resize_and_crop(Image.fromarray(image), preprocessing)
    np.testing.assert_allclose(given, reference.permute(1, 2, 0), atol=1.01)
    assert not np.allclose(
        given, pixels.resize_and_crop(Image.fromarray(image), Preprocessing(height=48, width=55)), atol=9
    )


@pytest.mark.samples
def test_sample_images_are_prepared_as_torchvision_does(test_data: Path, cache: Cache) -> None:
    from edlab.torchvision_import import import_torchvision

    transforms = import_torchvision().transforms
    reference = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])
    wanted = config(test_data / "imagenet_samples", images=12, calibration_fraction=0.0)
    data = prepare(wanted, Preprocessing(height=224, width=224, resize=256), cache, num_classes=1000)
    stored = np.load(data.images, mmap_mode="r")
    for row, name in enumerate(data.files):
        with Image.open(test_data / "imagenet_samples" / name) as image:
            np.testing.assert_array_equal(stored[row], np.asarray(reference(image.convert("RGB"))))


SET = {
    "path": "/data",
    "annotations": "instances.json",
    "labels": "labels.txt",
    "class_order": ClassOrder.text,
    "exif_orientation": ExifOrientation.apply,
    "calibration_fraction": 0.5,
    "calibration_path": "/data/calibration",
}
READ = {
    "arrays": {"path", "calibration_fraction"},
    "coco": {*SET} - {"labels", "class_order"},
    "digits": {"exif_orientation", "calibration_path"},
    "digit_scenes": {"exif_orientation", "calibration_path"},
    "image_folder": {*SET} - {"annotations"},
    "imagenet": {*SET} - {"annotations", "class_order"},
    "imagenette": {"exif_orientation", "calibration_fraction", "calibration_path"},
    "synthetic": {"exif_orientation", "calibration_path"},
    "yolo": {*SET} - {"annotations", "class_order"},
}


def test_every_option_that_only_some_kinds_read_is_tried() -> None:
    everywhere = {"name", "kind", "images", "seed"}
    assert {option.name for option in dataclasses.fields(DatasetConfig)} - everywhere == {*SET}


@pytest.mark.parametrize(
    ("kind", "option"), [(kind, option) for kind in READ for option in sorted({*SET} - READ[kind])]
)
def test_an_option_that_the_kind_does_not_read_is_refused(kind: str, option: str, cache: Cache) -> None:
    wanted = dataclasses.replace(DatasetConfig(name="own", kind=kind), **{option: SET[option]})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=f"dataset.{option} is unsupported for dataset.kind={kind}") as caught:
        prepare(wanted, SMALL, cache, num_classes=10)
    readers = caught.value.hint.removeprefix("remove it; it is for ").split(", ")
    assert readers == [kind for kind in READ if option in READ[kind]]


@pytest.mark.parametrize(("kind", "option"), [(kind, option) for kind in READ for option in sorted(READ[kind])])
def test_an_option_that_the_kind_reads_is_not_refused(
    kind: str, option: str, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imagenette, "URL", "file:///missing")
    wanted = dataclasses.replace(DatasetConfig(name="own", kind=kind), **{option: SET[option]})  # type: ignore[arg-type]
    with contextlib.suppress(DataError):  # nothing is there to be read
        prepare(wanted, SMALL, cache, num_classes=10)
