"""One program from functions of several modules: what the entry function needs, and nothing else.

So an example runs the code that edlab itself ran, without edlab. A module is read as text; it is not imported.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from textwrap import indent
from typing import NamedTuple

from edlab.registry import places

_PACKAGE = "edlab"


class Name(NamedTuple):
    """A function, class or constant of a module; with an empty name, the module itself."""

    module: str
    name: str


@dataclass(frozen=True)
class _Definition:
    """A top-level statement of a module: its text, and the names it reads: when it runs, and in annotations alone."""

    text: str
    names: frozenset[str]
    annotations: frozenset[str]
    attributes: Mapping[str, frozenset[str]]  # of names: of `geometry`, {"suppress", ...}


@dataclass
class _Module:
    definitions: dict[str, _Definition] = field(default_factory=dict)  # in order
    own: dict[str, Name] = field(default_factory=dict)  # imported from edlab, by the name here
    imports: dict[str, str] = field(default_factory=dict)  # other imports as text, by the name here


@dataclass
class _Program:
    """What is needed so far, by module in the order of their dependencies."""

    parts: dict[str, dict[str, str]] = field(default_factory=dict)
    imports: set[str] = field(default_factory=set)
    for_annotations: set[str] = field(default_factory=set)


def bundle(entry: Name, head: str, instead: Mapping[Name, Name], outside: tuple[str, ...] = ()) -> str:
    """The text of a program that runs `entry`, with the docstring `head`; the module of `entry` comes first.

    That module's constants and classes may not need those of the others. `instead` replaces what the modules import
    from edlab. Packages in `outside` belong to the program too, as edlab's do. Raises `ValueError` if one name would
    have two meanings, or a module is not found.
    """
    program = _Program()
    _add(program, entry, instead, (_PACKAGE, *outside))
    _check(program)
    order = [entry.module] + [name for name in program.parts if name != entry.module]  # the reader's, not the needs'
    parts = [_part(name, program.parts[name]) for name in order if program.parts[name]]
    typing_only = program.for_annotations - program.imports
    imports = program.imports | ({"from typing import TYPE_CHECKING"} if typing_only else set())
    top = f'"""{head}"""\n\nfrom __future__ import annotations\n\n{_sorted_imports(imports)}'
    if typing_only:
        top += "\n\nif TYPE_CHECKING:\n" + indent(_sorted_imports(typing_only), "    ")
    return "\n\n\n".join([top, *parts, f'if __name__ == "__main__":\n    {entry.name}()\n'])


def source(module: str) -> Path | None:
    """The file of a module; None if it is not found."""
    found = places(module)
    if found and found[0].is_dir():
        found = [found[0] / "__init__.py"]
    return found[0] if found and found[0].is_file() else None


def _add(program: _Program, wanted: Name, instead: Mapping[Name, Name], own: tuple[str, ...]) -> None:
    """Add a definition and everything that it needs."""
    module = _read(wanted.module, own)
    if wanted.name in module.own:  # the module only passes it on
        _add(program, instead.get(module.own[wanted.name], module.own[wanted.name]), instead, own)
        return
    if wanted.name in program.parts.setdefault(wanted.module, {}):
        return
    definition = module.definitions[wanted.name]
    program.parts[wanted.module][wanted.name] = ""  # it may need itself
    text = definition.text
    for name in sorted(definition.names | definition.annotations):
        if name in module.own:
            target = instead.get(module.own[name], module.own[name])
            if _is_module(target, own):
                inside = ".".join(filter(None, target))
                for attribute in sorted(definition.attributes.get(name, ())):
                    _add(program, instead.get(Name(inside, attribute), Name(inside, attribute)), instead, own)
                text = re.sub(rf"\b{name}\.(?=\w)", "", text)
            else:
                _add(program, target, instead, own)
                if target.name != name and target.name in definition.names:
                    raise ValueError(f"{wanted.module}: {target.name} is another name in {wanted.name}")
                text = re.sub(rf"\b{name}\b", target.name, text) if target.name != name else text
        elif name in module.imports:
            place = program.imports if name in definition.names else program.for_annotations
            place.add(module.imports[name])
        elif name in module.definitions and name != wanted.name:
            _add(program, Name(wanted.module, name), instead, own)
    own_order = list(module.definitions)
    part = program.parts.pop(wanted.module) | {wanted.name: text}  # after what it needs
    program.parts[wanted.module] = dict(sorted(part.items(), key=lambda item: own_order.index(item[0])))


def _check(program: _Program) -> None:
    """Raise `ValueError` if one name has two meanings."""
    seen: dict[str, tuple[str, str]] = {}
    for module, part in program.parts.items():
        for name, text in part.items():
            if seen.setdefault(name, (module, text))[1] != text:
                raise ValueError(f"{module} and {seen[name][0]} both define {name}")


def _part(module: str, definitions: Mapping[str, str]) -> str:
    """The text of a module's part, under its title: constants in blocks, functions and classes apart."""
    text, before_is_block = f"# ---- {_title(module)}\n", None
    for definition in dict.fromkeys(definitions.values()):  # one statement may define two names
        is_block = definition.startswith(("def ", "class ", "@"))
        apart = before_is_block or (is_block and before_is_block is not None)
        text += ("\n\n\n" if apart else "\n") + definition
        before_is_block = is_block
    return text


@cache
def _title(module: str) -> str:
    """The first line of a module's docstring."""
    path = source(module)
    assert path
    return (ast.get_docstring(ast.parse(path.read_text())) or module).splitlines()[0]


def _sorted_imports(imports: set[str]) -> str:
    """The standard library's first; names from one module in one line."""
    names: dict[str, list[str]] = {}
    for line in sorted(imports):
        origin, _, name = line.partition(" import ") if line.startswith("from") else (line, "", "")
        names.setdefault(origin, []).append(name)
    lines = [origin if found == [""] else f"{origin} import {', '.join(found)}" for origin, found in names.items()]
    standard = [line for line in lines if line.split()[1].partition(".")[0] in sys.stdlib_module_names]
    groups = [standard, [line for line in lines if line not in standard]]
    ordered = (sorted(group, key=lambda line: (line.startswith("from"), line)) for group in groups if group)
    return "\n\n".join("\n".join(group) for group in ordered)


def _is_module(name: Name, own: tuple[str, ...]) -> bool:
    """Whether an import of a name from a package is an import of a module."""
    if not name.name:
        return True
    package = source(name.module)
    if package is None or package.name != "__init__.py":
        return False
    return name.name not in _read(name.module, own).definitions and source(".".join(name)) is not None


@cache
def _read(module: str, own: tuple[str, ...]) -> _Module:
    """The module's definitions and imports. Raises `ValueError` if it is not found."""
    path = source(module)
    if path is None:
        raise ValueError(f"the module {module} is not found")
    text = path.read_text()
    tree = ast.parse(text)
    found = _Module()
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    lines = text.splitlines()
    for statement in tree.body:
        if isinstance(statement, ast.If):  # TYPE_CHECKING
            for inner in statement.body:
                _add_import(found, inner, package, own)
        _add_import(found, statement, package, own)
        if names := list(_defined(statement)):
            definition = _definition(statement, lines)
            found.definitions |= dict.fromkeys(names, definition)
    return found


def _add_import(found: _Module, statement: ast.stmt, package: str, own: tuple[str, ...]) -> None:
    if isinstance(statement, ast.Import):
        for alias in statement.names:
            found.imports[alias.asname or alias.name.partition(".")[0]] = f"import {_alias(alias)}"
    elif isinstance(statement, ast.ImportFrom):
        parts = package.split(".")[: len(package.split(".")) - statement.level + 1] if statement.level else []
        origin = ".".join([*parts, *filter(None, [statement.module])])
        for alias in statement.names:
            if origin.partition(".")[0] in own:
                found.own[alias.asname or alias.name] = Name(origin, alias.name)
            else:
                found.imports[alias.asname or alias.name] = f"from {origin} import {_alias(alias)}"


def _alias(alias: ast.alias) -> str:
    return f"{alias.name} as {alias.asname}" if alias.asname else alias.name


def _defined(statement: ast.stmt) -> Iterator[str]:
    """The names that a top-level statement defines, other than by an import."""
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.Assign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        for target in targets:
            yield from (node.id for node in ast.walk(target) if isinstance(node, ast.Name))


def _definition(statement: ast.stmt, lines: list[str]) -> _Definition:
    decorators = getattr(statement, "decorator_list", [])
    first = min([statement.lineno, *(decorator.lineno for decorator in decorators)]) - 1
    while first and lines[first - 1].startswith("#"):
        first -= 1
    annotations: set[str] = set()
    for node in ast.walk(statement):
        for part in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if isinstance(part, ast.AST):
                annotations |= _names(part)
    running = _without_annotations(statement)
    names, attributes = set[str](), dict[str, set[str]]()
    for node in running:
        if isinstance(node, ast.Name):
            names.add(node.id)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            attributes.setdefault(node.value.id, set()).add(node.attr)
    for node in ast.walk(statement):  # a module's attribute in an annotation
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            attributes.setdefault(node.value.id, set()).add(node.attr)
    text = "\n".join(lines[first : statement.end_lineno])
    return _Definition(
        re.sub(r"  # (type: ignore|noqa).*", "", text),
        frozenset(names),
        frozenset(annotations),
        {name: frozenset(found) for name, found in attributes.items()},
    )


def _names(node: ast.AST) -> set[str]:
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}


def _without_annotations(statement: ast.stmt) -> Iterator[ast.AST]:
    """All nodes that are evaluated: not those of annotations."""
    waiting: list[ast.AST] = [statement]
    while waiting:
        node = waiting.pop()
        yield node
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns"):
                continue
            waiting += [each for each in (value if isinstance(value, list) else [value]) if isinstance(each, ast.AST)]
