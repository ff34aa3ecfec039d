"""What is sent to a target, read as source: its syntax, and what it imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from edlab.registry import places

_OLDEST = (3, 7)
_BUILT_IN_GENERICS = {"dict", "frozenset", "list", "set", "tuple", "type"}


def problems(module: str) -> list[str]:
    """What would fail on a target with Python 3.7 and only the agent of edlab, as "FILE, line 12: ...".

    The module is checked, and the modules of the same top-level package that it imports, also inside functions: syntax
    that Python's parser knows to be newer than 3.7 (such as := and match; not methods and functions of the library that
    are newer), annotations that 3.7 cannot evaluate, and imports of edlab other than edlab.agent. Imports below
    `if TYPE_CHECKING:` are never run.
    """
    waiting, seen, found = [module], set[Path](), []
    while waiting:
        name = waiting.pop()
        for place in places(name):
            path = place / "__init__.py" if place.is_dir() else place
            if path in seen or not path.is_file():
                continue
            seen.add(path)
            package = name if place.is_dir() else name.rpartition(".")[0]
            try:
                tree = ast.parse(path.read_text(), str(path), feature_version=_OLDEST)
            except SyntaxError as error:
                found.append(f"{path}, line {error.lineno}: {error.msg}")
                continue
            found += [f"{path}, line {line}: {text}" for line, text in _annotations(tree)]
            for line, imported in _imports(tree, package):
                top, _, rest = imported.partition(".")
                if top == "edlab" and not module.startswith("edlab.") and rest.split(".")[0] != "agent":
                    found.append(f"{path}, line {line}: imports {imported}; of edlab only edlab.agent is sent")
                elif top == module.partition(".")[0] != "edlab":
                    waiting.append(imported)
    return found


def _imports(tree: ast.AST, package: str) -> Iterator[tuple[int, str]]:
    """Line and full name of each import that can run; of "from a import b" a.b, which may be a module."""
    for node in _that_runs(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
            if base.partition(".")[0] != "edlab":
                yield node.lineno, base


def _that_runs(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those below `if TYPE_CHECKING:`."""
    if isinstance(tree, ast.If) and "TYPE_CHECKING" in ast.unparse(tree.test):
        children: list[ast.AST] = list(tree.orelse)
    else:
        yield tree
        children = list(ast.iter_child_nodes(tree))
    for child in children:
        yield from _that_runs(child)


def _annotations(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Annotations such as `list[int]` and `int | None` that are evaluated when the module is imported."""
    if any(isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in tree.body):
        return
    for node in ast.walk(tree):
        named: list[ast.expr | None] = [getattr(node, "annotation", None), getattr(node, "returns", None)]
        for part in [part for each in named if each is not None for part in ast.walk(each)]:
            union = isinstance(part, ast.BinOp) and isinstance(part.op, ast.BitOr)
            generic = isinstance(part, ast.Subscript) and getattr(part.value, "id", "") in _BUILT_IN_GENERICS
            if isinstance(part, ast.expr) and (union or generic):
                yield part.lineno, f"{ast.unparse(part)} needs `from __future__ import annotations` in Python 3.7"
