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
    arguments = [*options, *sorted({name for name in requirements if name not in own})]
    folder = ""
    if own:
        extras = sorted({extra for name in own for extra in re.findall(r"[\w-]+", name)[1:]})
        named = f"[{','.join(extras)}]" if extras else ""
        clone = (_ROOT / "pyproject.toml").is_file() and (_ROOT / _CONSTRAINTS).is_file()
        arguments += ["-c", _CONSTRAINTS, "-e", f".{named}"] if clone else [f"edlab{named}"]
        folder = shlex.quote(str(_ROOT)) if clone and Path.cwd() != _ROOT else ""
    python = shlex.quote(sys.executable)
    command = f"{python} -m pip install {shlex.join(arguments)}"
    return f"cd {folder} && {command}" if folder else command
