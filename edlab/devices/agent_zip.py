"""The agent as one zip file that any Python can run: the same bytes for the same sources."""

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
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date of a zip; a real date would change the bytes
_NOT_CARRIED = (".pyc", ".so", ".pyd")  # files that Python cannot import from a zip


def build(cache: Cache, modules: Iterable[str] = ()) -> Path:
    """The zip with the package `edlab.agent` and what vendor packages add to it, built once for each content.

    An entry point of one of `edlab.agent.plugins.GROUPS` names a module. Its package is included, with subpackages and
    data files, and so is the package of each of `modules`; the packages above are empty on the target. A module that is
    not found is not included, since most runs do not use it: see `lost`.

    Raises `ConfigError` if one of `modules` is not found.
    """
    names = {
        group: {name: entry.value for name, entry in plugins(group).items() if places(entry.value)} for group in GROUPS
    }
    if nowhere := next((module for module in modules if not places(module)), None):
        raise not_found(f"'{nowhere}'", nowhere)
    carried: dict[str, bytes] = {}
    for module in {*modules, *(module for found in names.values() for module in found.values())}:
        carried |= _package_of(module)
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


def lost() -> dict[str, ConfigError]:
    """Parts of the agent that entry points add and that are not found, such as "runtime 'acme'", with their errors."""
    entries = [(group, entry) for group in GROUPS for entry in plugins(group).values() if not places(entry.value)]
    named = [(f"{group.removesuffix('s').replace('_', ' ')} '{entry.name}'", entry.value) for group, entry in entries]
    return {part: not_found(f"the {part}", module) for part, module in named}


def not_found(what: str, module: str) -> ConfigError:
    """The error for a module that should be included and is not found."""
    if ":" in module:
        return ConfigError(
            f"{what} is the entry point '{module}', and must be a module",
            hint=f"set the entry point to '{module.partition(':')[0]}'",
        )
    return ConfigError(
        f"{what} needs the module '{module}', which is not found",
        hint="fix the entry point of the package that adds it, or add its folder to PYTHONPATH",
    )


def _own_sources() -> dict[str, bytes]:
    root = Path(edlab.agent.__file__).parent
    return {f"edlab/agent/{path.relative_to(root).as_posix()}": path.read_bytes() for path in root.rglob("*.py")}


def _package_of(module: str) -> dict[str, bytes]:
    """The files of a module's package, or the file of a module without a package, by their names in the zip."""
    found = places(module)
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
    """The packages that contain a source file of the zip: ["a/b", "a"] for "a/b/c.py"."""
    return [str(folder) for folder in PurePosixPath(member).parents][:-1] if member.endswith(".py") else []
