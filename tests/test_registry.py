"""What `package.module:name` names, or what is wrong with it; where a module is; what packages in the tree add."""

from __future__ import annotations

import os.path
from pathlib import Path

import pytest

from edlab.errors import ConfigError
from edlab.registry import did_you_mean, load_target, places, plugins


def test_a_target_is_the_object_itself() -> None:
    assert load_target("os.path:join") is os.path.join


@pytest.mark.parametrize("target", ["os.path", "os.path:", ":join"])
def test_what_is_not_of_the_form_is_said(target: str) -> None:
    with pytest.raises(ConfigError, match=r"package\.module:name"):
        load_target(target)


def test_a_name_that_the_module_lacks_is_said() -> None:
    with pytest.raises(ConfigError, match=r"'os\.path' has no 'fly'"):
        load_target("os.path:fly")


@pytest.mark.parametrize("line", ["import no_such_package", "from os import no_such_name"])
def test_a_module_that_cannot_be_imported_is_named_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    (tmp_path / "unimportable_nets.py").write_text(line)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=r"cannot import 'unimportable_nets' .*no_such_") as caught:
        load_target("unimportable_nets:make")
    assert "import unimportable_nets" in caught.value.hint


def test_places_are_found_without_importing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ruined_net/__init__.py", "ruined_net/part.py", "ruined_net/conf/device/a.yaml", "lone_net.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("raise RuntimeError")
    monkeypatch.syspath_prepend(tmp_path)
    assert places("ruined_net") == [tmp_path / "ruined_net"]
    assert places("ruined_net.part") == [tmp_path / "ruined_net" / "part.py"]
    assert places("ruined_net.conf") == [tmp_path / "ruined_net" / "conf"]
    assert places("lone_net") == [tmp_path / "lone_net.py"]
    assert places("lone_net.part") == places("ruined_net.nothing.at_all") == places("no_such_package.part") == []


def test_a_package_in_the_tree_adds_its_parts_as_an_installed_one_does() -> None:
    for group in ("runtimes", "converters"):
        assert plugins(group)["ncnn"].value.startswith("edlab.vendors.ncnn.")
        assert plugins(group)["ncnn"].group == f"edlab.{group}"


@pytest.mark.parametrize(("wrong", "known"), [("batch", "cache"), ("--model", "--help"), ("foo", "bar")])
def test_another_word_is_no_suggestion(wrong: str, known: str) -> None:
    assert did_you_mean(wrong, [known]) == ""


@pytest.mark.parametrize(("wrong", "known"), [("--versoin", "--version"), ("opnevino", "openvino"), ("cpuu", "cpu")])
def test_a_misspelt_name_is_suggested(wrong: str, known: str) -> None:
    assert did_you_mean(wrong, ["unrelated", known]) == f"did you mean {known!r}? "
