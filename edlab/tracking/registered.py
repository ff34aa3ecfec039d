"""Models in MLflow's registry: their addresses and versions, and the registration of a run's converted model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from edlab.errors import ConfigError, TrackingError
from edlab.registry import did_you_mean
from edlab.tracking import codec, description
from edlab.tracking.bulk import Row
from edlab.tracking.runs import Runs
from edlab.tracking.selection import without_quotes
from edlab.tracking.store import Store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel

_SCHEME = "models:/"
_ALIAS = re.compile(r"[\w-]+", re.ASCII)
_RESERVED_ALIAS = re.compile(r"latest|v\d+", re.IGNORECASE)
_PROMOTED_TAGS = ("edlab.verdict", "edlab.status", "edlab.artifact_sha256", "edlab.task", "edlab.sweep_id")


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
    alias_before: str  # the version that the alias pointed at; empty if there was none
    uri: str  # of the store, for MLFLOW_TRACKING_URI


def promote(store: Store, runs: Runs, name: str, registered: str, alias: str) -> tuple[Row, Promoted]:
    """Register the converted model of a run; see `Tracker.promote`."""
    _check_names(registered, alias)
    row = runs.find_with_model(name)
    run_id, tags = row.run_id, row.tags
    with store.explained(f"register the model of run {run_id[:12]} as {registered}"):
        condition = f"tags.`edlab.uuid` = '{codec.uuid_of(tags)}'"
        models = store.client.search_logged_models([store.experiment_id], condition)
        if not models:
            raise TrackingError(
                f"run {run_id[:12]} has no logged model in MLflow",
                hint="an earlier edlab recorded it: run it again",
            )
        verdict = tags.get("edlab.verdict", "none")
        about = f"{description.without_mark(row.name)}, edlab run {run_id}, verdict {verdict}"
        copied = {key: tags[key] for key in _PROMOTED_TAGS if key in tags}
        version, existed = _register(store.client, models[0], registered, about, copied)
        before = _point(store.client, registered, alias, version) if alias else ""
    address = Address(registered, alias=alias) if alias else Address(registered, version)
    return row, Promoted(address, version, existed, before, store.shown_uri)


def _check_names(name: str, alias: str) -> None:
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


def _register(
    client: MlflowClient,
    model: LoggedModel,
    name: str,
    about: str,
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
            description=about,
            tags=dict(tags),
        )
    )
    return str(version.version), bool(earlier)


def _point(client: MlflowClient, name: str, alias: str, version: str) -> str:
    """Point the alias at this version; return the one that it pointed at before, empty if there was none."""
    before = client.get_registered_model(name).aliases.get(alias, "")
    client.set_registered_model_alias(name, alias, version)
    return str(before)


def find_version(client: MlflowClient, address: Address) -> Address:
    """The address with its version. Raises `TrackingError` for an unknown model, version or alias."""
    condition = f"name = '{without_quotes(address.name)}'"
    known = {version.version: version for version in client.search_model_versions(condition)}
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
