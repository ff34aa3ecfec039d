"""The command that installs what is missing can be pasted into a shell."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from edlab import packages

ROOT = Path(__file__).parents[1]


def test_extras_are_installed_from_the_clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """edlab is not in a package index, and its clone has the versions that are tested."""
    monkeypatch.chdir(ROOT)
    here = packages.install(["edlab[openvino]", "edlab", "edlab[litert]", "edlab[litert]"])
    assert here == f"{sys.executable} -m pip install -c constraints.txt -e '.[litert,openvino]'"
    monkeypatch.chdir(tmp_path)
    assert packages.install(["edlab[openvino]", "edlab", "edlab[litert]"]) == f"cd {shlex.quote(str(ROOT))} && {here}"
    assert packages.install(["edlab"]).endswith("-m pip install -c constraints.txt -e .")


def test_extras_of_an_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "_ROOT", tmp_path)
    assert packages.install(["edlab[litert]"]) == f"{sys.executable} -m pip install 'edlab[litert]'"


def test_other_packages_go_into_the_same_python() -> None:
    assert packages.install(["acme-sdk>=2", "onnx"], "-U") == f"{sys.executable} -m pip install -U 'acme-sdk>=2' onnx"
