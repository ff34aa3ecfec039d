"""Data sets that are folders of image files."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edlab.config import DatasetConfig
from edlab.data.catalogue import Catalogue
from edlab.data.classes import imagenet_wnids, index_classes, read_lines
from edlab.data.image_files import existing_folder, file_catalogue, find_image, no_images
from edlab.data.levels import check_level, images_in_no_class
from edlab.data.listing import (
    HIDDEN,
    LINKED,
    Listing,
    add_file,
    folders_above,
    identity_of,
    is_folder,
    is_leftover,
    list_folders,
    scan,
)
from edlab.errors import DataError
from edlab.source import Reason
from edlab.wording import none_of, plural


def list_image_folder(config: DatasetConfig, num_classes: int, class_names: Sequence[str] = ()) -> Catalogue:
    """`config.path`/<class>/<image>, images at any depth below the class folder. See `index_classes` for the classes.

    Raises `DataError` if it is missing or empty, its classes are unknown, or another folder must be meant;
    `DataUnavailableError` if no path is set.
    """
    root = existing_folder(config.path, "dataset.path=FOLDER, with one folder of images for each class")
    folders, stray = _class_folders(root)
    if not folders:
        if stray.images:
            raise images_in_no_class(root, len(stray.images))
        raise DataError(
            f"{root} has no class folders",
            hint="the layout is <dataset.path>/<class>/<image>; see dataset=image_folder",
        )
    listings = list_folders(root, folders)
    listing = _joined(listings.values())
    if not listing.images:
        raise no_images(root, listing)
    if len(stray.images) > len(listing.images):
        raise images_in_no_class(root, len(stray.images))
    if not config.labels:
        check_level(root, folders, [image.name for image in listing.images], num_classes)
    class_index, classes = index_classes(config, root, folders, num_classes, class_names)
    labels = np.array([class_index[image.name.split("/", 1)[0]] for image in listing.images], dtype=np.int64)
    reasons = [*listing.reasons(), *_folder_reasons(listings, stray)]
    listing.skipped += stray.skipped
    listing.left_out += stray.left_out
    return file_catalogue(
        config, root, listing, labels=labels, classes=classes, class_index=class_index, reasons=reasons
    )


def list_imagenet(config: DatasetConfig, num_classes: int) -> Catalogue:
    """The ImageNet-1k validation images: folders by WordNet id, or one flat folder with a `labels` file.

    Each line of the file is `<file name> <class>`, the class an index from 0 or a WordNet id. The folder is
    `config.path`, else the environment variable EDLAB_IMAGENET; its subfolder `val` is used if it exists.
    """
    root = existing_folder(
        config.path or os.environ.get("EDLAB_IMAGENET"),
        "dataset.path=FOLDER or the environment variable EDLAB_IMAGENET to the validation images, in folders by "
        "WordNet id; or use dataset=imagenette, which is downloaded",
    )
    root = root / "val" if (root / "val").is_dir() else root
    if config.labels is None:
        return list_image_folder(dataclasses.replace(config, path=str(root)), num_classes)
    names, labels = _read_file_labels(Path(config.labels).expanduser())
    found, listing = [], _class_folders(root)[1]
    unlabelled = len({image.name for image in listing.images} - set(names))
    listing.images, listing.skipped = [], []
    for position, name in enumerate(names):
        image = find_image(root, name)
        if isinstance(image, str):
            listing.skipped.append((name, image))
        else:
            listing.images.append(image)
            found.append(position)
    if not found:
        file = config.labels
        raise DataError(
            f"{none_of(len(names), 'image', f'in {file} is in {root}', f'in {file} is not in {root}')}",
            hint="check dataset.path",
        )
    reasons = listing.reasons()
    if unlabelled:
        reasons.append(
            Reason(
                code="images_without_label",
                message=f"{plural(unlabelled, 'image was', 'images were')} ignored: in {root}, not in {config.labels}",
                advice="add them to the labels file, or remove them from the folder",
            )
        )
    return file_catalogue(config, root, listing, labels=labels[found], classes=len(imagenet_wnids()), reasons=reasons)


def list_unlabelled(config: DatasetConfig) -> Catalogue:
    """All images below `config.calibration_path`, without labels, for calibration. Raises `DataError`."""
    root = existing_folder(config.calibration_path, "dataset.calibration_path=FOLDER with images")
    listing = list_folders(root, [""])[""]
    if not listing.images:
        raise no_images(root, listing)
    return file_catalogue(config, root, listing, reasons=listing.reasons())


def _class_folders(root: Path) -> tuple[list[str], Listing]:
    """The names of the folders in `root`, and the listing of other files there."""
    folders, stray, above = [], Listing(), folders_above(root)
    for entry in scan(root):
        if is_leftover(entry.name):
            stray.left_out[HIDDEN] += 1
        elif not is_folder(entry):
            add_file(entry, "", stray)
        elif identity_of(entry.path) in above:
            stray.skipped.append((entry.name, LINKED))
        else:
            folders.append(entry.name)
    return folders, stray


def _joined(listings: Iterable[Listing]) -> Listing:
    whole = Listing()
    for listing in listings:
        whole.images += listing.images
        whole.skipped += listing.skipped
        whole.left_out += listing.left_out
    whole.images.sort(key=lambda image: image.name)
    return whole


def _folder_reasons(listings: dict[str, Listing], stray: Listing) -> list[Reason]:
    reasons = []
    if empty := [name for name, listing in listings.items() if not listing.images]:
        reasons.append(
            Reason(
                code="empty_class_folders",
                message=f"{len(empty)} of {len(listings)} class folders have no images: {', '.join(empty[:5])}"
                + ("..." if len(empty) > 5 else ""),
                advice="add images, or remove the folders that are not classes: each folder counts as a class",
            )
        )
    if stray.images:
        reasons.append(
            Reason(
                code="images_without_class",
                message=f"{plural(len(stray.images), 'image was', 'images were')} ignored, in no class folder: "
                f"{stray.images[0].name}{'...' if len(stray.images) > 1 else ''}",
                advice="move them into the folder of their class, or remove them from the data set",
            )
        )
    return reasons


def _read_file_labels(path: Path) -> tuple[list[str], NDArray[np.int64]]:
    wnids = {name: index for index, name in enumerate(imagenet_wnids())}
    names, labels = [], []
    for number, line in enumerate(read_lines(path), start=1):
        name, _, label = line.strip().rpartition(" ")
        if not name or not (label in wnids or label.isdigit()):
            raise DataError(
                f"{path} line {number}: '{line[:60]}' is not '<file name> <class>'",
                hint="the class is an index from 0, or a WordNet id",
            )
        names.append(name.strip())
        labels.append(wnids[label] if label in wnids else int(label))
    return names, np.array(labels, dtype=np.int64)
