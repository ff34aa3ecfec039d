"""Reads COCO's "instances" JSON (cocodataset.org/#format-data) and refuses content that would give a wrong mAP."""

from __future__ import annotations

import json
import os
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edlab.data.listing import why_unreadable
from edlab.errors import DataError

_HINT = 'set dataset.annotations=FILE to a COCO "instances" JSON file: images, annotations with a bbox, categories'
_FARTHEST = 1e9  # not a coordinate, in pixels; infinity and NaN fail the comparison too


@dataclass(frozen=True)
class Instances:
    """The checked content of an instances file: every annotation belongs to one image and to one category.

    `categories` are names by id. `files` and `sizes` (height, width) are those of the images. The others have one row
    per annotation: `images` int64, its image's position; `category_ids` int64; `boxes` float64 of x, y, width, height
    in pixels; `crowds` bool; `areas` float64 in pixels. `without_area` counts those whose area is that of their box.
    """

    categories: dict[int, str]
    files: list[str]
    sizes: list[tuple[int, int]]
    images: NDArray[np.int64]
    category_ids: NDArray[np.int64]
    boxes: NDArray[np.float64]
    crowds: NDArray[np.bool_]
    areas: NDArray[np.float64]
    without_area: int


def read_instances(path: Path) -> Instances:
    """The file's content. Raises `DataError` with the position of an error in it."""
    images, annotations, categories = _lists(_parse(path), path)
    names = _categories(categories, path)
    files, sizes, position_of = _images(images, path)
    rows = [_annotation(item, number, names, position_of, path) for number, item in enumerate(annotations)]
    boxes = np.array([row[2] for row in rows], np.float64).reshape(-1, 4)
    areas = np.array([np.nan if row[4] is None else row[4] for row in rows], np.float64)
    without = np.isnan(areas)
    return Instances(
        categories=names,
        files=files,
        sizes=sizes,
        images=np.array([row[0] for row in rows], np.int64),
        category_ids=np.array([row[1] for row in rows], np.int64),
        boxes=boxes,
        crowds=np.array([row[3] for row in rows], np.bool_),
        areas=np.where(without, boxes[:, 2] * boxes[:, 3], areas),
        without_area=int(without.sum()),
    )


def _parse(path: Path) -> Any:
    try:
        if reason := why_unreadable(str(path), path.stat()):
            raise DataError(f"cannot read the annotations {path}: {reason}", hint=_HINT)
        return json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"cannot read the annotations {path}: {error.strerror}", hint=_HINT) from error
    except (ValueError, RecursionError) as error:  # JSONDecodeError states line and column
        raise DataError(f"{path} is not valid JSON: {error}", hint="it may be truncated: copy it again") from error


def _lists(data: Any, path: Path) -> tuple[list[Any], list[Any], list[Any]]:
    """The images, annotations and categories of the parsed file."""
    if not isinstance(data, Mapping):
        results = isinstance(data, list) and data and isinstance(data[0], Mapping) and "score" in data[0]
        nothing = "no object with images, annotations and categories"
        what = "a list of detection results, not the ground truth" if results else nothing
        raise DataError(f"{path} contains {what}", hint=_HINT)
    annotations = data.get("annotations")
    first = annotations[0] if isinstance(annotations, list) and annotations else None
    if isinstance(first, Mapping) and "bbox" not in first:
        kinds = {"caption": "captions", "segments_info": "panoptic segments"}
        kind = next((kind for key, kind in kinds.items() if key in first), "annotations without a bbox")
        raise DataError(f"{path} contains {kind}, not instances", hint=_HINT)
    for key in ("images", "annotations", "categories"):
        if not isinstance(data.get(key), list):
            there = ", ".join(map(str, list(data)[:8])) or "nothing"
            raise DataError(f"{path} has no list '{key}'; it has: {there}", hint=_HINT)
        if not data[key]:
            raise DataError(f"{path} has no {key}: there is nothing to score", hint=_HINT)
    return data["images"], data["annotations"], data["categories"]


def _categories(items: list[Any], path: Path) -> dict[int, str]:
    names: dict[int, str] = {}
    for number, item in enumerate(items):
        category = _whole(item.get("id")) if isinstance(item, Mapping) else None
        if category is None or category < 0:
            raise _wrong(path, f"categories[{number}]", "has no whole number as id")
        if not isinstance(item.get("name"), str):
            raise _wrong(path, f"categories[{number}]", "has no name")
        if category in names:
            raise _wrong(path, f"categories[{number}]", f"has the id {category}, which is already used")
        names[category] = item["name"].strip() or str(category)
    return names


def _images(items: list[Any], path: Path) -> tuple[list[str], list[tuple[int, int]], dict[Hashable, int]]:
    """File names, sizes, and each image's position by its id."""
    files: list[str] = []
    sizes: list[tuple[int, int]] = []
    position_of: dict[Hashable, int] = {}
    id_of: dict[str, Hashable] = {}
    for number, item in enumerate(items):
        place = f"images[{number}]"
        if not isinstance(item, Mapping) or not _is_id(item.get("id")):
            raise _wrong(path, place, "has no id")
        if not isinstance(item.get("file_name"), str) or not item["file_name"]:
            raise _wrong(path, place, "has no file_name")
        height, width = _whole(item.get("height")), _whole(item.get("width"))
        if height is None or width is None or height < 1 or width < 1:
            raise _wrong(path, place, f"'{item['file_name']}' has no height and width in pixels")
        file = os.path.normpath(item["file_name"])
        if item["id"] in position_of:
            raise _wrong(path, place, f"has the id {item['id']}, which is already used")
        if file in id_of:
            raise _wrong(path, place, f"'{file}' is listed twice, with the ids {id_of[file]} and {item['id']}")
        position_of[item["id"]] = len(files)
        id_of[file] = item["id"]
        files.append(file)
        sizes.append((height, width))
    return files, sizes, position_of


def _annotation(
    item: Any, number: int, categories: Mapping[int, str], position_of: Mapping[Hashable, int], path: Path
) -> tuple[int, int, list[float], bool, float | None]:
    """Position of the image, category id, x, y, width and height, whether it is a crowd, and its area if it has one."""
    place = f"annotations[{number}]"
    if not isinstance(item, Mapping):
        raise _wrong(path, place, "is not an object")
    image, category, box = item.get("image_id"), _whole(item.get("category_id")), item.get("bbox")
    if not _is_id(image) or image not in position_of:
        raise _wrong(path, place, f"has the image_id {_short(image)}, which no image has")
    if category is None or category not in categories:
        raise _wrong(path, place, f"has the category_id {_short(item.get('category_id'))}, which no category has")
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_coordinate, box)):
        raise _wrong(path, place, f"has the bbox {_short(box)}, which is not x, y, width, height in pixels")
    if box[2] < 0 or box[3] < 0:
        raise _wrong(
            path, place, f"has the bbox {_short(box)}, with a negative width or height (it is x, y, width, height)"
        )
    crowd, area = item.get("iscrowd", 0), item.get("area")
    if crowd not in (0, 1):
        raise _wrong(path, place, f"has iscrowd {_short(crowd)}, which is neither 0 nor 1")
    if area is not None and (not _is_number(area) or not 0 <= area < _FARTHEST**2):
        raise _wrong(path, place, f"has the area {_short(area)}")
    return position_of[image], category, box, bool(crowd), area


def _wrong(path: Path, place: str, what: str) -> DataError:
    return DataError(f"{path}: {place} {what}", hint="fix the file, or export it again from the annotation tool")


def _short(value: Any) -> str:
    """As in the JSON file, shortened for a message."""
    return json.dumps(value)[:60]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _whole(value: Any) -> int | None:
    return int(value) if _is_number(value) and value == value // 1 else None


def _is_id(value: Any) -> bool:
    return isinstance(value, (int, str)) and not isinstance(value, bool)


def _is_coordinate(value: Any) -> bool:
    return _is_number(value) and -_FARTHEST < value < _FARTHEST
