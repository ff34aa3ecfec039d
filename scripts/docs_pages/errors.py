"""docs/reference/errors.md: every message of edlab's errors, and the advice of each."""

from __future__ import annotations

import ast
import functools
import re
from collections import defaultdict
from collections.abc import Iterator

from docs_pages import markdown
from docs_pages.texts import Module, Scope, called, calls, expansions, has_words, longest, modules, texts

_HOMES = ("edlab/errors.py", "edlab/agent/errors.py")


@functools.cache
def kinds() -> dict[str, ast.ClassDef]:
    """The classes of errors by name, each after its base; the host's class if the agent has one of the same name."""
    homes = [module for path in _HOMES for module in modules() if module.path == path]
    found: dict[str, ast.ClassDef] = {}
    for node in (node for home in homes for node in home.tree.body if isinstance(node, ast.ClassDef)):
        found.setdefault(node.name, node)
    return found


def page() -> str:
    """The page."""
    found = messages()
    tree = kinds()
    bases = {name: ast.unparse(node.bases[0]) for name, node in tree.items()}
    return markdown.page(
        "Errors",
        "Every error message of edlab, with what to do about it.",
        "A part in angle brackets, such as `<path>`, is filled in when the error occurs. `edlab` prints the message "
        "and the advice, and puts them into [result.json](result-json.md) as `reason` and `hint`. The Python classes "
        "are those of [the Python API](python-api.md); each derives from `EdlabError`.",
        *(_section(name, tree[name], bases[name], found.get(name, {})) for name in tree),
        "## Missing metrics\n\nWhy a metric has no value: `missing` in result.json, `edlab.missing.<metric>` in "
        "MLflow, and below the table.\n\n" + "\n".join(f"- {markdown.code(text)}" for text in withheld()),
    )


def _section(name: str, node: ast.ClassDef, base: str, found: dict[str, list[str]]) -> str:
    derives = "" if base == "Exception" else f" Derives from {markdown.code(base)}."
    parts = [f"## {name}", markdown.docstring(ast.get_docstring(node) or "") + derives]
    if found:
        ordered = sorted(found, key=lambda message: (re.sub(r"<[^>]*>|\W", "", message).lower(), message))
        parts.append("\n".join(_entry(message, found[message]) for message in ordered))
    return "\n\n".join(parts)


def _entry(message: str, hints: list[str]) -> str:
    advice = "".join(f"\n    - Fix: {markdown.code(hint)}" for hint in hints)
    return f"- {markdown.code(message)}{advice}"


def messages() -> dict[str, dict[str, list[str]]]:
    """The hints by the error's class and its message."""
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name, message, hint, scope in _made():
        given = [each for each in (message, hint) if each is not None]
        for bound in expansions(scope, given):
            hints = [_line(text) for text in longest(texts(hint, bound)) if has_words(text)]
            for text in longest(texts(message, bound)):
                if has_words(text):
                    found[name][_line(text)] += hints
    return {
        name: {message: list(dict.fromkeys(hints)) for message, hints in of_it.items()} for name, of_it in found.items()
    }


def withheld() -> list[str]:
    """The reasons that a metric can be withheld for."""
    found = [
        _line(text)
        for module in modules()
        for call, scope in calls(module)
        if called(call) == "withheld" and len(call.args) > 1
        for bound in expansions(scope, [call.args[1]])
        for text in texts(call.args[1], bound)
        if has_words(text)
    ]
    return sorted(longest(found), key=str.lower)


def _line(text: str) -> str:
    """The text in one line, without repetitions."""
    return "; ".join(dict.fromkeys(" ".join(text.split()).split("; ")))


def _made() -> Iterator[tuple[str, ast.expr, ast.expr | None, Scope]]:
    """Where an error is created: its class, message, hint and place."""
    for module in modules():
        within = _class_of_lines(module)
        for call, scope in calls(module):
            name = called(call)
            if name == "__init__" and module.path in _HOMES:  # of super(), in a class that words its own message
                name = within.get(call.lineno, "")
            elif _words_its_own(name, module):
                continue
            stated = {keyword.arg: keyword.value for keyword in call.keywords}
            positional = [each for each in call.args if not isinstance(each, ast.Starred)]
            if name in kinds() and positional:
                hint = stated.get("hint", positional[1] if len(positional) > 1 else None)
                yield name, positional[0], hint, scope


def _class_of_lines(module: Module) -> dict[int, str]:
    return {
        line: node.name
        for node in module.tree.body
        if isinstance(node, ast.ClassDef) and node.name in kinds()
        for line in range(node.lineno, (node.end_lineno or 0) + 1)
    }


def _words_its_own(name: str, module: Module) -> bool:
    """Whether this is the agent's disk error, which is created from a path and the system's error."""
    return name == "StorageError" and module.path.startswith("edlab/agent/")
