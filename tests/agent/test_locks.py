"""Where the lock of a device lies, and who may open it. That one waits for another: tests/devices/test_ssh.py."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from edlab.agent import locks
from edlab.agent.errors import AgentError


def acquire(name: str = "board") -> int:
    return locks.acquire(name, "me@here", os.getpid(), 0, pytest.fail)


def test_every_user_may_open_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(locks.FOLDER_VARIABLE, str(tmp_path))
    mask = os.umask(0o077)
    try:
        os.close(acquire())
    finally:
        assert os.umask(mask) == 0o077
    (file,) = tmp_path.iterdir()
    assert file.name == "edlab-board.lock"
    assert stat.S_IMODE(file.stat().st_mode) == 0o666


def test_a_file_that_is_there_is_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system may refuse that for another user's."""
    monkeypatch.setenv(locks.FOLDER_VARIABLE, str(tmp_path))
    os.close(acquire())
    given: list[int] = []
    opened = os.open

    def open_and_tell(path: str, flags: int, mode: int = 0o777) -> int:
        given.append(flags)
        return opened(path, flags, mode)

    monkeypatch.setattr(os, "open", open_and_tell)
    os.close(acquire())
    assert given
    assert not any(flags & os.O_CREAT for flags in given)


def test_a_link_that_someone_laid_there_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(locks.FOLDER_VARIABLE, str(tmp_path))
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "edlab-board.lock").symlink_to(victim)
    with pytest.raises(AgentError, match=r"cannot open the lock .*/edlab-board\.lock") as caught:
        acquire()
    assert "device.env.EDLAB_LOCK_DIR" in caught.value.hint
    assert victim.read_text() == "precious"


@pytest.mark.parametrize(("mode", "used"), [(0o1777, "system"), (0o755, "other")])
def test_the_folder_is_one_that_every_user_can_write_to(
    mode: int, used: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root too goes where the others go."""
    for name in ("system", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "system").chmod(mode)
    monkeypatch.delenv(locks.FOLDER_VARIABLE, raising=False)
    monkeypatch.setattr(locks, "_SYSTEM_FOLDER", str(tmp_path / "system"))
    monkeypatch.setattr(locks, "_OTHER_FOLDER", str(tmp_path / "other"))
    os.close(acquire())
    assert [path.parent.name for path in tmp_path.rglob("*.lock")] == [used]
