"""A cached folder is whole or absent, made once, whoever asks at the same time."""

from __future__ import annotations

import errno
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edlab.cache import Cache, digest, sha256_files
from edlab.errors import StorageError


def test_made_once_and_found_again(cache: Cache) -> None:
    made = []

    def make(folder: Path) -> None:
        made.append(folder)
        (folder / "out").write_text("x")

    assert cache.find("steps", "k") is None
    first = cache.get_or_make("steps", "k", make)
    assert cache.get_or_make("steps", "k", make) == first == cache.find("steps", "k")
    assert (first / "out").read_text() == "x"
    assert len(made) == 1


def test_parallel_makers_make_once(cache: Cache) -> None:
    made = []
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: cache.get_or_make("steps", "k", made.append), range(8)))
    assert len(set(folders)) == len(made) == 1


def test_a_failure_leaves_nothing(cache: Cache) -> None:
    def half(folder: Path) -> None:
        (folder / "out").write_text("half")
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        cache.get_or_make("steps", "k", half)
    assert cache.find("steps", "k") is None
    assert not [path for path in cache.root.rglob("*") if path.suffix != ".lock" and path.is_file()]


def test_a_full_disk_says_where_and_what_to_do(cache: Cache) -> None:
    def full(folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(folder / "out"))

    with pytest.raises(StorageError, match="No space left") as caught:
        cache.get_or_make("steps", "k", full)
    assert "EDLAB_CACHE" in caught.value.hint


def test_digests_follow_content_not_order(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").write_bytes(b"2")
    assert digest({"x": 1, "y": 2}) == digest({"y": 2, "x": 1})
    assert sha256_files([tmp_path / "a", tmp_path / "b"]) != sha256_files([tmp_path / "b", tmp_path / "a"])
