"""The built-in ways to reach a device pass the suite that third parties subclass."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edlab.config import DeviceConfig
from edlab.openssh import CONFIG_VARIABLE
from edlab.testing import sshd
from edlab.testing.device import DeviceConformance
from edlab.testing.sshd import LoopbackBoard


class TestLocal(DeviceConformance):
    def config(self) -> DeviceConfig:
        return DeviceConfig(name="cpu")


@pytest.mark.skipif(bool(sshd.missing()), reason=f"not installed: {sshd.missing()}")
class TestSsh(DeviceConformance):
    @pytest.fixture(autouse=True)
    def _board(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        with LoopbackBoard(tmp_path / "board") as board:
            monkeypatch.setenv(CONFIG_VARIABLE, str(board.config))
            yield

    def config(self) -> DeviceConfig:
        return DeviceConfig(name="board", kind="ssh", address=LoopbackBoard.host, python=sys.executable)
