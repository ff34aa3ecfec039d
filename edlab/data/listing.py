"""Lists the image files of a folder and its other contents; only folders are opened."""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from edlab.errors import DataError
from edlab.source import Reason
from edlab.wording import plural

# torchvision.datasets.folder.IMG_EXTENSIONS
EXTENSIONS = frozenset((".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"))

# Files and folders that systems and tools create, in addition to names that begin with a dot.
_LEFTOVERS = frozenset(
    (
        "__macosx", "@eadir", "#recycle", "@recycle", "$recycle.bin", "system volume information", "lost+found",
        "__pycache__", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r",
    )
)  # fmt: skip
LINKED = "a link to a folder that is already read"
HIDDEN = "hidden files and folders"
# Types of files that are usual next to images. Any other type may be an image that is missing from the accuracy.
_NO_IMAGES = frozenset(
    (
        ".txt", ".md", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".html", ".htm", ".log", ".ini",
        ".cfg", ".toml", ".db", ".py", ".ipynb", ".sh", ".pdf", ".md5", ".sha256", ".names", ".cache",
    )
)  # fmt: skip
_KINDS = {stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


@dataclass(frozen=True)
class ImageFile:
    """A regular file: its name relative to the data set's folder, and a stamp that changes with file or content.

    `stamp` is size, modification time, change time and inode. A program cannot set back the change time, and the inode
    differs after another file was moved to this name.
    """

    name: str
    path: str
    stamp: tuple[int, int, int, int]


@dataclass
class Listing:
    """`skipped` are (name, reason) of images that cannot be read; `left_out` counts files that are not images."""

    images: list[ImageFile] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)  # by suffix; "" is a file without one

    def reasons(self) -> list[Reason]:
        """A file that may be an image of an unsupported type."""
        unread = {suffix: n for suffix, n in sorted(self.left_out.items()) if suffix not in {*_NO_IMAGES, HIDDEN}}
        if not unread:
            return []
        counts = ", ".join(f"{count} {suffix or 'without a suffix'}" for suffix, count in unread.items())
        files = plural(sum(unread.values()), "file of an unsupported type was", "files of unsupported types were")
        return [
            Reason(
                code="files_left_out",
                message=f"{files} ignored: {counts}",
                advice="convert them to .png or .jpg, or remove them if they are not part of the data set",
            )
        ]


def is_leftover(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or created by a system or tool."""
    return name.startswith(".") or name.lower() in _LEFTOVERS


def scan(folder: str | Path) -> list[os.DirEntry[str]]:
    """The contents of a folder, sorted by name. Raises `DataError` if it cannot be read: its images would be lost."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(
            f"cannot read the folder {folder}: {error.strerror}",
            hint="fix its permissions (chmod u+rx), or remove it from the data set",
        ) from error


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether this is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def list_folders(root: Path, folders: Iterable[str]) -> dict[str, Listing]:
    """The images below each folder of `root`, at any depth, by their name relative to `root`; "" is `root` itself.

    Links are followed, each folder once: a link to a parent folder does not loop. Hidden files and folders are
    ignored. Raises `DataError` for a folder that cannot be read.
    """
    above = folders_above(root)
    return {folder: _list_folder(f"{root}/{folder}", f"{folder}/" if folder else "", above) for folder in folders}


def folders_above(root: Path) -> set[tuple[int, int]]:
    """The `identity_of` of `root` and of each folder above it: a link to one of them is a loop."""
    return {identity_of(folder) for folder in (root, *root.resolve().parents)}


def _list_folder(path: str, prefix: str, above: set[tuple[int, int]]) -> Listing:
    listing = Listing()
    seen = {*above, identity_of(path)}
    pending = [(path, prefix)]
    while pending:
        path, prefix = pending.pop()
        for entry in scan(path):
            name = prefix + entry.name
            if is_leftover(entry.name):
                listing.left_out[HIDDEN] += 1
            elif not is_folder(entry):
                add_file(entry, prefix, listing)
            elif _suffix(entry.name) in EXTENSIONS:
                listing.skipped.append((_printable(name), "a folder, not a file"))
            elif (identity := identity_of(entry.path)) in seen:
                listing.skipped.append((_printable(name), LINKED))
            else:
                seen.add(identity)
                pending.append((entry.path, f"{name}/"))
    listing.images.sort(key=lambda image: image.name)
    listing.skipped.sort()
    return listing


def add_file(entry: os.DirEntry[str], prefix: str, listing: Listing) -> None:
    """Add a file to the listing by its type; `prefix` is its folder's name."""
    name = _printable(prefix + entry.name)
    try:
        status = entry.stat()
    except OSError as error:
        broken = entry.is_symlink() and isinstance(error, FileNotFoundError)
        listing.skipped.append((name, "a broken link" if broken else error.strerror or str(error)))
        return
    if _suffix(entry.name) not in EXTENSIONS:
        listing.left_out[_suffix(entry.name)] += 1
    elif (reason := why_unreadable(entry.path, status)) is not None:
        listing.skipped.append((name, reason))
    else:
        listing.images.append(ImageFile(name, entry.path, stamp(status)))


def why_unreadable(path: str, status: os.stat_result) -> str | None:
    """None for a regular file that can be read. Opening a FIFO blocks, and a device may be endless.

    Permissions are checked here, because they may change while the stamp does not: a user joins a group.
    """
    if not stat.S_ISREG(status.st_mode):
        return f"{_KINDS.get(stat.S_IFMT(status.st_mode), 'a folder')}, not a file"
    return None if os.access(path, os.R_OK) else os.strerror(errno.EACCES)


def stamp(status: os.stat_result) -> tuple[int, int, int, int]:
    """See `ImageFile`."""
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def identity_of(folder: str | Path) -> tuple[int, int]:
    """Identical for a folder and for each link to it."""
    try:
        status = os.stat(folder)  # noqa: PTH116
    except OSError:  # the scan of the folder reports why
        return -1, -1
    return status.st_dev, status.st_ino


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 (50,000 names)


def _printable(name: str) -> str:
    """A name that is not UTF-8 could not be recorded."""
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")
