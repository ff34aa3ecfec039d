"""Shell completion of `edlab`: commands, the groups, names and keys of overrides, and the ids of runs."""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from edlab.composition import compose_config, groups, options
from edlab.identity import SWEEPS

_MOST_RUNS = 200


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


def runs(prefix: str) -> list[str]:
    """Ids of the latest runs and sweeps that begin with `prefix`, from the database in ./mlruns."""
    found = [folder.name for folder in sorted(SWEEPS.glob("*"), reverse=True)] if SWEEPS.is_dir() else []
    uri = compose_config([]).tracking.uri
    database = Path(uri.removeprefix("sqlite:///"))
    if uri.startswith("sqlite:///") and database.is_file():  # MLflow's own client takes seconds to start
        query = "SELECT run_uuid FROM runs WHERE lifecycle_stage = 'active' ORDER BY start_time DESC LIMIT ?"
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            found += [identity[:12] for (identity,) in connection.execute(query, [_MOST_RUNS])]
    return [each for each in found if each.startswith(prefix)]


def _keys() -> Iterator[str]:
    yield from _flat("", dataclasses.asdict(compose_config([])))


def _flat(prefix: str, values: Any) -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(f"{prefix}{name}.", value)
        else:
            yield f"{prefix}{name}"
