"""Images with the boxes of a COCO instances file."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edlab.config import DatasetConfig
from edlab.data.boxes import doubtful_boxes
from edlab.data.catalogue import Catalogue
from edlab.data.coco_json import Instances, read_instances
from edlab.data.image_files import existing_folder, file_catalogue, find_image, no_images
from edlab.data.label_map import LabelMap, map_categories
from edlab.data.listing import Listing, is_folder, list_folders, scan
from edlab.errors import DataError
from edlab.source import Reason
from edlab.tasks.detection.annotations import Annotations, Boxes
from edlab.wording import none_of, plural

_SET = "set dataset.annotations=FILE, the instances JSON file of these images"


def list_coco(config: DatasetConfig, num_classes: int | None, class_names: Sequence[str]) -> Catalogue:
    """The images below `config.path` that the JSON file `config.annotations` names, with all of its objects.

    Without `config.annotations` the file is searched, see `_find_annotations`. The ground truth stays unchanged, so
    that its mAP is that of pycocotools.

    Raises `DataError` for an invalid file, if all images are missing, or if categories are not the model's.
    """
    root = existing_folder(config.path, "dataset.path=FOLDER, with the images, and dataset.annotations=FILE")
    file = Path(config.annotations).expanduser() if config.annotations else _find_annotations(root)
    instances = read_instances(file)
    label_map = map_categories(instances.categories, num_classes, class_names, file.name)
    listing, found, reasons = _match_images(root, instances.files, file)
    boxes = _boxes(instances, label_map)
    kept = tuple(boxes[position] for position in found)
    if instances.without_area:
        reasons.append(
            Reason(
                code="areas_of_boxes",
                message=f"{instances.without_area} annotations in {file.name} have no area: that of their box is used",
                advice="add the area of each outline: COCO classifies objects as small, medium or large by it",
            )
        )
    return file_catalogue(
        config,
        root,
        listing,
        labels=Annotations(kept, label_map.class_names),
        class_index={name: label_map.class_of[number] for number, name in instances.categories.items()},
        label_map=label_map.rule,
        reasons=[*listing.reasons(), *reasons, *doubtful_boxes(kept, file.name)],
    )


def _find_annotations(root: Path) -> Path:
    """The one `instances*.json` in `root`, in annotations/ in it, or in annotations/ next to it.

    If there are several, the one named after the folder: instances_val2017.json for val2017/, as in COCO.
    Raises `DataError` if that leaves none, or several.
    """
    here = Path(os.path.abspath(root))  # noqa: PTH100 (a link keeps its name)
    folders = [here, here / "annotations", here.parent / "annotations"]
    files = [
        Path(entry.path) for folder in folders if folder.is_dir() for entry in scan(folder) if not is_folder(entry)
    ]
    jsons = [path for path in dict.fromkeys(files) if path.suffix.lower() == ".json"]
    instances = [path for path in jsons if path.name.startswith("instances")]
    named = [path for path in instances if path.stem == f"instances_{here.name}"]
    for candidates in (instances, named):
        if len(candidates) == 1:
            return candidates[0]
    if instances:
        raise DataError(f"{root} has several annotation files: {_shown(instances)}", hint=_SET)
    others = f"; found: {_shown(jsons)}" if jsons else ""
    raise DataError(
        f"instances*.json is not found in {root}, {root}/annotations or {root}/../annotations{others}",
        hint=_SET,
    )


def _match_images(root: Path, files: list[str], source: Path) -> tuple[Listing, list[int], list[Reason]]:
    """The images that exist, in the order of their names, and which of `files` each one is.

    Raises `DataError` if none exists.
    """
    whole = list_folders(root, [""])[""]
    there = {image.name: image for image in whole.images}
    listing = Listing(left_out=whole.left_out)
    found = []
    for position in sorted(range(len(files)), key=files.__getitem__):
        image = there.pop(files[position], None) or find_image(root, files[position])
        if isinstance(image, str):
            listing.skipped.append((files[position], image))
        else:
            listing.images.append(image)
            found.append(position)
    if not found:
        raise _all_missing(root, files, [image.name for image in whole.images], listing, source)
    # Every file that the JSON file names is an image, whatever its suffix.
    listing.left_out = whole.left_out - Counter(Path(image.name).suffix.lower() for image in listing.images)
    reasons = []
    if missing := listing.skipped:
        reasons.append(
            Reason(
                code="images_missing",
                message=f"{len(missing)} of {len(files)} images in {source.name} are not in {root}, and were skipped: "
                f"{missing[0][0]}{'...' if len(missing) > 1 else ''}",
                advice="add the missing images: the mAP of a part of the data set cannot be compared with published "
                "values",
            )
        )
    if there:
        reasons.append(
            Reason(
                code="images_without_label",
                message=f"{plural(len(there), 'image was', 'images were')} ignored: in {root}, not in {source}",
                advice="add them to the JSON file, or remove them from the folder",
            )
        )
    return listing, found, reasons


def _all_missing(root: Path, files: list[str], there: list[str], listing: Listing, source: Path) -> DataError:
    if not there:
        return no_images(root, listing)
    wanted = {os.path.basename(file): file for file in files}  # noqa: PTH119 (118,000 names)
    hint = f"set dataset.path to the folder from which {source.name} names its images"
    elsewhere = next((name for name in there if os.path.basename(name) in wanted), None)  # noqa: PTH119
    if elsewhere is not None and elsewhere.endswith(f"/{wanted[Path(elsewhere).name]}"):
        hint = f"set dataset.path={root / elsewhere.removesuffix('/' + wanted[Path(elsewhere).name])}"
    return DataError(
        f"{none_of(len(files), 'image', f'in {source} is in {root}', f'in {source} is not in {root}')}; the first is "
        f"{files[0]}, and the folder has {there[0]}",
        hint=hint,
    )


def _boxes(instances: Instances, label_map: LabelMap) -> list[Boxes]:
    """The objects of each image of the JSON file, in its order."""
    order = np.argsort(instances.images, kind="stable")
    bounds = np.searchsorted(instances.images[order], np.arange(len(instances.files) + 1))
    corners = np.concatenate([instances.boxes[:, :2], instances.boxes[:, :2] + instances.boxes[:, 2:]], axis=1)[order]
    classes = np.array([label_map.class_of[number] for number in instances.category_ids.tolist()], np.int64)[order]
    crowds, areas = instances.crowds[order], instances.areas[order]
    return [
        Boxes(size, corners[start:end], classes[start:end], crowds[start:end], areas[start:end])
        for size, start, end in zip(instances.sizes, bounds[:-1], bounds[1:], strict=True)
    ]


def _shown(paths: Sequence[Path]) -> str:
    return ", ".join(str(path) for path in paths[:5]) + (f" and {len(paths) - 5} more" if len(paths) > 5 else "")
