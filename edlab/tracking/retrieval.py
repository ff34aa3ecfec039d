"""Converted models out of MLflow: files of a run or of a registered model, checked by their hashes; registration."""

from __future__ import annotations

import json
import re
import shlex
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, NamedTuple

from edlab.cache import sha256_files
from edlab.errors import ConfigError, StorageError, TrackingError
from edlab.registry import did_you_mean

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel

MANIFEST = "edlab.json"
_OF_MLFLOW = "registered_model_meta"  # it writes this into what it loads
_SCHEME = "models:/"
_ALIAS = re.compile(r"[\w-]+", re.ASCII)
_RESERVED_ALIAS = re.compile(r"latest|v\d+", re.IGNORECASE)


class Address(NamedTuple):
    """A version of a registered model: models:/NAME/1, models:/NAME/latest or models:/NAME@ALIAS."""

    name: str
    version: str = ""  # or "latest"
    alias: str = ""

    @classmethod
    def parse(cls, text: str) -> Address | None:
        """The address in a text; None if it is another kind of name. Raises `ConfigError` if it is incomplete."""
        if not text.startswith(_SCHEME):
            return None
        found = re.fullmatch(r"([^/@]+)(?:/(\d+|latest)|@(.+))", text.removeprefix(_SCHEME))
        if not found:
            raise ConfigError(
                f"'{text}' is not the address of a registered model",
                hint="write models:/NAME@ALIAS, models:/NAME/VERSION or models:/NAME/latest",
            )
        return cls(found[1], found[2] or "", found[3] or "")

    def __str__(self) -> str:
        return f"{_SCHEME}{self.name}@{self.alias}" if self.alias else f"{_SCHEME}{self.name}/{self.version}"


class Promoted(NamedTuple):
    """A registered model: its address, its version, and whether this run was registered under that name before."""

    address: Address
    version: str
    existed: bool
    uri: str  # of the store, for MLFLOW_TRACKING_URI


def check_names(name: str, alias: str) -> None:
    """Raise `ConfigError` for a name or an alias (if it is not empty) that a registered model cannot have."""
    if not name.strip() or not name.isprintable() or re.search(r"[/:@'\"%]", name):
        raise ConfigError(
            f"'{name}' is not a valid name of a registered model",
            hint="use letters, digits, spaces and - _ . in --as NAME",
        )
    if alias and (not _ALIAS.fullmatch(alias) or _RESERVED_ALIAS.fullmatch(alias)):
        raise ConfigError(
            f"'{alias}' is not a valid alias",
            hint="use letters, digits, - and _ in --alias; MLflow reserves 'latest' and v1, v2, ...",
        )


def register(
    client: MlflowClient,
    model: LoggedModel,
    name: str,
    alias: str,
    description: str,
    tags: Mapping[str, str],
) -> tuple[str, bool]:
    """Register a logged model under this name, once; return its version, and whether it was registered before."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    earlier = [each for each in client.search_model_versions(f"name = '{name}'") if each.run_id == model.source_run_id]
    version = (
        earlier[0]
        if earlier
        else client.create_model_version(
            name,
            source=model.artifact_location,  # not models:/ID, which a database looks up in another store
            run_id=model.source_run_id,
            model_id=model.model_id,
            description=description,
            tags=dict(tags),
        )
    )
    if alias:
        client.set_registered_model_alias(name, alias, str(version.version))
    return str(version.version), bool(earlier)


def find_version(client: MlflowClient, address: Address) -> Address:
    """The address with its version. Raises `TrackingError` for an unknown model, version or alias."""
    known = {version.version: version for version in client.search_model_versions(f"name = '{_quoted(address.name)}'")}
    if not known:
        names = [model.name for model in client.search_registered_models(max_results=100) if model.latest_versions]
        listed = f"registered: {', '.join(names)}" if names else "none is registered: `edlab promote RUN --as NAME`"
        raise TrackingError(
            f"the registered model '{address.name}' is not found", hint=f"{did_you_mean(address.name, names)}{listed}"
        )
    version = address.version
    aliases = dict(client.get_registered_model(address.name).aliases)
    if address.alias:
        version = str(aliases.get(address.alias, ""))
    elif version == "latest":
        version = str(max(known, key=int))
    if version not in {str(number) for number in known}:
        versions = ", ".join(sorted(map(str, known), key=int))
        named = ", ".join(f"{alias} (version {number})" for alias, number in aliases.items()) or "none"
        raise TrackingError(f"{address} is not found", hint=f"versions: {versions}; aliases: {named}")
    return Address(address.name, version)


def _quoted(word: str) -> str:
    return word.replace("'", "_")


@contextmanager
def scratch_near(to: Path) -> Iterator[Path]:
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


def place(fetched: Path, to: Path, force: bool) -> list[Path]:
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


def verify(folder: Path, origin: str, sha256: str = "", order: Iterable[str] = ()) -> None:
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
