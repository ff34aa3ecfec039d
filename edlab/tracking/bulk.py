"""Many runs at once, from MLflow's database by SQL: its client takes minutes for 10,000 runs.

The tables and their columns are those of MLflow's schema since 1.0 (mlflow/store/tracking/dbmodels/models.py).
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from edlab.tracking.selection import Selection

if TYPE_CHECKING:
    from mlflow.entities import Run
    from sqlalchemy import Connection

_ACTIVE = "SELECT run_uuid FROM runs WHERE experiment_id = :experiment AND lifecycle_stage = 'active'"
_COLUMNS = "run_uuid, name, status, start_time, end_time, artifact_uri"  # the first fields of Row


#: One JSON object of the texts of a run, by database: read in less than half the time of a row for each.
_TOGETHER = {
    "sqlite": "json_group_object(key, value)",
    "postgresql": "CAST(json_object_agg(key, value) AS text)",
}


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


def rows(uri: str, experiment_id: str, selected: Selection, metrics: Collection[str] | None = None) -> list[Row]:
    """The selected runs, oldest first, with these metrics or all."""
    import sqlalchemy as sa

    wanted = f"{_ACTIVE} AND {selected.sql}"
    if selected.limit:
        wanted = f"SELECT run_uuid FROM ({wanted} ORDER BY start_time DESC LIMIT {selected.limit}) AS latest"
    values: dict[str, Any] = {"experiment": int(experiment_id), **({"value": selected.value} if selected.value else {})}
    with _connected(uri) as connection:
        query = f"SELECT {_COLUMNS} FROM runs WHERE run_uuid IN ({wanted}) ORDER BY start_time, run_uuid"
        runs = connection.execute(sa.text(query), values).all()  # others may be created until the next queries
        params, tags = (_texts(connection, table, wanted, values) for table in ("params", "tags"))
        # Not as JSON: SQLite rounds a number when it writes it as text.
        query = f"SELECT run_uuid, key, value, is_nan FROM latest_metrics WHERE run_uuid IN ({wanted})"
        if metrics is not None:
            query, values = f"{query} AND key IN :metrics", values | {"metrics": list(metrics)}
        numbers: dict[str, dict[str, float]] = {run[0]: {} for run in runs}
        for identity, key, value, is_nan in _tuples(connection, query, values):
            if identity in numbers:
                numbers[identity][sys.intern(key)] = math.nan if is_nan else float(value)
    return [Row._make((*run, params.get(run[0], {}), numbers[run[0]], tags.get(run[0], {}))) for run in runs]


def _texts(connection: Connection, table: str, wanted: str, values: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """The keys and values of a table by run."""
    import sqlalchemy as sa

    together = _TOGETHER[connection.dialect.name]
    query = f"SELECT run_uuid, {together} FROM {table} WHERE run_uuid IN ({wanted}) GROUP BY run_uuid"
    return {identity: json.loads(text) for identity, text in connection.execute(sa.text(query), values)}


def _tuples(connection: Connection, query: str, values: Mapping[str, Any]) -> Sequence[tuple[Any, ...]]:
    """The rows of a query by the database's own driver: SQLAlchemy makes an object of each of a million short rows."""
    import sqlalchemy as sa

    parameters: list[sa.BindParameter[Any]] = [
        sa.bindparam(name, value, expanding=isinstance(value, list)) for name, value in values.items()
    ]
    compiled = sa.text(query).bindparams(*parameters).compile(connection, compile_kwargs={"literal_binds": True})
    cursor = connection.connection.cursor()
    cursor.execute(str(compiled))
    return cursor.fetchall()


def sweeps(uri: str, experiment_id: str, pattern: str) -> set[str]:
    """The ids of the sweeps that match a pattern of SQL's LIKE."""
    import sqlalchemy as sa

    query = (
        f"SELECT DISTINCT value FROM tags WHERE key = 'edlab.sweep_id' AND value LIKE :like AND run_uuid IN ({_ACTIVE})"
    )
    with _connected(uri) as connection:
        found = connection.execute(sa.text(query), {"experiment": int(experiment_id), "like": pattern})
        return {value for (value,) in found}


def latest_sweep(uri: str, experiment_id: str, unlike: str) -> str:
    """The id of the sweep of the latest run, without those that match a pattern of SQL's LIKE; empty without runs."""
    import sqlalchemy as sa

    query = (
        "SELECT value FROM tags JOIN runs ON tags.run_uuid = runs.run_uuid "
        "WHERE key = 'edlab.sweep_id' AND value NOT LIKE :unlike "
        "AND experiment_id = :experiment AND lifecycle_stage = 'active' ORDER BY start_time DESC LIMIT 1"
    )
    with _connected(uri) as connection:
        found = connection.execute(sa.text(query), {"experiment": int(experiment_id), "unlike": unlike})
        return str(next(iter(found.scalars()), ""))


def active_experiment(uri: str, name: str) -> str:
    """The id of the active experiment with this name; empty if there is none."""
    import sqlalchemy as sa

    query = "SELECT experiment_id FROM experiments WHERE name = :name AND lifecycle_stage = 'active'"
    with _connected(uri) as connection:
        return str(next(iter(connection.execute(sa.text(query), {"name": name}).scalars()), ""))


@contextmanager
def _connected(uri: str) -> Iterator[Connection]:
    """A connection to the database."""
    import sqlalchemy as sa

    with sa.create_engine(uri, poolclass=sa.NullPool).connect() as connection:
        yield connection
