"""The possible texts of an expression in the source; parts that are filled in at run time are <placeholders>.

A name is followed to its assignment, a call to what the function returns, and a parameter of a function that creates
messages to the arguments of its callers. What remains unknown becomes a placeholder with its name.
"""

from __future__ import annotations

import ast
import functools
import itertools
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from docs_pages.fields import ROOT

_MOST = 24  # maximum texts of one expression; if it has more, only the placeholder is used
_DEPTH = 4  # maximum depth of calls and names that are followed
_VAGUE = {"name", "value", "path", "message", "shape", "hint", "kind", "strerror", "text", "format", "version"}
_NAMELESS = {"self", "cls", "value", "config"}  # objects whose name does not describe their attribute
_TRANSPARENT = {"list", "sorted", "tuple", "str", "repr", "set", "dict", "type", "Path", "max", "min", "sum", "next"}
_CLEANING = {
    "as_posix", "decode", "get", "items", "joinpath", "keys", "lower", "lstrip", "partition", "relative_to",
    "removeprefix", "removesuffix", "replace", "rpartition", "rstrip", "splitlines", "strip", "upper", "values",
}  # fmt: skip
_OF_ARGUMENT = {"basename", "ceil", "join", "quote"}
_WORDS = {"len": "count", "sum": "count", "msg": "error", "cls": "class", "signals": "signal", "strerror": "error"}
_COMPOSED = (ast.Call, ast.BinOp, ast.BoolOp, ast.IfExp)
_FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)

Function = ast.FunctionDef | ast.AsyncFunctionDef
Bindings = Mapping[str, "Bound"]


@dataclass(frozen=True, eq=False)
class Module:
    """A source file."""

    path: str
    tree: ast.Module

    @functools.cached_property
    def stem(self) -> str:
        """The file's name without folders and suffix."""
        return Path(self.path).stem

    @functools.cached_property
    def constants(self) -> dict[str, ast.expr]:
        """What is assigned to each name at the top of the module."""
        found = {}
        for node in self.tree.body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                found[node.targets[0].id] = node.value
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple):
                found.update(_pairs(node.targets[0], node.value))
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
                found[node.target.id] = node.value
            if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
                found[node.target.id] = ast.BinOp(found[node.target.id], node.op, node.value)
        return found

    @functools.cached_property
    def functions(self) -> dict[str, Function]:
        """All functions and methods by name."""
        return {node.name: node for node in ast.walk(self.tree) if isinstance(node, _FUNCTION)}

    @functools.cached_property
    def imports(self) -> dict[str, str]:
        """The last part of the module that each imported name comes from."""
        found = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom):
                found.update(
                    {alias.asname or alias.name: (node.module or "").rpartition(".")[2] for alias in node.names}
                )
        return found


@dataclass(frozen=True)
class Scope:
    """The scope of an expression: its module, its function, and the bindings of names."""

    module: Module
    function: Function | None = None
    bindings: Bindings = field(default_factory=dict)


@dataclass(frozen=True)
class Bound:
    """An expression, and its scope."""

    node: ast.expr
    scope: Scope


@functools.cache
def modules() -> tuple[Module, ...]:
    """edlab's source files."""
    paths = sorted((ROOT / "edlab").rglob("*.py"))
    return tuple(Module(path.relative_to(ROOT).as_posix(), ast.parse(path.read_text())) for path in paths)


def _pairs(target: ast.Tuple, value: ast.expr) -> list[tuple[str, ast.expr]]:
    """What `a, b = 1, 2` assigns to each name; for any other value each name has the whole value."""
    values = value.elts if isinstance(value, ast.Tuple) else [value] * len(target.elts)
    return [(ast.unparse(name), each) for name, each in zip(target.elts, values, strict=True)]


@functools.cache
def _calls_by_name() -> dict[str, list[tuple[ast.Call, Scope]]]:
    """The calls in all modules by the name of what is called."""
    found = defaultdict(list)
    for call, scope in (each for module in modules() for each in calls(module)):
        found[called(call)].append((call, scope))
    return found


@functools.cache
def calls(module: Module) -> tuple[tuple[ast.Call, Scope], ...]:
    """Each call in a module, with the function that contains it."""

    def visit(node: ast.AST, function: Function | None) -> Iterator[tuple[ast.Call, Scope]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Call):
                yield child, Scope(module, function)
            yield from visit(child, child if isinstance(child, _FUNCTION) else function)

    return tuple(visit(module.tree, None))


def called(node: ast.Call) -> str:
    """The name of what is called, without the object or module before it."""
    return node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")


def expansions(scope: Scope, expressions: Iterable[ast.expr]) -> list[Scope]:
    """The scope with the names in the expressions bound: once for each call of its function, and each row of a loop."""
    used = {node.id for each in expressions for node in ast.walk(each) if isinstance(node, ast.Name)}
    if scope.function is None:
        return [scope]
    rows = [*_loops(scope, used), *_callers(scope, used)]
    return [Scope(scope.module, scope.function, row) for row in rows] or [scope]


def _loops(scope: Scope, used: set[str]) -> Iterator[Bindings]:
    """The bindings of each row of a constant table that a loop of the function iterates over."""
    assert scope.function
    for loop in ast.walk(scope.function):
        if isinstance(loop, ast.For) and isinstance(loop.target, ast.Tuple) and isinstance(loop.iter, ast.Name):
            names = [ast.unparse(name) for name in loop.target.elts]
            table = scope.module.constants.get(loop.iter.id)
            if used & {*names} and isinstance(table, ast.Tuple):
                for row in table.elts:
                    if isinstance(row, ast.Tuple):
                        top = Scope(scope.module)
                        yield {name: Bound(node, top) for name, node in zip(names, row.elts, strict=True)}


def _callers(scope: Scope, used: set[str]) -> list[Bindings]:
    """The bindings of the function's parameters in each of its calls that passes a text."""
    function = scope.function
    assert function
    parameters = [each.arg for each in (*function.args.posonlyargs, *function.args.args)]
    method = parameters[:1] in (["self"], ["cls"])
    if function.name == "__init__" or not used & {*parameters, *(each.arg for each in function.args.kwonlyargs)}:
        return []
    found = []
    places = _may_call(function, scope.module)
    for call, there in _calls_by_name().get(function.name, []):
        if there.module in places and method == isinstance(call.func, ast.Attribute):
            bindings = dict(zip(parameters[method:], (Bound(each, there) for each in call.args), strict=False))
            bindings |= {each.arg: Bound(each.value, there) for each in call.keywords if each.arg}
            found.append({name: each for name, each in bindings.items() if name in used and _is_text(each.node)})
    defaults = zip(parameters[len(parameters) - len(function.args.defaults) :], function.args.defaults, strict=True)
    stated = {name: Bound(node, Scope(scope.module)) for name, node in defaults if name in used and _is_text(node)}
    return [{**stated, **bindings} for bindings in found]


def _may_call(function: Function, home: Module) -> list[Module]:
    """The modules whose calls of this name mean this function."""
    elsewhere = [module for module in modules() if module is not home and function.name in module.functions]
    if not elsewhere:
        return list(modules())
    return [home, *(module for module in modules() if module.imports.get(function.name) == home.stem)]


def _is_text(node: ast.expr) -> bool:
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str)
    if isinstance(node, ast.BinOp):
        return _is_text(node.left) or (isinstance(node.op, ast.Add) and _is_text(node.right))
    if isinstance(node, ast.IfExp):
        return _is_text(node.body) or _is_text(node.orelse)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.attr in {"format", *_CLEANING} and _is_text(node.func.value)
    return isinstance(node, ast.JoinedStr)


def longest(found: Iterable[str]) -> list[str]:
    """The texts without those that are another one with words removed: a part that is optional."""
    kept: list[str] = []
    for text in sorted(dict.fromkeys(found), key=len, reverse=True):
        if not any(_is_part(text, other) for other in kept):
            kept.append(text)
    return [text for text in dict.fromkeys(found) if text in kept]


def _is_part(text: str, whole: str) -> bool:
    words = iter(re.findall(r"<[^>]*>|\w+", whole))
    return all(word in words for word in re.findall(r"<[^>]*>|\w+", text))


def has_words(text: str) -> bool:
    """Whether it is more than placeholders."""
    return bool(re.search(r"\w", re.sub(r"<[^>]*>", "", text)))


def texts(node: ast.expr | None, scope: Scope, depth: int = _DEPTH) -> list[str]:
    """The possible texts of the expression, in the order of the source; none for None."""
    if node is None or (isinstance(node, ast.Constant) and node.value is None):
        return []
    found = list(dict.fromkeys(_texts(node, scope, depth)))
    return found if 0 < len(found) <= _MOST else [placeholder(node)]


def _texts(node: ast.expr, scope: Scope, depth: int) -> list[str]:
    match node:
        case ast.Constant():
            return [str(node.value)]
        case ast.JoinedStr():
            return _joined([_part(part, scope, depth) for part in node.values])
        case ast.BinOp(op=ast.Add()) if not (_is_number(node.left) or _is_number(node.right)):
            return _joined([texts(node.left, scope, depth), texts(node.right, scope, depth)])
        case ast.BinOp(op=ast.Mod()) if _is_text(node.left) or isinstance(node.left, ast.Name):
            return [
                text for form in texts(node.left, scope, depth) for text in _formatted(form, node.right, scope, depth)
            ]
        case ast.IfExp():
            return [*texts(node.body, scope, depth), *texts(node.orelse, scope, depth)]
        case ast.BoolOp():
            return [text for value in node.values for text in texts(value, scope, depth)]
        case ast.Name():
            return _of_name(node, scope, depth)
        case ast.Call():
            return _of_call(node, scope, depth)
    return [placeholder(node)]


def _joined(parts: list[list[str]]) -> list[str]:
    if len(parts) > 1 and functools.reduce(lambda product, part: product * len(part), parts, 1) > _MOST:
        parts = [part if len(part) == 1 else [max(part, key=len)] for part in parts]
    return ["".join(choice) for choice in itertools.product(*parts)]


def _part(part: ast.expr, scope: Scope, depth: int) -> list[str]:
    """The texts of a part of an f-string."""
    if isinstance(part, ast.Constant):
        return [str(part.value)]
    assert isinstance(part, ast.FormattedValue)
    percent = isinstance(part.format_spec, ast.JoinedStr) and ast.unparse(part.format_spec).endswith("%'")
    found = texts(part.value, scope, depth)
    return [_as_percent(text) for text in found] if percent else found


def _as_percent(text: str) -> str:
    """A constant share, or the placeholder of one, as it is printed."""
    return f"{100 * float(text):g} %" if re.fullmatch(r"[0-9.]+", text) else f"{text} %"


def _is_number(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and not isinstance(node.value, str)


def _formatted(form: str, values: ast.expr, scope: Scope, depth: int) -> list[str]:
    """The texts of `form % values`."""
    given = list(values.elts) if isinstance(values, ast.Tuple) else [values]
    pieces = re.split(r"(%%|%[-+#0-9.]*[a-z])", form)
    parts = []
    for piece in pieces:
        if piece == "%%":
            parts.append(["%"])
        elif re.fullmatch(r"%[-+#0-9.]*[a-z]", piece) and given:
            parts.append(texts(given.pop(0), scope, depth))
        else:
            parts.append([piece])
    return _joined(parts)


def _of_name(node: ast.Name, scope: Scope, depth: int) -> list[str]:
    if bound := scope.bindings.get(node.id):
        return texts(bound.node, bound.scope, depth - 1) if depth else [placeholder(node)]
    if not depth:
        return [placeholder(node)]
    if scope.function and (assigned := _assigned(node.id, scope.function)):
        known = [value for value in assigned if _is_text(value) or isinstance(value, _COMPOSED)]
        found = [text for value in known for text in _of_value(node, value, scope, depth - 1)]
        return found if len(known) == len(assigned) else [*found, placeholder(node)]
    constant = _constant(node.id, scope.module)
    if constant and (_is_text(constant.node) or isinstance(constant.node, ast.Constant)):
        return texts(constant.node, constant.scope, depth - 1)
    return [placeholder(node)]


def _of_value(name: ast.Name, value: ast.expr, scope: Scope, depth: int) -> list[str]:
    """The texts of what is assigned to a name; for a call without its own words, the name is more descriptive."""
    found = texts(value, scope, depth)
    return found if _is_text(value) or any(map(has_words, found)) else [placeholder(name)]


def _assigned(name: str, function: Function) -> list[ast.expr]:
    """What the function assigns to a name, also among others: `message, hint = "...", "..."`."""
    found = []
    for node in ast.walk(function):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                found += _matching(name, target, node.value)
        if isinstance(node, ast.NamedExpr) and node.target.id == name:
            found.append(node.value)
    return found


def _matching(name: str, target: ast.expr, value: ast.expr) -> list[ast.expr]:
    if isinstance(target, ast.Name):
        return [value] if target.id == name else []
    return [each for part, each in _pairs(target, value) if part == name] if isinstance(target, ast.Tuple) else []


def _constant(name: str, module: Module) -> Bound | None:
    if name in module.constants:
        return Bound(module.constants[name], Scope(module))
    for home in modules():
        if module.imports.get(name) == home.stem and name in home.constants:
            return Bound(home.constants[name], Scope(home))
    return None


def _of_call(node: ast.Call, scope: Scope, depth: int) -> list[str]:
    if isinstance(node.func, ast.Attribute) and node.func.attr in ("format", "rstrip", "strip"):
        inside = texts(node.func.value, scope, depth)
        if any(map(has_words, inside)):
            return [re.sub(r"\{(\w+)[^}]*\}", lambda match: _bracketed(match[1]), text).strip() for text in inside]
    if called(node) == "join" and node.args and (listed := _listed(node.args[0], scope)):
        return [separator.join(listed) for separator in texts(getattr(node.func, "value", None), scope, depth)]
    function = _function(node, scope.module)
    if function is None or not depth:
        return [placeholder(node)]
    home, definition = function
    returned = [each.value for each in ast.walk(definition) if isinstance(each, ast.Return) and each.value]
    if not any(_gives_text(each, Scope(home, definition)) for each in returned):
        return [placeholder(node)]
    arguments = dict(zip((each.arg for each in definition.args.args), node.args, strict=False))
    bindings = {name: Bound(value, scope) for name, value in arguments.items() if _is_text(value)}
    return [text for each in returned for text in texts(each, Scope(home, definition, bindings), depth - 1)]


def _listed(node: ast.expr, scope: Scope) -> list[str]:
    """The texts of a constant list, or the keys of a constant mapping."""
    constant = _constant(node.id, scope.module) if isinstance(node, ast.Name) else None
    if constant is None or not isinstance(constant.node, ast.Tuple | ast.List | ast.Dict):
        return []
    parts = constant.node.keys if isinstance(constant.node, ast.Dict) else constant.node.elts
    return [part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)]


def _gives_text(node: ast.expr, scope: Scope) -> bool:
    """Whether the expression has its own words, and is not the result of another one."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.attr in _CLEANING and _gives_text(node.func.value, scope)
    return _is_text(node) or isinstance(node, ast.BinOp | ast.IfExp)


def _function(node: ast.Call, module: Module) -> tuple[Module, Function] | None:
    name = called(node)
    if name in module.functions:
        return module, module.functions[name]
    for home in modules():
        if name in home.functions and module.imports.get(name) == home.stem:
            return home, home.functions[name]
    return None


def placeholder(node: ast.expr) -> str:
    """The placeholder of a value that is known only at run time: "<path>", "<device>"."""
    return _bracketed(_named(node))


def _bracketed(name: str) -> str:
    words = name.strip("_").replace("_", " ").lower()
    return f"<{_WORDS.get(words, words) or 'value'}>"


def _named(node: ast.expr) -> str:
    """A short name for an expression."""
    match node:
        case ast.Name():
            return node.id
        case ast.Attribute(attr="__name__"):
            return "type"
        case ast.Attribute():
            base = _named(node.value)
            return node.attr if node.attr not in _VAGUE or base in _NAMELESS else base
        case ast.Subscript():
            return str(node.slice.value) if _is_text(node.slice) else _named(node.value)  # type: ignore[attr-defined]
        case ast.Call():
            return _named_call(node)
        case ast.GeneratorExp() | ast.ListComp() | ast.SetComp():
            return _named(node.generators[0].iter)
        case ast.BinOp():
            return _named(node.right if isinstance(node.left, ast.Constant) else node.left)
        case ast.IfExp():
            return _named(node.body)
        case ast.BoolOp():
            return _named(node.values[0])
        case ast.Starred() | ast.UnaryOp() | ast.NamedExpr():
            return _named(node.value if not isinstance(node, ast.UnaryOp) else node.operand)
    return "value"


def _named_call(node: ast.Call) -> str:
    name = called(node)
    if name == "len":
        return "count"
    if isinstance(node.func, ast.Attribute):
        if name in _OF_ARGUMENT and node.args:
            return _named(node.args[0])
        return _named(node.func.value) if name in _CLEANING else name
    if name == "map":
        return _named(node.args[1])
    if node.args and (name in _TRANSPARENT or isinstance(node.args[0], ast.Name)):
        return _named(node.args[0])
    return name
