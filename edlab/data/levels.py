"""Checks whether dataset.path is the folder that contains the class folders, or one above or below it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from edlab.data.listing import is_folder, is_leftover, scan
from edlab.errors import DataError

_LAYOUT = "the layout is <dataset.path>/<class>/<image>"
# In the order in which they are proposed: splits to score a model on are first.
_SPLITS = ("val", "valid", "validation", "test", "testing", "eval", "evaluation", "dev", "holdout", "train", "training")
_PARTS = ("images", "image", "imgs", "img", "jpegimages", "labels", "annotations", "masks")
_PART = re.compile(rf"({'|'.join(_SPLITS)})(?:[-_ .]?(?:set|data|images?|imgs?|split|\d+))*|{'|'.join(_PARTS)}")


def check_level(root: Path, folders: Sequence[str], names: Iterable[str], num_classes: int) -> None:
    """Raises `DataError` if the folders of `root` are parts of a data set, or contain its class folders.

    `names` are those of all images, relative to `root`.
    """
    parts = [name.split("/")[:-1] for name in names]
    with_images = sorted({path[0] for path in parts})
    direct = {path[0] for path in parts if len(path) == 1}
    splits = [folder for folder in with_images if _part(folder) is not None]
    if splits and (splits == with_images or len([folder for folder in splits if folder not in direct]) > 1):
        are = "are parts of a data set, not classes" if len(splits) > 1 else "is a part of a data set, not a class"
        raise DataError(f"{_shown(splits)} in {root} {are}", hint=_advice(root, parts))
    if len(with_images) == 1 and not direct and _class_level(parts):
        raise DataError(
            f"the only folder with images in {root}, {with_images[0]}, has subfolders and no images",
            hint=_advice(root, parts),
        )
    below: dict[str, set[str]] = {folder: set() for folder in with_images}
    for folder, *inner in parts:
        below[folder].update(inner[:1])
    shared = set.intersection(*below.values()) if not direct and len(with_images) > 1 else set()
    fits_here, fits_below = len(folders) == num_classes, len(set().union(*below.values())) == num_classes
    if len(shared) > 1 and (fits_below or not fits_here):
        raise DataError(
            f"{_shown(with_images)} in {root} have no images but the same folders, {_shown(sorted(shared))}: it is "
            "unclear which of the two levels are the classes",
            hint=f"set dataset.path={root / with_images[0]} if these are the classes; if {_shown(with_images)} are, "
            "set dataset.labels=FILE with their names, one per line, in the order of the model's classes",
        )


def images_in_no_class(root: Path, count: int) -> DataError:
    """The error for a `root` whose images are mostly or all directly in it."""
    above = root.resolve().parent
    try:
        siblings = [entry for entry in scan(above) if is_folder(entry) and not is_leftover(entry.name)]
    except DataError:  # then it cannot be proposed
        siblings = []
    hint = (
        f"{_LAYOUT}: move the images into one folder for each class (dataset=imagenet also accepts dataset.labels=FILE)"
    )
    if len(siblings) > 1 and _part(root.resolve().name) is None:
        hint = f"if {root.resolve().name} is one class of several, set dataset.path={above}"
    return DataError(f"{root} has {count} images directly in it, not in class folders", hint=hint)


def splits_among(folders: Iterable[str]) -> list[str]:
    """Those of the folders that are splits of a data set by their names, the one to score a model on first."""
    found = {folder: part for folder in folders if (part := _part(folder)) in _SPLITS}
    return sorted(found, key=lambda folder: (_SPLITS.index(found[folder]), folder))


def _part(name: str) -> str | None:
    """The split, or part of a data set, that a folder is named after; None for any other name."""
    match = _PART.fullmatch(name.lower())
    return None if match is None else match.group(1) or name.lower()


def _advice(root: Path, parts: list[list[str]]) -> str:
    level = _class_level(parts)
    if level:
        return f"set dataset.path={root.joinpath(*level)}"
    return (
        f"{_LAYOUT}; if these folders are the classes, set dataset.labels=FILE with their names in order, one per line"
    )


def _class_level(parts: list[list[str]]) -> tuple[str, ...] | None:
    """The folder that contains the class folders; () for the configured one, None if there is none.

    `parts` are the folders of each image.
    """
    if not all(parts):
        return None  # contains images: it is a class, or a flat folder
    here = sorted({path[0] for path in parts})
    found = {part: folder for folder in reversed(here) if (part := _part(folder)) is not None}
    if len(found) > 1 or (found and len(here) == 1):
        candidates = [found[part] for part in sorted(found, key=(*_SPLITS, *_PARTS).index)]
    elif len(here) == 1:
        candidates = here
    else:
        return ()
    for folder in candidates:
        if (deeper := _class_level([path[1:] for path in parts if path[0] == folder])) is not None:
            return (folder, *deeper)
    return None


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
