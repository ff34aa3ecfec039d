"""The agent as one zip file that any Python runs: the same bytes for the same sources."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import edlab.agent
from edlab.agent.plugins import FILE, GROUPS
from edlab.cache import Cache, digest
from edlab.errors import ConfigError
from edlab.registry import places, plugins

NAME = "agent.zip"
_START = "from edlab.agent.__main__ import main\n\nmain()\n"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip holds; a real date would change the bytes
_NOT_CARRIED = (".pyc", ".so", ".pyd")  # what no Python can import from a zip


def build(cache: Cache, modules: Iterable[str] = ()) -> Path:
    """The zip with the package `edlab.agent` and what vendor packages add to it, made once for each content.

    An entry point of one of `edlab.agent.plugins.GROUPS` names a module. The package that holds it travels, with its
    subpackages and data files, and so does that of each of `modules`; the packages above are empty on the target.
    Raises `ConfigError` if there is no such module.
    """
    names = {group: {name: entry.value for name, entry in plugins(group).items()} for group in GROUPS}
    wanted = {module: f"'{module}'" for module in modules}
    for group, found in names.items():
        wanted |= {module: f"the {group.removesuffix('s')} '{name}'" for name, module in found.items()}
    carried: dict[str, bytes] = {}
    for module, what in wanted.items():
        carried |= _package_of(module, what)
    members = {
        **{f"{package}/__init__.py": b"" for name in carried for package in _packages_above(name)},
        **carried,
        **_own_sources(),
        "__main__.py": _START.encode(),
        "edlab/__init__.py": b"",
        f"edlab/agent/{FILE}": json.dumps(names, sort_keys=True).encode(),
    }

    def make(folder: Path) -> None:
        with zipfile.ZipFile(folder / NAME, "w", zipfile.ZIP_STORED) as archive:
            for name in sorted(members):
                archive.writestr(zipfile.ZipInfo(name, _EPOCH), members[name])

    return cache.get_or_make("agents", digest({name: content.hex() for name, content in members.items()}), make) / NAME


def _own_sources() -> dict[str, bytes]:
    root = Path(edlab.agent.__file__).parent
    return {f"edlab/agent/{path.relative_to(root).as_posix()}": path.read_bytes() for path in root.rglob("*.py")}


def _package_of(module: str, what: str) -> dict[str, bytes]:
    """The files of the package that holds a module, or of a module in none, by their names in the zip."""
    found = places(module)
    if not found:
        raise ConfigError(
            f"{what} is in the module '{module}', which is not found",
            hint="fix the entry point of the package that adds it, or put its folder on PYTHONPATH",
        )
    package = module if found[0].is_dir() else module.rpartition(".")[0]
    if not package:
        return {found[0].name: found[0].read_bytes()}
    return {
        f"{package.replace('.', '/')}/{path.relative_to(root).as_posix()}": path.read_bytes()
        for root in places(package)
        for path in root.rglob("*")
        if path.is_file() and path.suffix not in _NOT_CARRIED
    }


def _packages_above(member: str) -> list[str]:
    """The packages that hold a source file of the zip: ["a/b", "a"] for "a/b/c.py"."""
    return [str(folder) for folder in PurePosixPath(member).parents][:-1] if member.endswith(".py") else []
