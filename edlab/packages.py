"""The command that installs Python packages next to edlab, for hints."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

_ROOT = Path(__file__).parents[1]  # of a clone
_CONSTRAINTS = "constraints.txt"


def install(requirements: Sequence[str], *options: str) -> str:
    """The command that installs these into the Python that runs; `options` are pip's.

    The extras of edlab are installed from its clone, if it runs from one: it is not in a package index.
    """
    own = [name for name in requirements if re.fullmatch(r"edlab(\[.+\])?", name)]
    others = sorted({name for name in requirements if name not in own})
    if not own:
        return _pip([*options, *others])
    extras = sorted({extra for name in own for extra in re.findall(r"[\w-]+", name)[1:]})
    named = f"[{','.join(extras)}]" if extras else ""
    if not (_ROOT / "pyproject.toml").is_file() or not (_ROOT / _CONSTRAINTS).is_file():
        return _pip([*options, f"edlab{named}", *others])
    there = "" if Path.cwd() == _ROOT else f"cd {shlex.quote(str(_ROOT))} && "
    return there + _pip([*options, "-c", _CONSTRAINTS, "-e", f".{named}", *others])


def _pip(arguments: Sequence[str]) -> str:
    return shlex.join([sys.executable, "-m", "pip", "install", *arguments])
