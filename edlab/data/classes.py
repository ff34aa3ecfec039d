"""Which class of the model a folder is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

from edlab.config import ClassOrder, DatasetConfig
from edlab.data.listing import why_unreadable
from edlab.errors import ConfigError, DataError

_WNID = re.compile(r"n\d{8}")
_NUMBERED = re.compile(r"(\D*)(\d+)(\D.*)?", re.ASCII | re.DOTALL)
_LABELS = "set dataset.labels=FILE with all folder names, one per line, in the order of the model's classes"


@cache
def imagenet_wnids() -> tuple[str, ...]:
    """The WordNet ids of the 1,000 ImageNet-1k classes; the position is the class index (ILSVRC 2012, sorted)."""
    return tuple(files("edlab.data").joinpath("imagenet_wnids.txt").read_text().split())


def index_classes(
    config: DatasetConfig, root: Path, folders: Sequence[str], num_classes: int, class_names: Sequence[str]
) -> tuple[dict[str, int], int]:
    """The class index of each folder, and the number of classes.

    The first that applies: `config.labels`, a file of folder names in order; `config.class_order`; the model's own
    class names, if all folders have one; WordNet ids of ImageNet; the names sorted as text.

    Raises `DataError` if folders are numbered and sorting them as numbers differs from sorting them as text.
    """
    if config.labels:
        if config.class_order is not None:
            raise ConfigError(
                "dataset.labels and dataset.class_order are both set, and both define the class of a folder",
                hint="remove one of them",
            )
        return _from_list(folders, read_class_names(Path(config.labels).expanduser()), root, config.labels)
    if config.class_order == ClassOrder.numeric:
        return _as_numbers(folders, num_classes, root), num_classes
    if config.class_order is None and class_names and set(folders) <= set(class_names):
        return _from_list(folders, list(class_names), root, "the model's class names")
    if all(_WNID.fullmatch(folder) for folder in folders):
        return _from_list(folders, list(imagenet_wnids()), root, "the 1,000 classes of ImageNet-1k")
    as_text = {name: index for index, name in enumerate(sorted(folders))}
    if config.class_order is None:
        _refuse_ambiguous(folders, as_text, num_classes, root)
    return as_text, len(folders)


def read_class_names(path: Path, hint: str = _LABELS) -> list[str]:
    """The class names of a labels file, one per line. Raises `DataError`."""
    return [line.strip() for line in read_lines(path, hint)]


def read_lines(path: Path, hint: str = _LABELS) -> list[str]:
    """The lines of a labels file that are not empty. Raises `DataError`."""
    try:
        if reason := why_unreadable(str(path), path.stat()):
            raise DataError(f"cannot read the labels file {path}: {reason}", hint=hint)
        lines = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the labels file {path}: {error}", hint=hint) from error
    if not lines:
        raise DataError(f"the labels file {path} is empty", hint=hint)
    return lines


def _from_list(folders: Sequence[str], classes: list[str], root: Path, source: str) -> tuple[dict[str, int], int]:
    index_of = {name: index for index, name in enumerate(classes)}
    if unknown := [name for name in folders if name not in index_of]:
        raise DataError(
            f"the folder '{unknown[0]}' in {root} is not in {source} ({len(unknown)} such folders)", hint=_LABELS
        )
    if twice := [name for name in folders if classes.count(name) > 1]:
        raise DataError(
            f"'{twice[0]}' is in {source} more than once", hint="use one line and one folder for each class"
        )
    return {name: index_of[name] for name in folders}, len(classes)


def _numbers(folders: Sequence[str]) -> dict[str, int] | None:
    """The integer in each folder's name; None if they are not numbered: different prefixes, or a repeated number."""
    matches = [_NUMBERED.fullmatch(name) for name in folders]
    if not all(matches) or len({match[1] for match in matches if match}) > 1:
        return None
    numbers = {name: int(match[2]) for name, match in zip(folders, matches, strict=True) if match}
    return numbers if len(set(numbers.values())) == len(folders) else None


def _class_of_number(numbers: dict[str, int], num_classes: int) -> dict[str, int] | None:
    """The integers, or integers minus 1 if they are all of 1 to `num_classes`; None if they are not classes."""
    if max(numbers.values()) < num_classes:
        return numbers
    if sorted(numbers.values()) == list(range(1, num_classes + 1)):
        return {name: number - 1 for name, number in numbers.items()}
    return None


def _as_numbers(folders: Sequence[str], num_classes: int, root: Path) -> dict[str, int]:
    numbers = _numbers(folders)
    if numbers is None:
        raise DataError(
            f"dataset.class_order=numeric: the folders in {root} do not have unique integer names",
            hint=_LABELS,
        )
    indices = _class_of_number(numbers, num_classes)
    if indices is not None and min(indices.values()) == 1:
        raise DataError(
            f"dataset.class_order=numeric: it is unclear whether the folders in {root} are numbered from 1, or from 0 "
            "with the folder of class 0 missing",
            hint=_LABELS,
        )
    if indices is None:
        highest = max(numbers, key=lambda name: numbers[name])
        raise DataError(
            f"dataset.class_order=numeric: the folder '{highest}' in {root} is not a class: the model has classes 0 to "
            f"{num_classes - 1}",
            hint=f"{_LABELS}; folders numbered from 1 are accepted if all of 1 to {num_classes} exist",
        )
    return indices


def _refuse_ambiguous(folders: Sequence[str], as_text: dict[str, int], num_classes: int, root: Path) -> None:
    numbers = _numbers(folders)
    if numbers is None:
        return
    as_numbers = _class_of_number(numbers, num_classes)
    integers = all(name.isdigit() for name in folders)
    if len(folders) == num_classes:
        by_number = sorted(folders, key=lambda name: numbers[name])
        if by_number == sorted(folders):
            return
        name = next(name for position, name in enumerate(by_number) if as_text[name] != position)
        first = as_numbers[name] if as_numbers else by_number.index(name)
        raise DataError(
            f"the {len(folders)} class folders in {root} are numbered, and their order as numbers is not that as text: "
            f"'{name}' is class {first} as a number and class {as_text[name]} as text",
            hint="set dataset.class_order=numeric if the number is the class, dataset.class_order=text if the model "
            "was trained on folders sorted by name (torchvision, Keras), or dataset.labels=FILE",
        )
    if integers and as_numbers:
        raise DataError(
            f"{root} has {len(folders)} class folders named by integers ({', '.join(sorted(folders)[:5])}...), and the "
            f"model has {num_classes} classes",
            hint=f"{_LABELS}; if they are the model's class indices, counted from 0, set dataset.class_order=numeric",
        )
