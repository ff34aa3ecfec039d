"""The database file of the runs: created complete or not at all, however many processes start and are killed."""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
from pathlib import Path

from filelock import FileLock

from edlab import durable
from edlab.cache import default_cache_dir, digest
from edlab.errors import TrackingError

_BUSY_S = 20  # how long a database that another program has locked is waited for; MLflow's own sessions wait as long
_SPECIAL = "?#%"  # have a meaning in an address, to MLflow or to SQLAlchemy


def create(database: Path, artifacts: Path) -> None:
    """Create the database unless it is there; others that start meanwhile wait.

    MLflow's migration takes seconds and many transactions. So it runs under another name, and what a killed start left
    there is never opened. Raises `TrackingError` for a database that another program began and never ended.
    """
    if _exists(database):
        return
    with FileLock(database.with_name(f".{database.name}.lock")):
        if _exists(database):
            return
        for left_over in database.parent.glob(f".{database.name}-new-*"):
            left_over.unlink()
        scratch = database.with_name(f".{database.name}-new-{secrets.token_hex(4)}")
        scratch.touch()
        try:
            _migrate(scratch, artifacts)
            durable.sync(scratch)
            durable.rename(scratch, database)
        finally:
            scratch.unlink(missing_ok=True)


def address(database: Path) -> str:
    """SQLAlchemy's address of the file, whatever its folder is called.

    MLflow itself makes the folder that the address names, and does not decode it as SQLAlchemy does. So a folder with
    special characters in its path is reached through a link without.
    """
    folder = database.parent
    if _is_special(folder):
        link = default_cache_dir() / "stores" / digest(str(folder))[:16]
        if _is_special(link):
            raise TrackingError(
                f"MLflow cannot keep runs in a folder with ?, # or % in its name: {folder}",
                hint="work in another folder, or set EDLAB_CACHE to a folder without these characters",
            )
        link.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            link.symlink_to(folder)
        folder = link
    return f"sqlite:///{folder / database.name}"


def _is_special(path: Path) -> bool:
    return any(character in str(path) for character in _SPECIAL)


def _migrate(scratch: Path, artifacts: Path) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    store = SqlAlchemyStore(address(scratch), artifacts.as_uri())  # type: ignore[no-untyped-call]
    store.engine.dispose()


def _exists(database: Path) -> bool:
    """Whether there is a complete database. Raises `TrackingError` for one whose migration broke off.

    Older versions of edlab could leave such a one. MLflow creates its first experiment after all tables: without one,
    no run was ever recorded there.
    """
    if not database.exists() or not database.stat().st_size:
        return False
    address = f"{database.as_uri()}?mode=ro"
    try:
        with contextlib.closing(sqlite3.connect(address, uri=True, timeout=_BUSY_S)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            begun = "experiments" in tables and connection.execute("SELECT 1 FROM experiments").fetchone()
    except sqlite3.DatabaseError:
        return True  # locked for long, or no database: MLflow says which
    if not begun:
        raise TrackingError(
            f"{database} is incomplete: the process that created it was killed",
            hint=f"it has no runs: remove it (rm '{database}'), and the next run creates it again",
        )
    return True
