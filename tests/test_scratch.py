"""Temporary files of a command, and what a killed one leaves."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from edlab.scratch import temporary_folder

_HOLDS_ONE = """
import sys, tempfile
from edlab.scratch import temporary_folder
with temporary_folder():
    tempfile.mkstemp()
    print("made", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def test_files_of_this_process_and_of_its_children_lie_there_until_its_end(root: Path) -> None:
    with temporary_folder():
        ours = Path(tempfile.mkdtemp())
        child = subprocess.run([sys.executable, "-c", "import tempfile; print(tempfile.gettempdir())"], stdout=-1)
        assert ours.parent.parent == root
        assert Path(child.stdout.decode().strip()) == ours.parent
    assert list(root.iterdir()) == []
    assert os.environ["TMPDIR"] == tempfile.gettempdir() == str(root)


def test_what_a_killed_command_left_is_removed_by_the_next_and_not_before(root: Path) -> None:
    held = subprocess.Popen([sys.executable, "-c", _HOLDS_ONE], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert held.stdout
    assert held.stdout.readline() == b"made\n"
    (left,) = root.iterdir()
    with temporary_folder():
        assert list(left.iterdir())
    held.kill()
    held.wait()
    with temporary_folder():
        assert not left.exists()


def test_a_folder_that_cannot_be_written_is_for_others_to_report(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object, **options: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "mkdtemp", full)
    with temporary_folder():
        assert tempfile.gettempdir() == str(root)
