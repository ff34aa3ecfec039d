"""The parts that vendor packages add: installed packages by entry points, packages in `edlab.vendors` in their code.

A package in `edlab/vendors/` defines in its `__init__` what another package defines in its pyproject.toml:

    ENTRY_POINTS = {"edlab.converters": {"acme": "edlab.vendors.acme.converter:AcmeConverter"}}

The groups are listed in docs/plugins.md.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import pkgutil
import sys
import traceback
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar

from edlab.errors import ConfigError

T = TypeVar("T")

_VENDORS = "edlab.vendors"
_NEAR = 0.7  # of difflib's ratio: fewer letters in common are another word


class Group(Generic[T]):
    """The classes of one kind by name: the built-in ones, and those that vendor packages add as `edlab.<group>`."""

    def __init__(self, group: str, base: type[T], built_in: Mapping[str, str]) -> None:
        """`built_in` names each as "package.module:class"; nothing is imported before it is used."""
        self.group = group
        self.base = base
        self.built_in = built_in

    def names(self) -> list[str]:
        """All names, the built-in ones first."""
        return list(self._targets())

    def load(self, name: str) -> type[T]:
        """The class of this name. Raises `ConfigError` if it is unknown, cannot be imported or is of another kind."""
        targets, noun = self._targets(), self.group.removesuffix("s").replace("_", " ")
        if name not in targets:
            raise ConfigError(
                f"unknown {noun} '{name}'", hint=f"{did_you_mean(name, targets)}{noun}s: {', '.join(targets)}"
            )
        kind = load_target(targets[name])
        if not (isinstance(kind, type) and issubclass(kind, self.base)):
            base = f"{self.base.__module__}.{self.base.__name__}"
            raise ConfigError(f"{targets[name]} is not a {self.base.__name__}", hint=f"derive the class from {base}")
        return kind

    def _targets(self) -> dict[str, str]:
        return {**self.built_in, **{name: entry.value for name, entry in plugins(self.group).items()}}


def did_you_mean(wrong: str, known: Iterable[str], count: int = 1) -> str:
    """The beginning of a hint, "did you mean 'x'? ", with the nearest `count` known names; empty if none is near."""
    near = nearest(wrong, known, count)
    return f"did you mean {' or '.join(map(repr, near))}? " if near else ""


def nearest(wrong: str, known: Iterable[str], count: int = 1) -> list[str]:
    """The `count` known names that are nearest to a wrong one; none if they are other words."""
    # str(): the members of an enumeration are listed by value. The dashes of options are no likeness.
    by_stem = {str(name).lstrip("-"): str(name) for name in known}
    near = difflib.get_close_matches(wrong.lstrip("-"), by_stem, n=count, cutoff=_NEAR)
    return [by_stem[stem] for stem in near]


def plugins(group: str) -> dict[str, EntryPoint]:
    """The entry points of vendor packages in the group `edlab.<group>` by name, not loaded yet.

    An installed package can replace what one in `edlab.vendors` adds.
    """
    name = f"edlab.{group}"
    return {entry.name: entry for entry in [*_in_tree(name), *_installed(name, tuple(sys.path))]}


@cache
def _installed(group: str, path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """The entry points of the packages on this path, cached: a run asks dozens of times, and reading them is slow."""
    return tuple(entry_points(group=group))


def _in_tree(group: str) -> list[EntryPoint]:
    """The entry points of the packages in `edlab.vendors`; only their `__init__` is imported."""
    folder = importlib.import_module(_VENDORS).__path__
    packages = [importlib.import_module(f"{_VENDORS}.{module.name}") for module in pkgutil.iter_modules(folder)]
    return [
        EntryPoint(name, value, group)
        for package in packages
        for name, value in package.ENTRY_POINTS.get(group, {}).items()
    ]


def culprit(error: BaseException) -> tuple[str, str]:
    """The package with parts for edlab whose code an error comes from, "acme-edlab", and where: "FILE, line 12".

    That is the deepest frame of the traceback in such a package or in edlab itself, since a library may raise an error
    because of its caller. Both are empty if it is edlab's own.
    """
    packages: dict[str, str] = {}
    groups = [group for group in entry_points().groups if group.startswith("edlab.")]
    for entry in (entry for group in groups for entry in _installed(group, tuple(sys.path))):
        packages[entry.module.split(".")[0]] = entry.dist.name if entry.dist else entry.module.split(".")[0]
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        top = str(frame.f_globals.get("__name__", "")).split(".")[0]
        if top == "edlab":
            break
        if top in packages:
            return packages[top], f"{frame.f_code.co_filename}, line {line}"
    return "", ""


def places(module: str) -> list[Path]:
    """The folders of a package (several for a namespace package), or the file of a module; none if it is not found.

    Neither it nor a package above it is imported: a broken package, or one for another Python, is found too.
    """
    top, *parts = module.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None:
        return []
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    files = [] if folders else [Path(spec.origin or "")]
    for part in parts:
        files = [folder / f"{part}.py" for folder in folders]
        folders = [folder / part for folder in folders]
    return [folder for folder in folders if folder.is_dir()] or [file for file in files if file.is_file()]


def load_target(target: str) -> Any:
    """The object that "package.module:name" names.

    Raises `ConfigError` if the module cannot be imported, or does not define that name.
    """
    module_name, separator, attribute = target.partition(":")
    if not separator or not module_name or not attribute:
        raise ConfigError(
            f"'{target}' does not have the form package.module:name", hint="for example: my_package.models:build"
        )
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # from the module itself, or its imports: anything can happen there
        kind = "" if isinstance(error, ImportError) else f"{type(error).__name__}: "
        raise ConfigError(
            f"cannot import '{module_name}' of '{target}': {kind}{error}",
            hint=f"install its dependencies, or add its folder to PYTHONPATH; python -c 'import {module_name}' shows "
            "the full error",
        ) from error
    try:
        return getattr(module, attribute)
    except AttributeError:
        hint = did_you_mean(attribute, vars(module)).rstrip() or f"define {attribute} in {module_name}"
        raise ConfigError(f"module '{module_name}' has no '{attribute}'", hint=hint) from None
