"""docs/reference/python-api.md: the public names of the package `edlab`."""

from __future__ import annotations

import inspect
from typing import Any

from docs_pages import markdown
from docs_pages.fields import classes, type_in_words
from pydantic import BaseModel

import edlab

_ELSEWHERE = {"RunRecord": "Its fields are those of [result.json](result-json.md)."}


def page() -> str:
    """The page."""
    public = {name: getattr(edlab, name) for name in edlab.__all__}
    functions = {name: each for name, each in public.items() if inspect.isfunction(each)}
    errors = {name: each for name, each in public.items() if isinstance(each, type) and issubclass(each, Exception)}
    others = {name: each for name, each in public.items() if name not in functions and name not in errors}
    ordered = sorted(errors.items(), key=lambda item: (len(item[1].__mro__), item[0]))
    return markdown.page(
        "Python API",
        "The public names of the package `edlab`; all others may change in any release.",
        f"```python\n{_example()}\n```",
        "## Functions",
        *(_function(name, each) for name, each in sorted(functions.items())),
        "## Classes",
        *(_class(name, each) for name, each in sorted(others.items())),
        "## Errors",
        "All errors of edlab derive from `EdlabError`. [Errors](errors.md) lists the messages of each.",
        *(_error(name, each) for name, each in ordered),
    )


def _example() -> str:
    """The lines of code in the package's docstring."""
    return (edlab.__doc__ or "").strip().partition("\n\n")[2]


def _function(name: str, function: Any) -> str:
    return f"### edlab.{name}\n\n{_signature(name, function)}\n\n{markdown.docstring(inspect.getdoc(function) or '')}"


def _signature(name: str, function: Any) -> str:
    """The signature over several lines, as its source states it."""
    lines, keywords = [], False
    signature = inspect.signature(function)
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not keywords:
            keywords = True
            lines.append("    *,")
        annotation = "" if parameter.annotation is parameter.empty else f": {parameter.annotation}"
        default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
        lines.append(f"    {parameter.name}{annotation}{default},")
    returns = signature.return_annotation
    returned = "" if returns is signature.empty or isinstance(function, type) else f" -> {returns}"
    return "\n".join(["```python", f"{name}(", *lines, f"){returned}", "```"])


def _class(name: str, kind: type) -> str:
    parts = [f"### edlab.{name}", markdown.docstring(inspect.getdoc(kind) or "")]
    if name in _ELSEWHERE:
        parts.append(_ELSEWHERE[name])
    elif issubclass(kind, BaseModel):
        parts.append(_fields(kind))
    members = [_member(attribute, each) for attribute, each in vars(kind).items() if _is_public(attribute, each)]
    return "\n\n".join([*parts, *(["\n".join(members)] if members else [])])


def _fields(kind: type) -> str:
    path = f"{kind.__module__.replace('.', '/')}.py"
    stated = [field for field in classes(path)[kind.__name__].fields if field.name != "model_config"]
    rows = [
        [
            markdown.code(field.name), type_in_words(field.type),
            "required" if not field.default or "Field(" in field.default else markdown.code(field.default),
        ]
        for field in stated
    ]  # fmt: skip
    return markdown.table(["field", "type", "default"], rows)


def _is_public(name: str, member: Any) -> bool:
    kinds = (property, classmethod)
    return not name.startswith(("_", "model_")) and (inspect.isfunction(member) or isinstance(member, kinds))


def _member(name: str, member: Any) -> str:
    about = markdown.prose(inspect.getdoc(member) or "")
    if isinstance(member, property):
        return f"- {markdown.code(name)}: {about}"
    function = member.__func__ if isinstance(member, classmethod) else member
    arguments = ", ".join(list(inspect.signature(function).parameters)[1:])
    return f"- {markdown.code(f'{name}({arguments})')}: {about}"


def _error(name: str, kind: type) -> str:
    base = kind.__bases__[0]
    derives = "" if base is Exception else f" Derives from {markdown.code(base.__name__)}."
    signature = f"\n\n{_signature(name, kind)}" if "__init__" in vars(kind) else ""
    return f"### edlab.{name}{signature}\n\n{markdown.docstring(inspect.getdoc(kind) or '')}{derives}"
