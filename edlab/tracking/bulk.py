"""Many runs at once, from MLflow's database by SQL: its client takes minutes for 10,000 runs.

The tables and their columns are those of MLflow's schema since 1.0 (mlflow/store/tracking/dbmodels/models.py).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from mlflow.entities import Run
    from sqlalchemy import Connection

_SWEEPS = "SELECT run_uuid FROM tags WHERE key = 'edlab.sweep_id'"  # the runs of all sweeps; their parents are no rows
_ACTIVE = "SELECT run_uuid FROM runs WHERE experiment_id = :experiment AND lifecycle_stage = 'active'"
_ALL = f"{_ACTIVE} AND run_uuid IN ({_SWEEPS})"
_OF_SWEEP = f"{_ACTIVE} AND run_uuid IN ({_SWEEPS} AND value = :sweep)"
_COLUMNS = "run_uuid, name, status, start_time, end_time, artifact_uri"  # the first fields of Row


class Row(NamedTuple):
    """A run as MLflow stores it, without its files."""

    run_id: str
    name: str
    status: str  # MLflow's
    start_ms: int  # since the epoch
    end_ms: int | None  # the same; None while it runs
    artifact_uri: str
    params: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]


def row_of(run: Run) -> Row:
    """The same, of a run that MLflow's client has read."""
    info, data = run.info, run.data
    return Row(
        run_id=info.run_id,
        name=info.run_name,
        status=info.status,
        start_ms=info.start_time,
        end_ms=info.end_time,
        artifact_uri=info.artifact_uri,
        params=dict(data.params),
        metrics=dict(data.metrics),
        tags=dict(data.tags),
    )


def is_database(uri: str) -> bool:
    """Whether runs can be read from this store by SQL."""
    return uri.startswith(("sqlite:", "postgresql:", "postgresql+"))


def rows(uri: str, experiment_id: str, sweep_id: str = "") -> list[Row]:
    """The runs of a sweep, or all of the experiment, oldest first."""
    import sqlalchemy as sa

    engine = sa.create_engine(uri, poolclass=sa.NullPool)
    wanted = _OF_SWEEP if sweep_id else _ALL
    values: dict[str, Any] = {"experiment": int(experiment_id), **({"sweep": sweep_id} if sweep_id else {})}
    with engine.connect() as connection:
        query = f"SELECT {_COLUMNS} FROM runs WHERE run_uuid IN ({wanted}) ORDER BY start_time, run_uuid"
        found = connection.execute(sa.text(query), values)
        runs = {each[0]: Row._make((*each, {}, {}, {})) for each in found}
        for run, key, value in _pairs(connection, runs, "params", wanted, values):
            run.params[key] = value
        for run, key, value in _pairs(connection, runs, "tags", wanted, values):
            run.tags[key] = value
        for run, key, value, is_nan in _pairs(connection, runs, "latest_metrics", wanted, values, ", is_nan"):
            run.metrics[key] = math.nan if is_nan else float(value)
    return list(runs.values())


def sweeps(uri: str, experiment_id: str, pattern: str) -> set[str]:
    """The ids of the sweeps that match a pattern of SQL's LIKE."""
    import sqlalchemy as sa

    query = (
        f"SELECT DISTINCT value FROM tags WHERE key = 'edlab.sweep_id' AND value LIKE :like AND run_uuid IN ({_ACTIVE})"
    )
    with sa.create_engine(uri, poolclass=sa.NullPool).connect() as connection:
        found = connection.execute(sa.text(query), {"experiment": int(experiment_id), "like": pattern})
        return {value for (value,) in found}


def _pairs(
    connection: Connection,
    runs: Mapping[str, Row],
    table: str,
    wanted: str,
    values: Mapping[str, Any],
    further: str = "",
) -> Iterator[tuple[Any, ...]]:
    """Run, key and value of a table; each key is one object, however many runs have it.

    A run that was created after `runs` had been read is skipped.
    """
    import sqlalchemy as sa

    query = sa.text(f"SELECT run_uuid, key, value{further} FROM {table} WHERE run_uuid IN ({wanted})")
    for identity, key, *others in connection.execute(query, values):
        if identity in runs:
            yield (runs[identity], sys.intern(key), *others)
