"""Converted models out of MLflow: the files of a run or of a registered model, checked by their hashes."""

from __future__ import annotations

import json
import re
import shlex
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any

from edlab.cache import sha256_files
from edlab.errors import StorageError, TrackingError
from edlab.tracking import description
from edlab.tracking.files import CONVERTED
from edlab.tracking.registered import Address, find_version
from edlab.tracking.runs import Runs
from edlab.tracking.store import Store

MANIFEST = "edlab.json"
_OF_MLFLOW = "registered_model_meta"  # it writes this into what it loads


def pull(store: Store, runs: Runs, name: str, to: Path | None, force: bool) -> list[Path]:
    """Copy the converted model of a run, or a registered model by its address; see `Tracker.pull`."""
    if address := Address.parse(name):
        return _pull_registered(store, address, to, force)
    row = runs.find_with_model(name)
    run_id = row.run_id
    to = to or Path(_as_folder(f"{description.without_mark(row.name)}-{run_id[:8]}"))
    origin = f"run {run_id[:12]}"
    with store.explained(f"copy the model of {origin} to {to}"), _scratch_near(to) as temp:
        fetched = Path(store.client.download_artifacts(run_id, CONVERTED, str(temp)))
        recorded = runs.record(run_id).details.get("artifact", {}).get("files", [])
        _verify(fetched, origin, row.tags.get("edlab.artifact_sha256", ""), recorded)
        return _place(fetched, to, force)


def _pull_registered(store: Store, address: Address, to: Path | None, force: bool) -> list[Path]:
    """Copy the files of a registered model."""
    from mlflow.artifacts import download_artifacts

    with store.explained(f"look for {address}"):
        found = find_version(store.client, address)
    to = to or Path(_as_folder(f"{found.name}-{found.version}"))
    with store.explained(f"copy {address} to {to}"), _scratch_near(to) as temp:
        source = store.client.get_model_version_download_uri(found.name, found.version)
        fetched = Path(download_artifacts(source, dst_path=str(temp), tracking_uri=store.uri))
        if not (fetched / MANIFEST).exists():
            raise TrackingError(
                f"{address} has no {MANIFEST}: edlab did not register it",
                hint="`edlab promote RUN --as NAME` registers a run's model; mlflow.artifacts.download_artifacts "
                "copies other models",
            )
        _verify(fetched, str(address))
        return _place(fetched, to, force)


def _as_folder(name: str) -> str:
    """A name as the name of a folder."""
    return re.sub(r"[^\w.-]+", "-", name)


@contextmanager
def _scratch_near(to: Path) -> Iterator[Path]:
    """A temporary folder on the disk of the folder `to`, so that a file gets there completely or not at all.

    Raises `StorageError` if `to` cannot be a folder, or nothing can be written there.
    """
    parent = next(place for place in (to, *to.absolute().parents) if place.exists())
    try:
        temp = tempfile.TemporaryDirectory(dir=parent, prefix=".edlab-pull-")
    except OSError as error:
        reason = f"{parent} is a file" if parent.is_file() else error.strerror
        raise StorageError(f"cannot write to {to}: {reason}", hint="choose another folder with --to DIR") from error
    with temp as folder:
        yield Path(folder)


def _place(fetched: Path, to: Path, force: bool) -> list[Path]:
    """Move the files of a folder into the folder `to`.

    Raises `TrackingError` if one exists and `force` is False; then none is moved.
    """
    sources = sorted(path for path in fetched.iterdir() if path.is_file() and path.name != _OF_MLFLOW)
    targets = [to / path.name for path in sources]
    existing = [str(path) for path in targets if path.exists()]
    if existing and not force:
        many = f" and {len(existing) - 1} more already exist" if len(existing) > 1 else " already exists"
        raise TrackingError(
            f"{existing[0]}{many}", hint="choose another folder with --to DIR, or overwrite with --force"
        )
    if folders := [path for path in targets if path.is_dir()]:
        raise TrackingError(f"{folders[0]} is a folder", hint="choose another folder with --to DIR")
    to.mkdir(parents=True, exist_ok=True)
    for source, target in zip(sources, targets, strict=True):
        source.replace(target)
    return targets


def _verify(folder: Path, origin: str, sha256: str = "", order: Iterable[str] = ()) -> None:
    """Raise `TrackingError` if the files of a model are not those that were recorded.

    edlab.json has the hash of each. `sha256` is the hash over the files in this order; without it, and for a run of an
    earlier edlab without `order`, nothing more is checked.
    """
    manifest = _read(folder / MANIFEST, origin)
    for file in manifest.get("files", []):
        path = folder / PurePath(file["name"]).name
        if not path.is_file():
            raise _damaged(f"{path.name} is missing", origin)
        if sha256_files([path]) != file["sha256"]:
            raise _damaged(f"{path.name} is not the recorded file (SHA-256)", origin)
    names = [PurePath(name).name for name in order] or [file["name"] for file in manifest.get("files", [])]
    paths = [folder / name for name in names]
    if sha256 and paths and (not all(map(Path.is_file, paths)) or sha256_files(paths) != sha256):
        raise _damaged(f"{', '.join(names)}: not the recorded files (SHA-256 of the run)", origin)


def how_to_run(files: Iterable[Path]) -> list[str]:
    """The lines that say how to run a model whose files these are; none without edlab.json."""
    manifest = next((path for path in files if path.name == MANIFEST), None)
    if manifest is None:
        return []
    facts = _read(manifest, str(manifest))
    if not facts.get("example"):
        return [f"no example program: {facts.get('no_example')}; {manifest} describes the model"]
    install, command = facts["how_to_run"]
    program = facts["example"]
    return [f"run it: {install}", f"        {command.replace(program, shlex.quote(str(manifest.parent / program)))}"]


def _read(path: Path, origin: str) -> dict[str, Any]:
    """An edlab.json; empty if there is none, as in runs of an earlier edlab."""
    try:
        found = json.loads(path.read_text())
        return found if isinstance(found, dict) and "files" in found else {}
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise _damaged(f"{MANIFEST} is not valid", origin) from error


def _damaged(what: str, origin: str) -> TrackingError:
    return TrackingError(
        f"the artifact of {origin} is damaged: {what}",
        hint="nothing was copied; restore MLflow's artifacts from a backup, or run the same command again",
    )
