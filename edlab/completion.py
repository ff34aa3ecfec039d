"""Shell completion of `edlab`: commands, and the groups, names and keys of overrides."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from edlab.composition import compose_config, groups, options


def script(shell: str) -> str:
    """The code that a shell runs when it starts, so that it asks `edlab` for completions."""
    from argcomplete.shell_integration import shellcode

    code: str = shellcode(["edlab"], shell=shell)
    return code


def overrides(prefix: str) -> list[str]:
    """The overrides that begin with `prefix`: `GROUP=`, `KEY=`, and the names of a group, also after a comma."""
    key, separator, value = prefix.partition("=")
    if not separator:
        return [f"{name}=" for name in (*groups(), *_keys())]
    chosen, comma, _ = value.rpartition(",")
    return [f"{key}={chosen}{comma}{name}" for name in options(key)] if key in groups() else []


def _keys() -> Iterator[str]:
    yield from _flat("", dataclasses.asdict(compose_config([])))


def _flat(prefix: str, values: Any) -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(f"{prefix}{name}.", value)
        else:
            yield f"{prefix}{name}"
