"""Data sets that are folders of image files."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edlab.config import DatasetConfig
from edlab.data.catalogue import Catalogue
from edlab.data.pixels import read_image
from edlab.errors import DataError, DataUnavailableError

# torchvision.datasets.folder.IMG_EXTENSIONS
_EXTENSIONS = {".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"}
_WNID = re.compile(r"n\d{8}")


@cache
def imagenet_wnids() -> tuple[str, ...]:
    """The WordNet ids of the 1,000 ImageNet-1k classes; the position is the class index (ILSVRC 2012, sorted)."""
    return tuple(files("edlab.data").joinpath("imagenet_wnids.txt").read_text().split())


def list_image_folder(config: DatasetConfig) -> Catalogue:
    """`config.path`/<class>/<image>. Raises `DataError` where it is missing, empty, or the classes are not known.
    Raises `DataUnavailableError` where no path is given.

    Folders named by WordNet id are the ImageNet class of that id, so that a subset is scored rightly. Others take
    the order of the `labels` file (one folder name a line), else their sorted order.
    """
    root = _existing_folder(config.path, "dataset.path=FOLDER, with one folder of images for each class")
    folders = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not folders:
        raise DataError(
            f"{root} has no class folders",
            hint="the layout is <dataset.path>/<class>/<image>; see dataset=image_folder",
        )
    classes = _read_class_names(config.labels) if config.labels else _class_names(folders)
    index_of = {name: index for index, name in enumerate(classes)}
    if unknown := [name for name in folders if name not in index_of]:
        source = config.labels or "the 1,000 classes of ImageNet-1k"
        raise DataError(
            f"the folder '{unknown[0]}' of {root} is not in {source} ({len(unknown)} such folders)",
            hint="give dataset.labels=FILE with all folder names, one a line, in the order of the model's classes",
        )
    names = _images_below(root, folders)
    labels = np.array([index_of[name.split("/", 1)[0]] for name in names], dtype=np.int64)
    return _catalogue(root, names, labels, len(classes))


def list_imagenet(config: DatasetConfig) -> Catalogue:
    """The ImageNet-1k validation images: folders by WordNet id, or one flat folder with a `labels` file.

    Each line of the file is `<file name> <class>`, the class an index from 0 or a WordNet id. The folder is
    `config.path`, else the environment variable EDLAB_IMAGENET; its subfolder `val` is taken where there is one.
    """
    root = _existing_folder(
        config.path or os.environ.get("EDLAB_IMAGENET"),
        "dataset.path=FOLDER or the environment variable EDLAB_IMAGENET, the validation images in folders by "
        "WordNet id; or take dataset=imagenette, which downloads",
    )
    root = root / "val" if (root / "val").is_dir() else root
    if config.labels is None:
        return list_image_folder(DatasetConfig(name=config.name, kind="image_folder", path=str(root)))
    names, labels = _read_file_labels(Path(config.labels).expanduser())
    return _catalogue(root, names, labels, len(imagenet_wnids()))


def list_unlabelled(path: str) -> Catalogue:
    """All images below a folder, without labels: to calibrate on. Raises `DataError`."""
    root = _existing_folder(path, "dataset.calibration_path=FOLDER with images")
    return _catalogue(root, _images_below(root, [""]), None, None)


def _existing_folder(path: str | None, hint: str) -> Path:
    if not path:
        raise DataUnavailableError("the data set's folder is not given", hint=f"give {hint}")
    root = Path(path).expanduser()
    if not root.is_dir():
        raise DataError(f"there is no data set at {root}", hint=f"give {hint}")
    return root


def _class_names(folders: list[str]) -> list[str]:
    if all(_WNID.fullmatch(name) for name in folders):
        return list(imagenet_wnids())
    return folders


def _read_class_names(path: str) -> list[str]:
    return [line.strip() for line in _read_lines(Path(path).expanduser())]


def _read_file_labels(path: Path) -> tuple[list[str], NDArray[np.int64]]:
    wnids = {name: index for index, name in enumerate(imagenet_wnids())}
    names, labels = [], []
    for number, line in enumerate(_read_lines(path), start=1):
        name, _, label = line.strip().rpartition(" ")
        if not name or not (label in wnids or label.isdigit()):
            raise DataError(
                f"{path} line {number}: '{line[:60]}' is not '<file name> <class>'",
                hint="the class is an index from 0, or a WordNet id",
            )
        names.append(name.strip())
        labels.append(wnids[label] if label in wnids else int(label))
    return names, np.array(labels, dtype=np.int64)


def _read_lines(path: Path) -> list[str]:
    try:
        lines = [line for line in path.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the labels file {path}: {error}", hint="give dataset.labels=FILE") from error
    if not lines:
        raise DataError(f"the labels file {path} is empty", hint="give dataset.labels=FILE")
    return lines


def _images_below(root: Path, folders: Iterable[str]) -> list[str]:
    names = sorted(
        path.relative_to(root).as_posix()
        for folder in folders
        for path in (root / folder).rglob("*")
        if path.suffix.lower() in _EXTENSIONS
    )
    if not names:
        raise DataError(f"{root} has no images ({', '.join(sorted(_EXTENSIONS))})", hint="check dataset.path")
    return names


def _catalogue(root: Path, names: list[str], labels: NDArray[np.int64] | None, classes: int | None) -> Catalogue:
    return Catalogue(
        names=names,
        identity=[[name, *_stamp(root / name)] for name in names],
        open_image=lambda index: read_image(root / names[index]),
        labels=labels,
        classes=classes,
    )


def _stamp(path: Path) -> tuple[int, int]:
    """Size and modification time: what changes when the file does. A file that is not there is (-1, -1)."""
    try:
        status = path.stat()
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns
