"""docs/reference/configuration.md: every key, from edlab/config.py, and every option of every group, from conf/."""

from __future__ import annotations

import ast
import dataclasses
import re
from collections import defaultdict
from enum import StrEnum
from typing import Any, get_type_hints

import yaml
from docs_pages import markdown
from docs_pages.fields import ROOT, Class, Field, classes, type_in_words
from omegaconf import MISSING

from edlab import config

_SOURCE = "edlab/config.py"
_FEW = 6  # maximum number of options that are listed with their values; if there are more, only the options are listed
_SHORT = 60


@dataclasses.dataclass(frozen=True)
class Key:
    """A key of the configuration."""

    path: str
    field: Field
    meta: dataclasses.Field[Any]
    kind: Any  # its type at run time


@dataclasses.dataclass(frozen=True)
class Option:
    """A YAML file of a group: its description, the options that it chooses, and the keys that it sets."""

    group: str
    name: str
    about: str
    brings: tuple[str, ...]
    values: dict[str, Any]


def page() -> str:
    """The page."""
    found = options()
    setters = _setters(found)
    groups = [field.name for field in dataclasses.fields(config.EdlabConfig) if (ROOT / "conf" / field.name).is_dir()]
    tops = list(dict.fromkeys(key.path.partition(".")[0] for key in keys()))
    sections = [_section(top, [each for each in found if each.group == top], setters) for top in tops]
    return markdown.page(
        "Configuration keys",
        "Every key of the configuration, with its type, default, bounds and meaning.",
        "Set a key on the command line with `KEY=VALUE`, for example `edlab run device.threads=1`. Choose an option of "
        "a group with `GROUP=NAME`, for example `device=jetson`: it sets the keys that its yaml file in `conf/` "
        "lists. Values on the command line override them. `edlab run --cfg job` prints the resulting configuration. A "
        "key that is not on this page is refused, except below the mappings that accept any key.",
        f"Groups: {', '.join(f'[{group}](#{group})' for group in groups)}.",
        "`required` in the column *default* means that the dataclass has no default: an option, or you, must set the "
        "key. The column *set by* names the options that set a key to a value other than the default.",
        *sections,
        "## Values\n\n" + "\n\n".join(_enumeration(each) for each in _enumerations()),
    )


def keys() -> list[Key]:
    """Every key, in the order of the dataclasses."""
    return list(_walk("", config.EdlabConfig))


def _walk(prefix: str, kind: Any) -> list[Key]:
    stated = {field.name: field for field in classes(_SOURCE)[kind.__name__].fields}
    types = get_type_hints(kind)
    found = []
    for meta in dataclasses.fields(kind):
        path, inner = f"{prefix}{meta.name}", types[meta.name]
        if dataclasses.is_dataclass(inner):
            found += _walk(f"{path}.", inner)
        else:
            found.append(Key(path, stated[meta.name], meta, inner))
    return found


def _section(top: str, found: list[Option], setters: dict[str, list[tuple[Option, Any]]]) -> str:
    of_it = [key for key in keys() if key.path.partition(".")[0] == top]
    parts = [f"## {top}"]
    if cls := _class_of(top):
        parts.append(markdown.docstring(cls.doc))
    if found:
        rows = [[markdown.code(f"{top}={each.name}"), each.about, ", ".join(each.brings)] for each in found]
        brings = any(each.brings for each in found)
        heading = ["option", "what it is", "also chooses"]
        parts.append(markdown.table(heading, rows) if brings else _without_last(heading, rows))
    parts.append(markdown.table(["key", "meaning", "type", "default", "bounds", "set by"], [
        [
            markdown.code(key.path), _meaning(key), _type(key), _default(key), _bounds(key.meta.metadata),
            _set_by(key, setters[key.path], found),
        ]
        for key in of_it
    ]))  # fmt: skip
    return "\n\n".join(parts)


def _without_last(heading: list[str], rows: list[list[str]]) -> str:
    return markdown.table(heading[:-1], [row[:-1] for row in rows])


def _class_of(top: str) -> Class | None:
    kind = get_type_hints(config.EdlabConfig)[top]
    return classes(_SOURCE)[kind.__name__] if dataclasses.is_dataclass(kind) else None


def _meaning(key: Key) -> str:
    if not key.field.comment:
        raise SystemExit(f"{_SOURCE}: {key.path} has no meaning; add a comment on the line of its field")
    return markdown.with_null(key.field.comment)


def _type(key: Key) -> str:
    node = key.field.type
    optional = isinstance(node, ast.Subscript) and ast.unparse(node.value) == "Optional"
    inner = node.slice if isinstance(node, ast.Subscript) and optional else node
    name = ast.unparse(inner)
    if name not in {kind.__name__ for kind in _enumerations()}:
        return type_in_words(node)
    return f"[{name}](#{name.lower()})" + (", or null" if optional else "")


def _default(key: Key) -> str:
    if key.meta.default_factory is not dataclasses.MISSING:
        return markdown.code(str(key.meta.default_factory()))
    if key.meta.default == MISSING:
        return "required"
    return _value(key.meta.default)


def _value(value: Any) -> str:
    """A value in YAML."""
    if isinstance(value, StrEnum):
        value = value.value
    if isinstance(value, str):
        return markdown.code(value or '""')
    return markdown.code(re.sub(r"\n(\.\.\.\n)?", "", yaml.safe_dump(value, default_flow_style=True, width=1e9)))


def _bounds(metadata: Any) -> str:
    if "least" not in metadata:
        return ""
    least, most = metadata["least"], metadata["most"]
    return f"{least} or more" if most is None else f"{least} to {most}"


def _set_by(key: Key, setters: list[tuple[Option, Any]], found: list[Option]) -> str:
    values = {f"{option.group}={option.name}": _value(value) for option, value in setters}
    if key.field.name == "name" and len(setters) == len(found):
        return "each option: its own name"
    values = {option: value for option, value in values.items() if value != _default(key)}
    if len(values) <= _FEW and all(len(value) <= _SHORT for value in values.values()):
        return "; ".join(f"{markdown.code(option)}: {value}" for option, value in values.items())
    return "each option" if len(values) == len(found) else ", ".join(map(markdown.code, values))


def options() -> list[Option]:
    """The options of all groups."""
    return [_option(path.parent.name, path.stem, path.read_text()) for path in sorted((ROOT / "conf").glob("*/*.yaml"))]


def _option(group: str, name: str, source: str) -> Option:
    content = yaml.safe_load(source) or {}
    brings = []
    for entry in content.pop("defaults", []):
        if isinstance(entry, dict):
            brings += [markdown.code(f"{key.split('/')[-1]}={value}") for key, value in entry.items()]
        elif entry != "_self_":
            brings.append(f"what {markdown.code(f'{group}={entry}')} sets")
    prefix = "" if "@package _global_" in source else f"{group}."
    about = first_comment(source)
    if not about:
        raise SystemExit(f"conf/{group}/{name}.yaml has no comment: begin it with a line that describes it")
    return Option(group, name, markdown.prose(about), tuple(brings), _flat(prefix, content))


def first_comment(source: str) -> str:
    """The first sentence of the first comment, other than Hydra's own."""
    lines = [line.strip() for line in source.splitlines() if "# @package" not in line]
    text: list[str] = []
    for line in lines:
        comment = re.search(r"(?:^|\s)# ?(.*)", line)
        if comment:
            text.append(comment[1])
        if text and not (comment and line.startswith("#")):
            break
    return re.split(r"(?<=[.])\s+(?=[A-Z])|(?<=:)$", " ".join(text))[0].rstrip(".:")


def _flat(prefix: str, content: Any) -> dict[str, Any]:
    known = {key.path for key in keys()}
    found: dict[str, Any] = {}
    for name, value in content.items():
        path = f"{prefix}{name}"
        if path == "meter.options":  # each meter has its own: reference/meters.md
            continue
        if path in known:
            found[path] = value
        else:
            found |= _flat(f"{path}.", value or {})
    return found


def _setters(found: list[Option]) -> dict[str, list[tuple[Option, Any]]]:
    setters = defaultdict(list)
    for option in found:
        for path, value in option.values.items():
            setters[path].append((option, value))
    return setters


def _enumerations() -> list[type[StrEnum]]:
    kinds = vars(config).values()
    return [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, StrEnum) and kind is not StrEnum]


def _enumeration(kind: type[StrEnum]) -> str:
    cls = classes(_SOURCE)[kind.__name__]
    values = "\n".join(
        f"- {markdown.code(value)}" + (f": {markdown.prose(comment)}" if comment else "")
        for value, comment in cls.members
    )
    return f"### {kind.__name__}\n\n{markdown.docstring(cls.doc)}\n\n{values}"
