"""Files that an agent keeps for the host. How they get there: tests/devices/test_ssh.py."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from edlab.agent.store import Store

LIMIT_BYTES = 1e9
CONTENTS = {"model.xml": b"<net/>", "model.bin": bytes(range(256))}
SIZES = {name: len(content) for name, content in CONTENTS.items()}
DIGESTS = {name: hashlib.sha256(content).hexdigest() for name, content in CONTENTS.items()}


def quiet() -> None:
    pass


def send(store: Store) -> Path:
    """The folder of these files, which were not there."""
    part = store.expect("key", SIZES, DIGESTS, LIMIT_BYTES, quiet).part
    assert part is not None
    for name, content in CONTENTS.items():
        (Path(part) / name).write_bytes(content)
    folder = store.accept("key", DIGESTS, quiet).folder
    assert folder is not None
    return Path(folder)


def test_what_is_accepted_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[object] = []
    sync, rename = os.fsync, os.rename

    def tell_sync(descriptor: int) -> None:
        sync(descriptor)
        done.append(os.fstat(descriptor).st_ino)

    def tell_rename(old: str, new: str) -> None:
        rename(old, new)
        done.append("renamed")

    monkeypatch.setattr(os, "fsync", tell_sync)
    monkeypatch.setattr(os, "rename", tell_rename)
    folder = send(Store(str(tmp_path)))
    at = done.index("renamed")
    assert {(folder / name).stat().st_ino for name in CONTENTS} | {folder.stat().st_ino} <= set(done[:at])
    assert folder.parent.stat().st_ino in done[at:]


def test_a_file_that_someone_wrote_to_is_checked_again(tmp_path: Path) -> None:
    folder = send(Store(str(tmp_path)))
    assert Store(str(tmp_path)).expect("key", SIZES, DIGESTS, LIMIT_BYTES, quiet).folder
    (folder / "model.bin").write_bytes(CONTENTS["model.bin"])
    assert Store(str(tmp_path)).expect("key", SIZES, DIGESTS, LIMIT_BYTES, quiet).folder
    (folder / "model.bin").write_bytes(bytes(SIZES["model.bin"]))
    assert Store(str(tmp_path)).expect("key", SIZES, DIGESTS, LIMIT_BYTES, quiet).part


def test_files_are_read_once_and_not_in_each_run(tmp_path: Path) -> None:
    send(Store(str(tmp_path)))
    others = dict.fromkeys(DIGESTS, "0" * 64)  # would not match, were they read
    assert Store(str(tmp_path)).expect("key", SIZES, others, LIMIT_BYTES, quiet).folder
