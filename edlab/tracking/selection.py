"""Some runs of an experiment, as a condition for MLflow's database and as a filter for its client."""

from __future__ import annotations

import re
from typing import NamedTuple

ROW = "edlab.sweep_id"  # the tag of a row of a sweep, with the sweep's id; parents of sweeps do not have it

_SWEEPS = f"SELECT run_uuid FROM tags WHERE key = '{ROW}'"
_ROWS = f"tags.`{ROW}` LIKE '%'"


class Selection(NamedTuple):
    """A condition of SQL on the table `runs`, whose parameter is `value`, and the same in MLflow's filter syntax."""

    sql: str
    filter: str
    value: str = ""
    limit: int = 0  # only the latest ones; 0: all


def all_rows() -> Selection:
    """The rows of all sweeps."""
    return Selection(f"run_uuid IN ({_SWEEPS})", _ROWS)


def latest_rows(count: int) -> Selection:
    """The latest rows."""
    return all_rows()._replace(limit=count)


def of_sweep(sweep_id: str) -> Selection:
    """The rows of a sweep."""
    return Selection(f"run_uuid IN ({_SWEEPS} AND value = :value)", f"tags.`{ROW}` = '{sweep_id}'", sweep_id)


def with_id(prefix: str) -> Selection:
    """The runs, also parents of sweeps, whose id begins with these hexadecimal digits."""
    return Selection("run_uuid LIKE :value", f"attributes.run_id LIKE '{prefix}%'", f"{prefix}%")


def with_name(ending: str) -> Selection:
    """The rows whose name ends so; also others, if it has characters that mean something in a pattern."""
    pattern = f"%{without_quotes(ending)}"
    filter_ = f"attributes.run_name LIKE '{pattern}' and {_ROWS}"
    return Selection(f"run_uuid IN ({_SWEEPS}) AND name LIKE :value", filter_, pattern)


def without_quotes(word: str) -> str:
    """The text for one of MLflow's filters, which cannot escape a quote: _ matches any one character."""
    return re.sub(r"['\\]", "_", word)
