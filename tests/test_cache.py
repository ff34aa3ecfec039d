"""A cached folder is whole or absent, made once, whoever asks at the same time."""

from __future__ import annotations

import errno
import os
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edlab import checksums
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


def put(text: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / "out").write_text(text)
        (folder / "deep").mkdir()
        (folder / "deep" / "log").write_text("l")

    return make


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0x40
    file.write_bytes(data)


def same_time(file: Path) -> None:
    """The content changes, the times that a program can set do not: a copied or restored disk."""
    stat = file.stat()
    flip(file)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "flipped": flip,
    "flipped, same times": same_time,
    "empty": lambda file: file.write_bytes(b""),
    "truncated": lambda file: os.truncate(file, file.stat().st_size // 2),
    "deleted": Path.unlink,
    "a folder": lambda file: (file.unlink(), file.mkdir()),
    "a link to nowhere": lambda file: (file.unlink(), file.symlink_to("nowhere")),
}


@pytest.mark.parametrize("name", ["out", "deep/log", checksums.FILE])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_dropped_reported_and_made_anew(cache: Cache, damage: str, name: str) -> None:
    folder = cache.get_or_make("steps", "k", put("whole"))
    DAMAGES[damage](folder / name)
    later = Cache(cache.root)
    again = later.get_or_make("steps", "k", put("whole"))
    assert (again / "out").read_text() == "whole"
    assert len(later.dropped) == 1
    assert "steps/k" in later.dropped[0]
    assert later.find("steps", "k") == again
    assert len(later.dropped) == 1


def test_an_entry_of_a_version_without_checksums_is_made_anew(cache: Cache) -> None:
    old = cache.root / "steps" / "k"
    old.mkdir(parents=True)
    (old / "out").write_text("old")
    assert (cache.get_or_make("steps", "k", put("new")) / "out").read_text() == "new"


def test_what_a_killed_process_left_is_removed_and_what_is_being_made_is_not(cache: Cache) -> None:
    cache.get_or_make("steps", "whole", put("x"))
    left = cache.root / "steps" / ".gone-1234"
    left.mkdir()
    (left / "out").write_text("half")

    def make(folder: Path) -> None:
        Cache(cache.root).tidy()
        assert folder.is_dir()
        assert not left.exists()

    cache.get_or_make("steps", "made", make)
    assert cache.find("steps", "whole")


def test_who_makes_an_entry_removes_what_its_killed_maker_left(cache: Cache) -> None:
    left = cache.root / "steps" / ".k-1234"
    left.mkdir(parents=True)
    cache.get_or_make("steps", "k", put("x"))
    assert not left.exists()


def test_above_its_size_the_cache_loses_what_was_used_longest_ago(cache: Cache) -> None:
    for age, key in enumerate(("new", "old", "older")):
        folder = cache.get_or_make("steps", key, put("x" * 1000))
        used = time.time() - age * 86_400
        os.utime(folder / checksums.FILE, (used, used))
    cache.tidy(max_gb=2.5e-6)
    assert [entry.key for entry in cache.entries()] == ["new", "old"]
    cache.tidy(max_gb=0)
    assert [entry.key for entry in cache.entries()] == ["new"]  # it may be in use


def test_clear_removes_all_but_not_under_a_run(cache: Cache) -> None:
    cache.get_or_make("steps", "a", put("x"))
    with cache.in_use(), cache.in_use(), pytest.raises(StorageError, match="a run is using"):
        Cache(cache.root).clear()
    assert cache.find("steps", "a")
    assert [entry.key for entry in cache.clear()] == ["a"]
    assert not cache.find("steps", "a")


def test_a_cache_that_can_only_be_read_serves_what_is_intact(cache: Cache, tmp_path: Path) -> None:
    for key in ("good", "bad"):
        cache.get_or_make("steps", key, put(key))
    flip(cache.root / "steps" / "bad" / "out")
    (cache.root / "steps" / ".left-1").mkdir()
    mount = ["mount", "--bind", "-o", "ro", str(cache.root), str(cache.root)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("needs the right to mount a folder that can only be read")
    try:
        with cache.in_use():
            cache.tidy(max_gb=0)
            assert cache.find("steps", "good")
            assert cache.find("steps", "bad") is None
            with pytest.raises(StorageError, match="cannot write"):
                cache.get_or_make("steps", "bad", put("bad"))
    finally:
        subprocess.run(["umount", "-l", str(cache.root)], check=True)


def test_verify_names_what_is_damaged(cache: Cache) -> None:
    cache.get_or_make("steps", "a", put("x"))
    flip(cache.get_or_make("steps", "b", put("x")) / "out")
    assert {entry.key: problem for entry, problem in cache.verify()} == {"a": "", "b": "out is damaged"}
