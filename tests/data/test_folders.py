"""Folders as data sets: which level, which classes, and what is ignored: reported, never guessed."""

from __future__ import annotations

import dataclasses
import os
import socket
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edlab.cache import Cache
from edlab.config import ClassOrder, DatasetConfig, ExifOrientation
from edlab.data import PreparedData, listing, prepare
from edlab.errors import ConfigError, DataError
from edlab.source import Preprocessing

TINY = Preprocessing(height=8, width=8)


@pytest.fixture
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """Outside tmp_path, which is the data set here."""
    return Cache(tmp_path_factory.mktemp("cache"))


def fill(folder: Path, count: int = 2, suffix: str = ".png") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        pixels = np.random.default_rng([index, *os.fsencode(folder)]).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}{suffix}")
    return folder


def data_set(root: Path, *folders: str, count: int = 2) -> Path:
    for folder in folders:
        fill(root / folder, count)
    return root


def prepared(root: Path, cache: Cache, num_classes: int, **changes: object) -> PreparedData:
    config = DatasetConfig(name="own", kind="image_folder", path=str(root), calibration_fraction=0.0)
    changed = {key: value for key, value in changes.items() if key != "class_names"}
    names = changes.get("class_names", ())
    return prepare(dataclasses.replace(config, **changed), TINY, cache, num_classes=num_classes, class_names=names)  # type: ignore[arg-type]


def codes(data: PreparedData) -> list[str]:
    return [reason.code for reason in data.reasons]


class TestNumberedFolders:
    @pytest.mark.parametrize("prefix", ["", "class_"])
    def test_two_readings_are_asked_for(self, tmp_path: Path, cache: Cache, prefix: str) -> None:
        root = data_set(tmp_path, *(f"{prefix}{index}" for index in range(12)))
        with pytest.raises(DataError, match=f"'{prefix}2' is class 2 as a number and class 4 as text") as caught:
            prepared(root, cache, 12)
        for key in ("dataset.class_order=numeric", "dataset.class_order=text", "dataset.labels=FILE"):
            assert key in caught.value.hint
        numeric = prepared(root, cache, 12, class_order=ClassOrder.numeric)
        assert numeric.classes == {f"{prefix}{index}": index for index in range(12)}
        assert numeric.labels is not None
        for file, label in zip(numeric.files, numeric.labels, strict=True):
            assert file.startswith(f"{prefix}{label}/")
        text = prepared(root, cache, 12, class_order=ClassOrder.text)
        assert text.classes[f"{prefix}2"] == 4

    @pytest.mark.parametrize("names", [range(3), (f"{index:02d}" for index in range(12)), range(1, 4)])
    def test_one_reading_is_taken(self, tmp_path: Path, cache: Cache, names: object) -> None:
        folders = [str(name) for name in names]  # type: ignore[attr-defined]
        root = data_set(tmp_path, *folders)
        assert prepared(root, cache, len(folders)).classes == {name: index for index, name in enumerate(folders)}

    def test_numbers_from_1_are_classes_from_0(self, tmp_path: Path, cache: Cache) -> None:
        root = data_set(tmp_path, *(str(index) for index in range(1, 13)))
        with pytest.raises(DataError, match="'2' is class 1 as a number and class 4 as text"):
            prepared(root, cache, 12)
        numeric = prepared(root, cache, 12, class_order=ClassOrder.numeric)
        assert numeric.classes == {str(index): index - 1 for index in range(1, 13)}

    def test_a_part_of_the_classes_is_taken_by_number_where_it_is_asked_for(self, tmp_path: Path, cache: Cache) -> None:
        root = data_set(tmp_path, "3", "11")
        with pytest.raises(DataError, match=r"2 class folders named by integers .* the model has 12 classes") as caught:
            prepared(root, cache, 12)
        assert "dataset.class_order=numeric" in caught.value.hint
        assert prepared(root, cache, 12, class_order=ClassOrder.numeric).classes == {"3": 3, "11": 11}
        with pytest.raises(DataError, match=r"'11' in .* is not a class: the model has classes 0 to 10"):
            prepared(root, cache, 11, class_order=ClassOrder.numeric)

    def test_a_part_that_may_count_from_1_is_refused(self, tmp_path: Path, cache: Cache) -> None:
        root = data_set(tmp_path, *map(str, range(1, 12)))
        with pytest.raises(DataError, match="are numbered from 1, or from 0") as caught:
            prepared(root, cache, 12, class_order=ClassOrder.numeric)
        assert "dataset.labels=FILE" in caught.value.hint

    def test_names_are_no_numbers(self, tmp_path: Path, cache: Cache) -> None:
        root = data_set(tmp_path / "a", "cat", "dog")
        with pytest.raises(DataError, match="do not have unique integer names"):
            prepared(root, cache, 2, class_order=ClassOrder.numeric)
        with pytest.raises(DataError, match="do not have unique integer names"):
            prepared(data_set(tmp_path / "b", "1", "01"), cache, 2, class_order=ClassOrder.numeric)

    def test_a_labels_file_decides(self, tmp_path: Path, cache: Cache) -> None:
        root = data_set(tmp_path / "set", *(str(index) for index in range(12)))
        labels = tmp_path / "labels.txt"
        labels.write_text("\ufeff" + "\n".join(str(index) for index in reversed(range(12))), encoding="utf-8")
        assert prepared(root, cache, 12, labels=str(labels)).classes["11"] == 0
        with pytest.raises(ConfigError, match=r"dataset.labels and dataset.class_order"):
            prepared(root, cache, 12, labels=str(labels), class_order=ClassOrder.text)
        labels.write_text("\n".join(["1"] * 2 + [str(index) for index in range(12)]))
        with pytest.raises(DataError, match=r"'1' is in .* more than once"):
            prepared(root, cache, 14, labels=str(labels))

    def test_the_models_own_class_names_decide(self, tmp_path: Path, cache: Cache) -> None:
        root = data_set(tmp_path, "cat", "dog")
        data = prepared(root, cache, 3, class_names=("dog", "owl", "cat"))
        assert data.classes == {"cat": 2, "dog": 0}
        assert prepared(root, cache, 2, class_names=("Dog", "owl")).classes == {"cat": 0, "dog": 1}


class TestLevel:
    @pytest.mark.parametrize(
        ("folders", "right"),
        [
            (("train/dark", "train/light", "val/dark", "val/light"), "val"),
            (("Training/dark", "Training/light", "Test/dark", "Test/light"), "Test"),
            (("train2017/a", "train2017/b", "val2017/a", "val2017/b", "extra"), "val2017"),
            (("images/val/a", "images/val/b", "images/train/a", "images/train/b", "labels/val"), "images/val"),
            (("validation/n01440764", "validation/n02123045"), "validation"),
            (("pets/cat", "pets/dog"), "pets"),
            (("a/pets/train/cat", "a/pets/train/dog", "a/pets/test/cat", "a/pets/test/dog"), "a/pets/test"),
        ],
    )
    def test_too_high_names_the_right_path(
        self, tmp_path: Path, cache: Cache, folders: tuple[str, ...], right: str
    ) -> None:
        root = data_set(tmp_path / "data", *folders)
        with pytest.raises(DataError) as caught:
            prepared(root, cache, 2)
        assert f"dataset.path={root / right}" in caught.value.hint.split(";")[0].split()
        assert len(prepared(root / right, cache, 1000 if "n01440764" in folders[0] else 2).files) == 4

    def test_splits_without_class_folders_are_no_classes(self, tmp_path: Path, cache: Cache) -> None:
        root = data_set(tmp_path, "train", "test")
        with pytest.raises(DataError, match=r"test, train in .* are parts of a data set, not classes"):
            prepared(root, cache, 2)
        (tmp_path / "labels.txt").write_text("train\ntest\n")  # they are, says the user
        assert prepared(root, cache, 2, labels=str(tmp_path / "labels.txt")).classes == {"train": 0, "test": 1}

    def test_a_class_may_be_called_train(self, tmp_path: Path, cache: Cache) -> None:
        assert prepared(data_set(tmp_path, "bus", "car", "train"), cache, 3).classes["train"] == 2

    def test_the_same_folders_in_each_are_refused_where_they_may_be_the_classes(
        self, tmp_path: Path, cache: Cache
    ) -> None:
        root = data_set(tmp_path, "site1/cat", "site1/dog", "site2/cat", "site2/dog")
        with pytest.raises(DataError, match=r"site1, site2 in .* the same folders, cat, dog") as caught:
            prepared(root, cache, 2)
        assert f"dataset.path={root / 'site1'}" in caught.value.hint

    def test_images_deeper_in_a_class_folder_belong_to_it(self, tmp_path: Path, cache: Cache) -> None:
        root = data_set(tmp_path, "n01440764/images", "n02123045/images", "n02123045/images/more")
        data = prepared(root, cache, 1000)
        assert len(data.files) == 6
        assert data.classes == {"n01440764": 0, "n02123045": 281}
        root = data_set(
            tmp_path / "b", *(f"{name}/{part}" for name in ("ant", "bee", "cat") for part in ("day", "dusk"))
        )
        assert len(prepared(root, cache, 3).files) == 12

    def test_too_low_names_the_folder_above(self, tmp_path: Path, cache: Cache) -> None:
        root = data_set(tmp_path / "val", "cat", "dog")
        with pytest.raises(DataError, match="has 2 images directly in it, not in class folders") as caught:
            prepared(root / "cat", cache, 2)
        assert f"dataset.path={root}" in caught.value.hint
        fill(root / "cat" / "more", 1)
        with pytest.raises(DataError, match="not in class folders"):
            prepared(root / "cat", cache, 2)
        flat = fill(tmp_path / "test")
        with pytest.raises(DataError, match="not in class folders") as caught:
            prepared(flat, cache, 2)
        assert "one folder for each class" in caught.value.hint


class TestWhatIsLeftOut:
    @pytest.mark.parametrize("kind", ["image_folder", "imagenet"])
    def test_leftovers_are_no_images_and_no_reason(self, tmp_path: Path, cache: Cache, kind: str) -> None:
        root = data_set(tmp_path, "n01440764", "n02123045")
        for folder in (root, root / "n01440764", root / "n02123045"):
            for leftover in (".ipynb_checkpoints", "__MACOSX", "@eaDir", ".thumbnails", "lost+found"):
                fill(folder / leftover)
            (folder / "._0.png").write_bytes(b"\0\5\x16\7" + bytes(60))
            for name in (".DS_Store", "Thumbs.db", "desktop.ini", "notes.txt"):
                (folder / name).write_bytes(b"x")
        data = prepared(root, cache, 1000, kind=kind)
        assert data.files == ["n01440764/0.png", "n01440764/1.png", "n02123045/0.png", "n02123045/1.png"]
        assert data.skipped == []
        assert data.reasons == ()
        assert data.left_out == {"hidden files and folders": 27, ".txt": 3}
        other = data_set(tmp_path.with_name(f"{tmp_path.name}-other"), "cat", "dog")
        calibrated = prepared(other, cache, 2, calibration_path=str(root))
        assert len(calibrated.calibration_files) == 4
        assert calibrated.reasons == ()
        calibrated = prepared(root, cache, 1000, calibration_path=str(root / "n01440764"))
        assert codes(calibrated) == ["calibration_images_scored"]

    @pytest.mark.parametrize("where", ["scored", "calibration"])
    def test_what_is_no_file_costs_no_time_and_is_named(
        self, tmp_path: Path, cache: Cache, where: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        root = data_set(tmp_path / "data", "cat", "dog")
        bad = root / "cat" if where == "scored" else fill(tmp_path / "other")
        os.mkfifo(bad / "fifo.png")
        (bad / "zero.png").symlink_to("/dev/zero")
        (bad / "broken.png").symlink_to(bad / "nothing")
        (bad / "loop.png").symlink_to(bad / "loop.png")
        (bad / "above").symlink_to(bad.parent)
        (bad / "folder.png").mkdir()
        (bad / "text.png").write_text("no image")
        (bad / "empty.png").touch()
        (bad / "nobody.jpg").write_bytes((bad / "0.png").read_bytes()[:60])
        with socket.socket(socket.AF_UNIX) as unix:
            monkeypatch.chdir(bad)  # the name of a socket is short
            unix.bind("socket.png")
        changes = {} if where == "scored" else {"calibration_path": str(bad)}
        data = prepared(root, cache, 2, **changes)
        assert len(data.files) == 4
        skipped = {name.removeprefix("cat/"): reason for name, reason in data.skipped}
        assert skipped["fifo.png"] == "a FIFO, not a file"
        assert skipped["zero.png"] == "a device, not a file"
        assert skipped["socket.png"] == "a socket, not a file"
        assert skipped["folder.png"] == "a folder, not a file"
        assert skipped["broken.png"] == "a broken link"
        assert "symbolic links" in skipped["loop.png"]
        assert skipped["above"] == "a link to a folder that is already read"
        assert skipped["text.png"] == skipped["empty.png"] == "not an image, or of a type that Pillow does not support"
        assert len(skipped) == 10

    def test_links_that_are_no_class_folders_are_named(self, tmp_path: Path, cache: Cache) -> None:
        root = data_set(tmp_path, "cat", "dog")
        for name, target in (("self", root), ("top", Path("/")), ("gone", root / "nothing"), ("loop", root / "loop")):
            (root / name).symlink_to(target)
        data = prepared(root, cache, 2)
        assert data.classes == {"cat": 0, "dog": 1}
        assert sorted(name for name, _ in data.skipped) == ["gone", "loop", "self", "top"]

    def test_files_of_other_kinds_and_empty_class_folders_are_a_reason(self, tmp_path: Path, cache: Cache) -> None:
        root = data_set(tmp_path, "cat", "dog")
        fill(root / "cat", 2, ".gif")
        (root / "dog" / "0.HEIC").write_bytes(b"x")
        (root / "owl").mkdir()
        (root / "overview.png").write_bytes((root / "cat" / "0.png").read_bytes())
        data = prepared(root, cache, 3)
        assert codes(data) == ["files_left_out", "empty_class_folders", "images_without_class"]
        assert "2 .gif, 1 .heic" in data.reasons[0].message
        assert "owl" in data.reasons[1].message
        assert "overview.png" in data.reasons[2].message
        with pytest.raises(DataError, match=r"3 classes and the model has 2 .*have no images: owl"):
            prepared(root, cache, 2)

    def test_a_folder_that_cannot_be_read_loses_no_class_in_silence(
        self, tmp_path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        root = data_set(tmp_path, "cat", "dog/deeper")
        real = os.scandir

        def refuse(path: str | Path) -> object:
            if str(path).endswith("deeper"):  # as root, no mode would
                raise PermissionError(13, "Permission denied", str(path))
            return real(path)

        monkeypatch.setattr(listing.os, "scandir", refuse)
        with pytest.raises(DataError, match=r"cannot read the folder .*dog/deeper: Permission denied") as caught:
            prepared(root, cache, 2)
        assert "permissions" in caught.value.hint

    def test_a_file_that_may_not_be_read_is_listed_and_not_remembered(
        self, tmp_path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        root = data_set(tmp_path, "cat", "dog")
        with monkeypatch.context() as patch:
            patch.setattr(listing.os, "access", lambda path, mode: not str(path).endswith("dog/0.png"))
            assert prepared(root, cache, 2).skipped == [("dog/0.png", "Permission denied")]
        assert prepared(root, cache, 2).skipped == []

    def test_an_imagenet_labels_file_names_what_is_missing(self, tmp_path: Path, cache: Cache) -> None:
        root = fill(tmp_path / "val", 4)
        labels = tmp_path / "val.txt"
        labels.write_text("0.png 0\n1.png 1\n7.png 2\nfifo.png 3\n")
        os.mkfifo(root / "fifo.png")
        data = prepared(tmp_path, cache, 1000, kind="imagenet", labels=str(labels))
        assert data.files == ["0.png", "1.png"]
        assert data.skipped == [("7.png", "No such file or directory"), ("fifo.png", "a FIFO, not a file")]
        assert codes(data) == ["images_without_label"]
        with pytest.raises(DataError, match="a FIFO, not a file"):
            prepared(tmp_path, cache, 1000, kind="imagenet", labels=str(root / "fifo.png"))

    def test_a_name_that_is_not_utf_8_can_be_recorded(self, tmp_path: Path, cache: Cache) -> None:
        root = data_set(tmp_path, "cat", "dog")
        (root / "cat" / "0.png").rename(os.fsdecode(os.fsencode(root / "cat") + b"/\xff.png"))
        data = prepared(root, cache, 2)
        assert len(data.files) == 4
        assert "\n".join(data.files).encode()


def test_orientations_that_are_not_applied_are_a_reason(tmp_path: Path, cache: Cache) -> None:
    root = data_set(tmp_path, "cat", "dog")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 8)).save(root / "cat" / "turned.jpg", exif=exif)
    data = prepared(root, cache, 2)
    again = prepared(root, cache, 2)
    assert data.reasons == again.reasons
    assert codes(data) == ["exif_orientation_ignored"]
    assert data.reasons[0].message == "1 of 5 images have an EXIF orientation that is not applied"
    assert "dataset.exif_orientation=apply" in data.reasons[0].advice
    assert prepared(root, cache, 2, exif_orientation=ExifOrientation.apply).reasons == ()


def test_16_bit_images_of_12_bits_are_a_reason(tmp_path: Path, cache: Cache) -> None:
    root = data_set(tmp_path, "cat", "dog")
    Image.fromarray(np.full((8, 8), 4095, np.uint16)).save(root / "cat" / "12_bits.png")
    data = prepared(root, cache, 2)
    assert codes(data) == ["dark_16_bit_images"]
    assert "4095 of 65535" in data.reasons[0].message


def test_the_hint_of_one_class_more_or_less_names_the_background(tmp_path: Path, cache: Cache) -> None:
    root = data_set(tmp_path, "ant", "bee", "cat")
    for num_classes, key in ((4, "model.label_offset=1"), (2, "model.label_offset=0")):
        with pytest.raises(DataError, match=f"3 classes and the model has {num_classes}") as caught:
            prepared(root, cache, num_classes)
        assert key in caught.value.hint
