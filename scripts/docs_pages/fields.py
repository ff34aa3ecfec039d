"""The fields of a class as its source states them: type, default, and the comment on the field's line."""

from __future__ import annotations

import ast
import functools
import io
import tokenize
from dataclasses import dataclass
from pathlib import Path

from docs_pages import markdown

ROOT = Path(__file__).parents[2]

_PLAIN = {
    "Any": "any value", "bool": "true or false", "float": "number", "int": "integer", "str": "text", "Path": "path",
    "None": "null",
}  # fmt: skip
_PLURALS = {"integer": "integers", "number": "numbers", "text": "texts", "path": "paths"}
_ALIASES = "edlab/source.py"  # defines aliases of types
_LISTS = ("List", "list", "Sequence")
_MAPPINGS = ("Dict", "dict", "Mapping")


@dataclass(frozen=True)
class Field:
    """A field of a class. `type` and `default` are Python's; an empty `default` means that there is none."""

    name: str
    type: ast.expr
    default: str
    comment: str


@dataclass(frozen=True)
class Class:
    """A class with its fields in order."""

    name: str
    doc: str
    fields: tuple[Field, ...]

    @property
    def members(self) -> tuple[tuple[str, str], ...]:
        """Value and comment of each member of an enumeration."""
        return tuple((ast.literal_eval(field.default), field.comment) for field in self.fields)


def classes(path: str) -> dict[str, Class]:
    """The classes of a source file by name; `path` is relative to the repository."""
    return _classes(ROOT / path)


@functools.cache
def _classes(path: Path) -> dict[str, Class]:
    source = path.read_text()
    comments = _comments(source)
    found = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef):
            parts = (_field(part, comments) for part in node.body)
            found[node.name] = Class(node.name, ast.get_docstring(node) or "", tuple(filter(None, parts)))
    return found


def _comments(source: str) -> dict[int, str]:
    """The comment on each line, without directives for a linter."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    found = {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}
    return {line: text for line, text in found.items() if not text.startswith(("noqa", "type:", "fmt:"))}


def _field(node: ast.stmt, comments: dict[int, str]) -> Field | None:
    comment = comments.get(node.end_lineno or 0, "")
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        if ast.unparse(node.annotation).startswith("ClassVar"):
            return None
        return Field(node.target.id, node.annotation, _default(node.value), comment)
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and isinstance(node.value, ast.Constant):
        return Field(node.targets[0].id, ast.Name("str"), ast.unparse(node.value), comment)
    return None


def _default(value: ast.expr | None) -> str:
    if isinstance(value, ast.Call) and ast.unparse(value.func) in ("Field", "field"):
        stated = {keyword.arg: ast.unparse(keyword.value) for keyword in value.keywords}
        factories = {"dict": "{}", "list": "[]"}
        return stated.get("default", factories.get(stated.get("default_factory", ""), ""))
    return "" if value is None else ast.unparse(value)


@functools.cache
def _aliases() -> dict[str, ast.expr]:
    tree = ast.parse((ROOT / _ALIASES).read_text())
    assigned = [node for node in tree.body if isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript)]
    return {ast.unparse(node.targets[0]): node.value for node in assigned}


def type_in_words(node: ast.expr) -> str:
    """A type for readers who do not write Python: "list of integers, or null"."""
    if ast.unparse(node) in _aliases():
        return type_in_words(_aliases()[ast.unparse(node)])
    if isinstance(node, ast.BinOp):
        return f"{type_in_words(node.left)}, or {type_in_words(node.right)}"
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return type_in_words(ast.parse(node.value, mode="eval").body)
    if not isinstance(node, ast.Subscript):
        name = ast.unparse(node)
        return _PLAIN.get(name, markdown.code(name))
    return _subscript(ast.unparse(node.value), node.slice)


def _subscript(outer: str, inner: ast.expr) -> str:
    parts = inner.elts if isinstance(inner, ast.Tuple) else [inner]
    if outer == "Optional":
        return f"{type_in_words(inner)}, or null"
    if outer == "Literal":
        return " or ".join(markdown.code(str(ast.literal_eval(part))) for part in parts)
    if outer == "Annotated":
        return type_in_words(parts[0])
    if outer in _MAPPINGS:
        return f"mapping from {type_in_words(parts[0])} to {type_in_words(parts[1])}"
    if outer in _LISTS or ast.unparse(parts[-1]) == "...":
        return f"list of {_plural(type_in_words(parts[0]))}"
    words = [type_in_words(part) for part in parts]
    return f"list of {len(parts)} {_plural(words[0])}" if len(set(words)) == 1 else f"list of {', '.join(words)}"


def _plural(words: str) -> str:
    first, comma, rest = words.partition(",")
    return _PLURALS.get(first, first) + comma + rest
