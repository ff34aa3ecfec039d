"""docs/reference/meters.md: the power meters and their options, from the comments of conf/meter/*.yaml."""

from __future__ import annotations

import re
from collections.abc import Iterator

from docs_pages import markdown
from docs_pages.fields import ROOT

_OPTION = re.compile(r"^  (\w+): (.*?) +# (.*)$")


def page() -> str:
    """The page."""
    names = sorted(path.stem for path in (ROOT / "conf/meter").glob("*.yaml") if path.stem != "none")
    return markdown.page(
        "Power meters",
        "The power meters that edlab reads, with their options.",
        "Choose a meter with `meter=NAME`, and set its options with `meter.options.KEY=VALUE`. `edlab doctor` with the "
        "same settings reads it for five seconds. [Power](../power.md) describes what is measured.",
        *(_section(name) for name in names),
    )


def _section(name: str) -> str:
    source = (ROOT / "conf/meter" / f"{name}.yaml").read_text()
    rows = [[markdown.code(key), default, meaning] for key, default, meaning in _options(source)]
    about = " ".join(line.removeprefix("# ") for line in source.partition("name:")[0].splitlines())
    return f"## {name}\n\n{about}\n\n{markdown.table(['option', 'default', 'meaning'], rows)}"


def _options(source: str) -> Iterator[tuple[str, str, str]]:
    """Key, default and meaning of each line below `options`. Exits for a line without a comment."""
    for line in source.partition("options:\n")[2].splitlines():
        match = _OPTION.match(line)
        if not match:
            raise SystemExit(f"add the meaning to this line of conf/meter as a comment: {line.strip()}")
        key, default, meaning = match.groups()
        yield key, "required" if default == "???" else markdown.code(default), meaning
