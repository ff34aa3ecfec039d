"""Images with boxes in YOLO's txt files: one file per image, one line `class cx cy w h` per object.

The centre, width and height of a box are fractions of the image. The layout is that of Ultralytics
(docs.ultralytics.com/datasets/detect): the path of a txt file is that of its image with the last `images` folder
replaced by `labels`. Darknet's layout, with both next to each other, is read too.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from edlab.config import DatasetConfig
from edlab.data.boxes import doubtful_boxes
from edlab.data.catalogue import Catalogue
from edlab.data.classes import read_class_names
from edlab.data.image_files import existing_folder, file_catalogue, no_images
from edlab.data.label_map import LabelMap, map_class_numbers
from edlab.data.levels import splits_among
from edlab.data.listing import Listing, list_folders, scan, why_unreadable
from edlab.errors import DataError
from edlab.source import Reason
from edlab.tasks.detection.annotations import Annotations, Boxes
from edlab.wording import plural

_NAMES = "set dataset.labels=FILE with the names of all classes, one per line, in the order of their numbers"
_LINE = "a line is `class cx cy w h`: an integer from 0, then fractions of the image's width and height"
_DIGITS = 9  # maximum of a class number
_SLACK = 0.01  # beyond 0..1, because tools round; ultralytics.data.utils.verify_image_label allows the same


def list_yolo(config: DatasetConfig, num_classes: int | None, class_names: Sequence[str]) -> Catalogue:
    """All images of `config.path`, or of its folder images/, with their objects; one without a txt file has none.

    The names of the classes are those of `config.labels`, else of data.yaml or classes.txt in the folder, else unknown.

    Raises `DataError` for an invalid line, if there are no labels at all, or if classes are not the model's.
    """
    root = existing_folder(config.path, "dataset.path=FOLDER, with the folders images and labels in it")
    top = "images" if (root / "images").is_dir() else ""
    listing = list_folders(root, [top])[top]
    if not listing.images:
        raise no_images(root / top, listing)
    _refuse_splits(root, top, listing)
    labels = _label_files(root, listing)
    rows = [np.empty((0, 5)) if file is None else _read_labels(file) for file in labels]
    if not any(map(len, rows)):
        raise DataError(f"no label file in {root} has an object: there is nothing to score", hint=_LINE)
    names, source = _class_names(config, root)
    highest = max(int(row[:, 0].max()) for row in rows if len(row))
    label_map = map_class_numbers(highest, names, num_classes, class_names, source)
    boxes = tuple(_boxes(row, label_map) for row in rows)
    return file_catalogue(
        config,
        root,
        listing,
        labels=Annotations(boxes, label_map.class_names),
        fractions=True,
        class_index={label_map.class_names[index]: index for index in label_map.class_of.values()},
        label_map=label_map.rule,
        reasons=[*listing.reasons(), *_without_image(labels, listing), *doubtful_boxes(boxes, str(root))],
    )


def _refuse_splits(root: Path, top: str, listing: Listing) -> None:
    """Raises `DataError` if the folder contains the training images next to those to score."""
    folders = {image.name.removeprefix(f"{top}/").split("/")[0] for image in listing.images if "/" in image.name}
    if len(splits := splits_among(folders)) > 1:
        raise DataError(
            f"{', '.join(splits)} in {root / top} are parts of a data set",
            hint=f"set dataset.path={root / top / splits[0]}",
        )


def _label_files(root: Path, listing: Listing) -> list[Path | None]:
    """The txt file of each image, None if it has none. Raises `DataError` for no files, or files in two places."""
    # A link keeps its name: Ultralytics replaces text.
    next_to = [Path(os.path.abspath(image.path)).with_suffix(".txt") for image in listing.images]  # noqa: PTH100
    in_labels = [_in_labels(path) for path in next_to]
    places = [[path if path and _is_there(path) else None for path in paths] for paths in (in_labels, next_to)]
    used = [paths for paths in places if any(paths)]
    if not used:
        wanted = next((path for path in in_labels if path), next_to[0])
        raise DataError(
            f"no label file is found for the {len(next_to)} images in {root}; expected for the first: {wanted}, or "
            f"{next_to[0].name} next to the image",
            hint="set dataset.path=FOLDER to the folder that has images/ and labels/ in it",
        )
    if len(used) > 1:
        first = [str(next(path for path in paths if path)) for paths in used]
        raise DataError(
            f"images in {root} have label files in two places: {' and '.join(first)}",
            hint="keep only those in labels/, or only those next to the images",
        )
    return used[0]


def _is_there(path: Path) -> bool:
    """Includes broken links and files that cannot be read: their objects would be missing."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise DataError(f"cannot read the label file {path}: {error.strerror}", hint="check its permissions") from error
    return True


def _in_labels(path: Path) -> Path | None:
    """The path with its last folder `images` replaced by `labels`; None if it has no such folder."""
    parts = list(path.parts)
    if "images" not in parts[:-1]:
        return None
    last = len(parts) - 2 - parts[-2::-1].index("images")
    return Path(*parts[:last], "labels", *parts[last + 1 :])


def _read_labels(path: Path) -> NDArray[np.float64]:
    """Class, centre, width and height of each object: float64 (n, 5). A repeated line is one object."""
    try:
        if reason := why_unreadable(str(path), path.stat()):
            raise DataError(f"cannot read the label file {path}: {reason}", hint=_LINE)
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise DataError(f"cannot read the label file {path}: {error.strerror}", hint="check its permissions") from error
    except UnicodeDecodeError as error:
        raise DataError(f"the label file {path} is not valid UTF-8 text: {error}", hint=_LINE) from error
    rows = [_object(line, f"{path} line {number}") for number, line in enumerate(lines, start=1) if line.strip()]
    # Like Ultralytics: one of two equal boxes could never be found.
    return np.array(list(dict.fromkeys(rows)), np.float64).reshape(-1, 5)


def _object(line: str, place: str) -> tuple[int, float, float, float, float]:
    fields = line.split()
    if len(fields) != 5:
        kinds = {6: " (with a confidence these are predictions, not labels)"}
        kind = kinds.get(len(fields), " (an outline is not a box)" if len(fields) > 6 else "")
        raise DataError(f"{place} has {len(fields)} fields, not 5{kind}", hint=_LINE)
    if not (fields[0].isascii() and fields[0].isdigit() and len(fields[0]) <= _DIGITS):
        raise DataError(f"{place}: '{fields[0][:40]}' is not a class number", hint=_LINE)
    try:
        x, y, width, height = map(float, fields[1:])
    except ValueError as error:
        raise DataError(f"{place}: {error}", hint=_LINE) from error
    if not all(-_SLACK <= value <= 1 + _SLACK for value in (x, y, width, height)) or width < 0 or height < 0:
        raise DataError(f"{place}: '{line.strip()[:80]}' is not in fractions of the image, 0 to 1", hint=_LINE)
    return int(fields[0]), x, y, width, height


def _boxes(rows: NDArray[np.float64], label_map: LabelMap) -> Boxes:
    """In fractions of the image."""
    centres, sides = rows[:, 1:3], rows[:, 3:5]
    return Boxes(
        size=(1, 1),
        corners=np.concatenate([centres - sides / 2, centres + sides / 2], axis=1),
        classes=np.array([label_map.class_of[int(number)] for number in rows[:, 0]], np.int64),
        crowds=np.zeros(len(rows), np.bool_),
        areas=sides[:, 0] * sides[:, 1],
    )


def _class_names(config: DatasetConfig, root: Path) -> tuple[list[str], str]:
    """The names of the data set's classes by number, empty if no file names them; and their source."""
    if config.labels:
        return read_class_names(Path(config.labels).expanduser(), _NAMES), config.labels
    here = Path(os.path.abspath(root))  # noqa: PTH100
    above = [folder.parent for folder in (here, *here.parents) if folder.name == "images"][:1]
    for folder in (here, *above):
        if (folder / "data.yaml").is_file() and (names := _names_in_yaml(folder / "data.yaml")):
            return names, str(folder / "data.yaml")
        if (folder / "classes.txt").is_file():
            return read_class_names(folder / "classes.txt", _NAMES), str(folder / "classes.txt")
    return [], str(root)


def _names_in_yaml(path: Path) -> list[str]:
    """`names` of a data.yaml: a list, or names by number; empty if it has none."""
    try:
        data = yaml.safe_load(path.read_bytes())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise DataError(f"cannot read the class names in {path}: {error}", hint=_NAMES) from error
    names: Any = data.get("names") if isinstance(data, Mapping) else None
    if isinstance(names, Mapping):
        if sorted(names, key=str) != sorted(range(len(names)), key=str):
            raise DataError(f"the names in {path} are not numbered from 0 without gaps", hint=_NAMES)
        names = [names[number] for number in range(len(names))]
    if names is None:
        return []
    if not isinstance(names, list) or data.get("nc", len(names)) != len(names):
        raise DataError(f"{path} is inconsistent: nc is {data.get('nc')}, and names is {names!r:.80}", hint=_NAMES)
    return [str(name) for name in names]


def _without_image(labels: Sequence[Path | None], listing: Listing) -> list[Reason]:
    """Label files whose image is missing, in the folders of the others."""
    images = {os.path.splitext(os.path.basename(name))[0] for name, _ in listing.skipped}  # noqa: PTH119, PTH122
    used = {path for path in labels if path}
    folders = sorted({path.parent for path in used})
    files = [Path(entry.path) for folder in folders for entry in scan(folder) if entry.name.lower().endswith(".txt")]
    orphans = [path for path in files if path not in used and path.stem not in images and not _is_about(path.name)]
    if not orphans:
        return []
    return [
        Reason(
            code="labels_without_image",
            message=f"{plural(len(orphans), 'label file has', 'label files have')} no image that can be read: "
            f"{orphans[0]}" + ("..." if len(orphans) > 1 else ""),
            advice="add the missing images: the mAP of a part of the data set cannot be compared with published values",
        )
    ]


def _is_about(name: str) -> bool:
    """Whether a txt file describes the data set, and does not contain the labels of an image."""
    return name.lower() in ("classes.txt", "train.txt", "val.txt", "test.txt") or name.lower().startswith("readme")
