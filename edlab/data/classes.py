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
_LABELS = "set dataset.labels=FILE with all folder names, one a line, in the order of the model's classes"


@cache
def imagenet_wnids() -> tuple[str, ...]:
    """The WordNet ids of the 1,000 ImageNet-1k classes; the position is the class index (ILSVRC 2012, sorted)."""
    return tuple(files("edlab.data").joinpath("imagenet_wnids.txt").read_text().split())


def index_classes(
    config: DatasetConfig, root: Path, folders: Sequence[str], num_classes: int, class_names: Sequence[str]
) -> tuple[dict[str, int], int]:
    """The class index of each folder, and the number of classes that there are.

    The first that applies: `config.labels`, a file of folder names in order; `config.class_order`; the names that the
    model itself gives its classes, where all folders have one; WordNet ids of ImageNet; the names' order as text.

    Raises `DataError` where folders are numbered, and their order as numbers is another than that as text.
    """
    if config.labels:
        if config.class_order is not None:
            raise ConfigError(
                "dataset.labels and dataset.class_order both say which class a folder is", hint="set one of them"
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
    """The class names of a labels file, one a line. Raises `DataError`."""
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
            f"the folder '{unknown[0]}' of {root} is not in {source} ({len(unknown)} such folders)", hint=_LABELS
        )
    if twice := [name for name in folders if classes.count(name) > 1]:
        raise DataError(f"'{twice[0]}' is in {source} more than once", hint="each class has one line, and one folder")
    return {name: index_of[name] for name in folders}, len(classes)


def _numbers(folders: Sequence[str]) -> dict[str, int] | None:
    """The integer in each folder's name; None where they are no numbering: another prefix, or a number twice."""
    matches = [_NUMBERED.fullmatch(name) for name in folders]
    if not all(matches) or len({match[1] for match in matches if match}) > 1:
        return None
    numbers = {name: int(match[2]) for name, match in zip(folders, matches, strict=True) if match}
    return numbers if len(set(numbers.values())) == len(folders) else None


def _class_of_number(numbers: dict[str, int], num_classes: int) -> dict[str, int] | None:
    """The integers themselves, or less one where they are all of 1 to `num_classes`; None where they are no classes."""
    if max(numbers.values()) < num_classes:
        return numbers
    if sorted(numbers.values()) == list(range(1, num_classes + 1)):
        return {name: number - 1 for name, number in numbers.items()}
    return None


def _as_numbers(folders: Sequence[str], num_classes: int, root: Path) -> dict[str, int]:
    numbers = _numbers(folders)
    if numbers is None:
        raise DataError(
            f"dataset.class_order=numeric: the folders of {root} are not numbered, each by another integer",
            hint=_LABELS,
        )
    indices = _class_of_number(numbers, num_classes)
    if indices is not None and min(indices.values()) == 1:
        raise DataError(
            f"dataset.class_order=numeric: the lowest folder of {root} is 1, so that the numbers may count from 1, or "
            "from 0 without a folder for class 0",
            hint=_LABELS,
        )
    if indices is None:
        highest = max(numbers, key=lambda name: numbers[name])
        raise DataError(
            f"dataset.class_order=numeric: the folder '{highest}' of {root} is no class of a model of {num_classes} "
            f"classes, 0 to {num_classes - 1}",
            hint=f"{_LABELS}; folders that count from 1 are taken where all of 1 to {num_classes} are there",
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
            f"the {len(folders)} class folders of {root} are numbered, and their order as numbers is not that as text: "
            f"'{name}' is class {first} as a number and class {as_text[name]} as text",
            hint="set dataset.class_order=numeric where the number is the class, or dataset.class_order=text where the "
            "model was trained on folders in the order of their names (torchvision, Keras); or dataset.labels=FILE",
        )
    if integers and as_numbers:
        raise DataError(
            f"{root} has {len(folders)} class folders named by integers ({', '.join(sorted(folders)[:5])}...), and the "
            f"model {num_classes} classes",
            hint=f"{_LABELS}; where they are the model's class indices, counted from 0, set "
            "dataset.class_order=numeric",
        )
