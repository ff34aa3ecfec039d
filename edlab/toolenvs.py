"""Python environments for vendors' tools that cannot share edlab's own: created from a recipe, once, in the cache."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edlab.cache import Cache, digest
from edlab.errors import ConversionError, MissingDependencyError
from edlab.isolation import log_tail

_AGENT_NEEDS = ("numpy",)  # edlab's agent runs the tools
_LOG = "install.log"


@dataclass(frozen=True)
class ToolEnv:
    """What to install, and for which Python.

    requirements: in pip's form; pin them, since a new version is used only if the recipe changes.
    python: the version that the tools need, 3.7 or later, such as "3.10"; empty: edlab's own.
    """

    requirements: tuple[str, ...]
    python: str = ""


def base_python(recipe: ToolEnv) -> str:
    """The interpreter on this machine that creates the recipe's environment.

    Raises `MissingDependencyError` if that version is not found.
    """
    if not recipe.python:
        return sys.executable
    from python_discovery import get_interpreter

    found = get_interpreter(recipe.python)
    if found is None:
        raise MissingDependencyError(
            f"Python {recipe.python} is not found",
            hint=f"install it (for example: uv python install {recipe.python}) or add it to the PATH",
        )
    return str(found.system_executable or found.executable)  # not the shim that pyenv puts before it


def find(recipe: ToolEnv, cache: Cache) -> Path | None:
    """The interpreter of the environment, if it exists."""
    folder = cache.find_in_place("toolenvs", _key(recipe))
    return _python(folder) if folder else None


def get_or_make(recipe: ToolEnv, cache: Cache, on_install: Callable[[], None] = lambda: None) -> Path:
    """The interpreter of the environment, which is created the first time; `on_install` is called before that.

    Raises `MissingDependencyError` if that Python is not found, and `ConversionError` if pip fails.
    """

    def make(folder: Path) -> None:
        base = base_python(recipe)
        on_install()
        log = folder / _LOG
        _run([base, "-m", "venv", str(folder)], log, recipe)
        install = [str(_python(folder)), "-I", "-m", "pip", "install", "--disable-pip-version-check"]
        _run([*install, *_AGENT_NEEDS, *recipe.requirements], log, recipe)

    return _python(cache.get_or_make_in_place("toolenvs", _key(recipe), make))


def _key(recipe: ToolEnv) -> str:
    """One environment for all converters with the same recipe."""
    return digest([recipe.python or platform.python_version(), *recipe.requirements])


def _python(folder: Path) -> Path:
    return folder / "bin" / "python"


def _run(command: list[str], log: Path, recipe: ToolEnv) -> None:
    with open(log, "ab") as file:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT)
    if done.returncode:
        raise ConversionError(
            f"cannot install {', '.join(recipe.requirements)} for Python {recipe.python or platform.python_version()}",
            hint="read the end of pip's output, or install the packages yourself and set converter.python",
            log=log_tail(log),
        )
