"""Maps the categories of a detection data set to the model's classes. No files are read here.

Classes are counted without the model's background. Every map states the rule that created it: two rules may both
produce a map, and a wrong map gives a wrong mAP that looks right.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from edlab.errors import DataError

# COCO has 80 categories, whose ids have gaps and go to 90 (cocodataset.org). Models count the 80, or the ids: with
# the id 0, for background, these are 91 classes.
_COCO_CATEGORIES = 80
_COCO_BY_ID = (90, 91)


@dataclass(frozen=True)
class LabelMap:
    """`class_of` is the model's class by the data set's category. `rule` is a sentence that states why.

    `class_names` are indexed by the model's class; "" if the data set has no such class.
    """

    class_of: dict[int, int]
    class_names: tuple[str, ...]
    rule: str


def map_categories(
    categories: Mapping[int, str], num_classes: int | None, class_names: Sequence[str], source: str
) -> LabelMap:
    """The map of categories that have ids and names, like COCO's; errors call the data set `source`.

    By name if the model names its classes. Otherwise by `num_classes`: the number of categories, in the order of the
    ids; or the highest id, with ids that count from 1; or one more than the highest id, if there is an id 0.

    Raises `DataError` if no rule fits, or a category is not one of the model's names.
    """
    count = _known_count(num_classes, class_names, source)
    if class_names:
        return _by_name(categories, class_names, source)
    ids = sorted(categories)
    lowest, highest = ids[0], ids[-1]
    there = f"the {len(ids)} categories of {source}"
    if count == len(ids):
        rule = f"{there}, in the order of their ids, are the model's classes"
        return _numbered(categories, {number: index for index, number in enumerate(ids)}, count, rule)
    if lowest >= 1 and count == highest:
        rule = f"{there} are the model's classes by id - 1: the model's number of classes is the highest id"
        return _numbered(categories, {number: number - 1 for number in ids}, count, rule)
    if lowest == 0 and count == highest + 1:
        rule = f"{there} are the model's classes by id: the ids count from 0, and the model's last class is the highest"
        return _numbered(categories, {number: number for number in ids}, count, rule)
    fits = {len(ids), highest if lowest >= 1 else highest + 1}
    hint = _which_model(fits, count)
    if lowest == 0 and count == highest:
        hint = f"if '{categories[0]}' is not a class of the model, remove the category with the id 0; {hint}"
    raise DataError(
        f"{source} has {len(ids)} categories with ids from {lowest} to {highest}: a model of {_either(fits)} classes "
        f"fits, and this one has {count}",
        hint=hint,
    )


def map_class_numbers(
    highest: int, names: Sequence[str], num_classes: int | None, class_names: Sequence[str], source: str
) -> LabelMap:
    """The map of classes that are numbered from 0, as in YOLO's txt files; `highest` is the highest number used.

    `names` are those of the data set's classes, empty if it has none. By name if both name their classes; otherwise
    the number is the class.

    Raises `DataError` if another model must be meant, or a number is not a class.
    """
    count = _known_count(num_classes, class_names, source)
    if names and highest >= len(names):
        raise DataError(
            f"{source} has objects of class {highest}, and names {len(names)} classes, 0 to {len(names) - 1}",
            hint="set dataset.labels=FILE with the names of all classes, one per line, in the order of their numbers",
        )
    if names and class_names:
        return _by_name(dict(enumerate(names)), class_names, source)
    if names and len(names) != count:
        raise DataError(
            f"{source} has {len(names)} classes and the model has {count}: they cannot be matched",
            hint=_which_model({len(names)}, count),
        )
    if highest >= count:
        raise DataError(
            f"{source} has objects of class {highest}, and the model's {count} classes are 0 to {count - 1}",
            hint="use the data set that the model was trained on; class numbers count from 0",
        )
    if not names and count in _COCO_BY_ID and highest < _COCO_CATEGORIES:
        raise DataError(
            f"{source} has no class names, and class numbers up to {highest}: they may be COCO's ids, which have gaps, "
            f"like the model's {count} classes, or COCO's {_COCO_CATEGORIES} classes without gaps",
            hint="set dataset.labels=FILE with the names of the data set's classes, one per line; or use COCO's JSON "
            "file (dataset=coco)",
        )
    shown = names or class_names or [str(number) for number in range(count)]
    why = f"both have {count}" if names else f"all are below {count}, and the data set does not name its classes"
    numbers = {number: number for number in range(count)}
    rule = f"the class numbers of {source} are the model's classes: {why}"
    return _numbered(dict(enumerate(shown)), numbers, count, rule)


def _known_count(num_classes: int | None, class_names: Sequence[str], source: str) -> int:
    """The number of the model's classes."""
    if num_classes is None and not class_names:
        raise DataError(
            f"the categories of {source} cannot be matched to classes: the model states neither the number nor the "
            "names of its classes",
            hint="set model.num_classes=NUMBER",
        )
    if num_classes is not None and class_names and len(class_names) != num_classes:
        raise DataError(
            f"the model names {len(class_names)} classes and has {num_classes}",
            hint="check model.num_classes and model.label_offset: a background class is not counted",
        )
    return len(class_names) if num_classes is None else num_classes


def _by_name(categories: Mapping[int, str], class_names: Sequence[str], source: str) -> LabelMap:
    index_of = {_key(name): index for index, name in enumerate(class_names)}
    if unknown := [name for name in categories.values() if _key(name) not in index_of]:
        raise DataError(
            f"the category '{unknown[0]}' of {source} is not one of the model's {len(class_names)} class names "
            f"({len(unknown)} such categories)",
            hint=f"the model's classes are {_shown(class_names)}: rename the data set's categories, or use the data "
            "set that the model was trained on",
        )
    for names, owner in ((categories.values(), source), (class_names, "the model")):
        if twice := _repeated(names, among={_key(name) for name in categories.values()}):
            raise DataError(
                f"{owner} has several classes named '{twice}'",
                hint="rename them so that each name is unique",
            )
    class_of = {number: index_of[_key(name)] for number, name in categories.items()}
    rule = f"the {len(categories)} categories of {source} are the model's {len(class_names)} classes by name"
    return _numbered(categories, class_of, len(class_names), rule)


def _numbered(names: Mapping[int, str], class_of: dict[int, int], count: int, rule: str) -> LabelMap:
    class_names = [""] * count
    for number, index in class_of.items():
        class_names[index] = names[number]
    return LabelMap(class_of, tuple(class_names), rule)


def _which_model(fits: set[int], count: int) -> str:
    if count - 1 in fits:
        return "if the model's class 0 is background, set model.label_offset=1"
    if count + 1 in fits:
        return "if label_offset is 1 and the model's class 0 is not a background, set model.label_offset=0"
    with_background = _either({number + 1 for number in fits})
    return (
        f"use the data set that the model was trained on; a model of {with_background} classes whose class 0 is "
        "background needs model.label_offset=1"
    )


def _key(name: str) -> str:
    return name.strip().casefold()


def _repeated(names: Iterable[str], among: set[str]) -> str | None:
    counts = Counter(_key(name) for name in names)
    return next((name for name in counts if counts[name] > 1 and name in among), None)


def _either(numbers: set[int]) -> str:
    return " or ".join(str(number) for number in sorted(numbers))


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + ("..." if len(names) > 5 else "")
