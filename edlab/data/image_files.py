"""Image files of a data set: found in its folder, decoded on demand."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from edlab.config import DatasetConfig, ExifOrientation
from edlab.data.catalogue import Catalogue
from edlab.data.listing import EXTENSIONS, ImageFile, Listing, stamp, why_unreadable
from edlab.data.pixels import decode
from edlab.errors import DataError, DataUnavailableError


def existing_folder(path: str | None, hint: str) -> Path:
    """The folder. Raises `DataUnavailableError` if no path is set, `DataError` if the folder does not exist."""
    if not path:
        raise DataUnavailableError("the data set's folder is missing: dataset.path is not set", hint=f"set {hint}")
    root = Path(path).expanduser()
    try:
        found = root.is_dir()
    except OSError as error:
        raise DataError(f"cannot read {root}: {error.strerror}", hint="check its permissions") from error
    if not found:
        raise DataError(f"the data set {root} is not found", hint=f"set {hint}")
    return root


def no_images(root: Path, listing: Listing) -> DataError:
    """The error for a folder without images: it states what the folder contains instead."""
    others = Counter({suffix: count for suffix, count in listing.left_out.items() if suffix.startswith(".")})
    there = "; there are " + ", ".join(f"{count} {suffix}" for suffix, count in others.most_common(5)) if others else ""
    first = f"; {listing.skipped[0][0]}: {listing.skipped[0][1]}" if listing.skipped else ""
    return DataError(f"{root} has no images ({', '.join(sorted(EXTENSIONS))}){there}{first}", hint="check dataset.path")


def find_image(root: Path, name: str) -> ImageFile | str:
    """The image of this name, or why it cannot be read."""
    try:
        status = (root / name).stat()
    except OSError as error:
        return error.strerror or str(error)
    except ValueError as error:  # a name that no file can have: a NUL in it, or half a surrogate pair
        return f"not a file name: {error}"
    return why_unreadable(str(root / name), status) or ImageFile(name, str(root / name), stamp(status))


def file_catalogue(config: DatasetConfig, root: Path, listing: Listing, **facts: Any) -> Catalogue:
    """The listed images as a catalogue, in the order of the listing. `facts` are further fields of it."""
    paths = [Path(image.path) for image in listing.images]
    apply = config.exif_orientation == ExifOrientation.apply
    return Catalogue(
        names=[image.name for image in listing.images],
        origin=[str(root.resolve()), config.exif_orientation],
        identity=[[image.name, *image.stamp] for image in listing.images],
        open_image=lambda index: decode(paths[index], apply_orientation=apply),
        skipped=listing.skipped,
        left_out=dict(listing.left_out),
        **facts,
    )
