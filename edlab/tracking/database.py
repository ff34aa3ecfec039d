"""The database file of the runs: created completely or not at all, however many processes start and are killed."""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
from pathlib import Path

from filelock import FileLock

from edlab import durable
from edlab.cache import default_cache_dir, digest
from edlab.errors import TrackingError

_BUSY_S = 20  # time to wait for a database that another program has locked; MLflow's own sessions wait as long
_SPECIAL = "?#%"  # special in an address, for MLflow or SQLAlchemy


def create(database: Path, artifacts: Path) -> None:
    """Create the database if it is missing; other processes that start in that time wait.

    MLflow's migration takes seconds and many transactions. So it runs under another name, and leftovers of a killed
    process are never opened. Raises `TrackingError` for a database that another program did not complete.
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
    """SQLAlchemy's address of the file, whatever the name of its folder.

    MLflow itself creates the folder in the address, and does not decode it as SQLAlchemy does. So a folder with special
    characters in its path is accessed through a link without them.
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
    """Whether there is a complete database. Raises `TrackingError` for one with an interrupted migration.

    Older versions of edlab could leave one. MLflow creates its first experiment after all tables: without an
    experiment, no run was ever recorded there.
    """
    if not database.exists() or not database.stat().st_size:
        return False
    address = f"{database.as_uri()}?mode=ro"
    try:
        with contextlib.closing(sqlite3.connect(address, uri=True, timeout=_BUSY_S)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            begun = "experiments" in tables and connection.execute("SELECT 1 FROM experiments").fetchone()
    except sqlite3.DatabaseError:
        return True  # locked for long, or not a database: MLflow reports which
    if not begun:
        raise TrackingError(
            f"{database} is incomplete: the process that created it was killed",
            hint=f"it has no runs: remove it (rm '{database}'), and the next run creates it again",
        )
    return True
