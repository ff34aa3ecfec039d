"""Anything that changes the pixels or labels of a data set changes its key; anything else finds the prepared data."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edlab.cache import Cache
from edlab.config import ClassOrder, DatasetConfig, ExifOrientation
from edlab.converters.calibration import Batches, CalibrationData
from edlab.data import PreparedData, prepare
from edlab.source import Preprocessing

OWN = Preprocessing(height=8, width=8, resize=12)
SETTLED = 1_500_000_000_000_000_000  # a modification time, as a reproducible archive gives to all its files


def fill(root: Path, seed: int) -> Path:
    """Two classes of four BMPs of 10 x 14, all of one size in bytes and one modification time; some are rotated."""
    random = np.random.default_rng(seed)
    for index in range(8):
        path = root / str(index % 2) / f"{index}.bmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (10, 14, 3), dtype=np.uint8)).save(path)
        settle(path)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(random.integers(0, 256, (10, 14, 3), dtype=np.uint8)).save(root / "0" / "turned.jpg", exif=exif)
    settle(root / "0" / "turned.jpg")
    return root


def settle(path: Path) -> None:
    os.utime(path, ns=(SETTLED, SETTLED))


@dataclasses.dataclass
class Inputs:
    """Everything that determines a prepared data set."""

    data: DatasetConfig
    preprocessing: Preprocessing = OWN

    def prepare(self, cache: Cache) -> PreparedData:
        return prepare(self.data, self.preprocessing, cache, num_classes=2)


@pytest.fixture
def inputs(tmp_path: Path) -> Inputs:
    root = fill(tmp_path / "data", 0)
    return Inputs(DatasetConfig("own", "image_folder", str(root), calibration_path=str(fill(tmp_path / "other", 1))))


def pixels(data: PreparedData) -> bytes:
    return np.load(data.images).tobytes()


def at(inputs: Inputs) -> Path:
    return Path(inputs.data.path or "") / "0" / "0.bmp"


def another_folder_with_the_same_names_sizes_and_times(inputs: Inputs) -> None:
    inputs.data.path = str(fill(Path(inputs.data.path or "").parent / "twin", 2))


def another_folder_in_its_place(inputs: Inputs) -> None:
    root = Path(inputs.data.path or "")
    fill(root.parent / "twin", 2)
    root.rename(root.parent / "old")
    (root.parent / "twin").rename(root)


def other_images_by_a_link(inputs: Inputs) -> None:
    root = Path(inputs.data.path or "")
    fill(root.parent / "twin", 2)
    root.rename(root.parent / "old")
    root.symlink_to(root.parent / "twin")


def images_that_change_places(inputs: Inputs) -> None:
    first = at(inputs)
    second, spare = first.with_name("2.bmp"), first.with_name("spare")
    first.rename(spare)
    second.rename(first)
    spare.rename(second)


def another_image_moved_in(inputs: Inputs) -> None:
    fill(Path(inputs.data.path or "").parent / "twin", 2)
    shutil.move(Path(inputs.data.path or "").parent / "twin" / "0" / "0.bmp", at(inputs))


def content_written_in_place_and_the_time_set_back(inputs: Inputs) -> None:
    content = bytearray(at(inputs).read_bytes())
    content[54:] = bytes(255 - value for value in content[54:])  # behind the header
    at(inputs).write_bytes(content)
    settle(at(inputs))


def orientation(inputs: Inputs) -> None:
    inputs.data.exif_orientation = ExifOrientation.apply


def geometry(**changes: object) -> Callable[[Inputs], None]:
    def change(inputs: Inputs) -> None:
        inputs.preprocessing = Preprocessing(**{**OWN.model_dump(), **changes})

    change.__name__ = ",".join(changes)
    return change


@pytest.mark.parametrize(
    "change",
    [
        another_folder_with_the_same_names_sizes_and_times,
        another_folder_in_its_place,
        other_images_by_a_link,
        images_that_change_places,
        another_image_moved_in,
        content_written_in_place_and_the_time_set_back,
        orientation,
        geometry(height=9),
        geometry(width=9),
        geometry(resize=11),
        geometry(resize_mode="squash"),
        geometry(resize_mode="letterbox", resize=None),
        geometry(interpolation="nearest"),
        geometry(antialias=False),
        geometry(resize_mode="letterbox", resize=None, border=(9, 9, 9)),
    ],
    ids=lambda change: change.__name__,
)
def test_each_input_of_the_pixels_changes_them(inputs: Inputs, cache: Cache, change: Callable[[Inputs], None]) -> None:
    before = inputs.prepare(cache)
    kept = pixels(before)
    change(inputs)
    after = inputs.prepare(cache)
    assert after.digest != before.digest
    assert pixels(after) != kept
    alone = Cache(cache.root.with_name("alone"))
    assert pixels(after) == pixels(inputs.prepare(alone))


def test_the_border_alone_is_an_input(inputs: Inputs, cache: Cache) -> None:
    digests = set()
    for border in ((0, 0, 0), (9, 9, 9)):
        geometry(resize_mode="letterbox", resize=None, border=border)(inputs)
        digests.add(inputs.prepare(cache).digest)
    assert len(digests) == 2


def test_other_calibration_images_change_the_digest_alone(inputs: Inputs, cache: Cache, tmp_path: Path) -> None:
    before = inputs.prepare(cache)
    for root in (fill(tmp_path / "third", 3), tmp_path / "data"):
        inputs.data.calibration_path = str(root)
        after = inputs.prepare(cache)
        assert after.digest != before.digest
        assert after.images == before.images


def test_labels_are_read_anew_each_time(inputs: Inputs, cache: Cache, tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    tables = []
    for text in ("0\n1\n", "1\n0\n"):
        labels.write_text(text)
        settle(labels)
        inputs.data.labels = str(labels)
        tables.append(inputs.prepare(cache).classes)
    assert tables == [{"0": 0, "1": 1}, {"1": 0, "0": 1}]
    inputs.data.labels, inputs.data.class_order = None, ClassOrder.text
    assert inputs.prepare(cache).classes == tables[0]


def test_the_same_pixels_elsewhere_have_the_same_digest(inputs: Inputs, cache: Cache, tmp_path: Path) -> None:
    """A data set that was moved is decoded again, but nothing is converted or predicted again."""
    before = inputs.prepare(cache)
    moved = shutil.copytree(tmp_path / "data", tmp_path / "moved")
    inputs.data.path = str(moved)
    after = inputs.prepare(cache)
    assert after.images != before.images
    assert after.digest == before.digest


@pytest.mark.parametrize("changes", [{"channels": "bgr"}, {"mean": (0.5, 0.4, 0.3)}, {"std": (0.5, 0.4, 0.3)}])
def test_normalisation_keeps_the_pixels_and_changes_the_calibration(
    inputs: Inputs, cache: Cache, changes: dict[str, object]
) -> None:
    keys = []
    for preprocessing in (OWN, OWN.model_copy(update=changes)):
        inputs.preprocessing = preprocessing
        data = inputs.prepare(cache)
        keys.append((data.digest, CalibrationData(data.calibration_images, (0, 1), preprocessing, data.digest).key()))
    assert keys[0][0] == keys[1][0]
    assert keys[0][1] != keys[1][1]


def test_calibration_batches_are_in_the_order_of_the_models_channels(inputs: Inputs, cache: Cache) -> None:
    own = OWN.model_copy(update={"channels": "bgr", "mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)})
    data = inputs.prepare(cache)
    (batch,) = Batches(CalibrationData(data.calibration_images, (1,), own, data.digest).describe(), "NHWC")
    stored = np.load(data.calibration_images)[1:2]
    np.testing.assert_allclose(batch, (stored[..., ::-1] / 255 - own.mean) / own.std, atol=1e-6)
