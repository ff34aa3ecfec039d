"""Checksums of a folder: the hash of each file, written when the folder is complete and checked before use.

A disk may lose bytes, a power cut may leave empty files, a person may delete a file. XXH3 detects such accidents at
memory speed; it does not protect against an attacker.
"""

from __future__ import annotations

import json
from pathlib import Path

import xxhash

from edlab import durable

FILE = ".checksums.json"
_CHUNK = 1 << 20

# The hashes computed in this process, by device, inode, size and times: an unchanged file is not read again.
_hashed: dict[tuple[int, ...], str] = {}


def write(folder: Path) -> None:
    """Flush all files of the folder to the disk, then write their checksums next to them."""
    hashes = {str(path.relative_to(folder)): _hash(path) for path in _files(folder)}
    durable.sync_tree(folder)
    durable.write_text(folder / FILE, json.dumps(hashes, indent=1))


def write_unchecked(folder: Path) -> None:
    """Mark a complete folder whose files may change, such as a Python environment: its files are not checked."""
    durable.write_text(folder / FILE, "{}")


def find_damage(folder: Path) -> str:
    """Which file of the folder is missing or differs from its checksum, as a sentence; empty if none."""
    try:
        listed = json.loads((folder / FILE).read_text())
        if not isinstance(listed, dict):
            raise TypeError
    except (OSError, ValueError, TypeError):
        return "its checksums are missing or damaged"
    found = {str(path.relative_to(folder)) for path in _files(folder)}
    if missing := listed.keys() - found:
        return f"{min(missing)} is missing"
    for name, expected in listed.items():
        try:
            if _hash(folder / name) != expected:
                return f"{name} is damaged"
        except OSError as error:
            return f"{name} cannot be read: {error.strerror}"
    return ""


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != FILE)


def _hash(path: Path) -> str:
    stat = path.stat()
    key = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
    if key not in _hashed:
        digest = xxhash.xxh3_128()
        with open(path, "rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
        _hashed[key] = digest.hexdigest()
    return _hashed[key]
