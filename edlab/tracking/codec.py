"""A run's record as MLflow's parameters, metrics and tags, and back.

MLflow keeps parameters as text. A text that reads as JSON is decoded, so a setting that is itself such a text ("4",
"true") comes back as the number or the boolean; `as_text`, by which settings are compared, is the same for both.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from edlab.metrics import catalogue
from edlab.record import Reason, RunRecord, Stage, Status, Verdict, VerdictState, as_text, finite
from edlab.tracking import description
from edlab.tracking.bulk import Row
from edlab.tracking.files import DatasetInfo
from edlab.tracking.liveness import HIDDEN
from edlab.tracking.selection import ROW
from edlab.tracking.sweeps import TAG_LENGTH

if TYPE_CHECKING:
    from mlflow.entities import Metric, Param, RunTag

UUID = f"{HIDDEN}uuid"  # the tag with edlab's own id of a run
KILLED = "the process of this run was killed before it recorded the run"
KILLED_HINT = "run the same command again: finished conversions are in the cache"

_REASON = f"{HIDDEN}reason."  # and a number from 1: a reason of the verdict, as JSON
_INTERMEDIATE = f"{HIDDEN}intermediate"  # the file of a conversion that was not completed
_MISSING = "missing."
_NO_FACTS = {  # the tags edlab.* that are not tags of the record
    "verdict", "verdict_reasons", "status", "stage", "reason", "hint", "sweep_id", "uuid", "host",
}  # fmt: skip

# Limits of MLflow's REST API.
_PARAM_LENGTH = 6000
DATASET_DIGEST_LENGTH = 36


def params(record: RunRecord) -> dict[str, str]:
    """The parameters as MLflow stores them."""
    return {key: as_text(value)[:_PARAM_LENGTH] for key, value in record.params.items()}


def tags(record: RunRecord) -> dict[str, str]:
    """The tags: the run's verdict, its end, the record's tags, and why metrics are missing.

    MLflow shows them in the order in which they are written.
    """
    found = {}
    if record.verdict:
        found["edlab.verdict"] = record.verdict.state.value
        found["edlab.verdict_reasons"] = ",".join(reason.code for reason in record.verdict.reasons)
    found["edlab.status"] = record.status.value
    optional = {"edlab.stage": record.stage, "edlab.reason": record.reason, "edlab.hint": record.hint}
    found.update({key: str(value) for key, value in optional.items() if value})
    found[ROW], found["edlab.uuid"] = record.sweep_id, record.uuid
    found.update({f"edlab.{key}": value for key, value in record.tags.items()})
    found.update({_missing_tag(name, record): reason for name, reason in record.missing.items()})
    if name := record.details.get("intermediate"):
        found[_INTERMEDIATE] = name
    for number, reason in enumerate(record.verdict.reasons if record.verdict else (), 1):
        found[f"{_REASON}{number}"] = reason.model_dump_json()
    return {key: value[:TAG_LENGTH] for key, value in found.items()}


def metrics(record: RunRecord, dataset: DatasetInfo | None, model_id: str | None) -> list[Metric]:
    """The metrics, also for the logged model; accuracy is linked to its data set.

    The six come first, latency before accuracy: MLflow's page for comparing runs begins with the first one, and most
    sweeps have rows of equal accuracy.
    """
    from mlflow.entities import Metric

    accuracy, *rates = description.headlines(record)
    headlines = [*rates, accuracy]
    rank = {prefix + name: index for index, name in enumerate(headlines) for prefix in ("", *catalogue.PREFIXES)}
    ordered = sorted(record.metrics, key=lambda name: rank.get(name, len(rank)))
    found = []
    for name in ordered:
        scored = dataset if dataset and name.startswith("accuracy_") else None
        found.append(
            Metric(
                name,
                float(record.metrics[name]),
                timestamp=record.ended_ms,  # the same at each try: an existing value is not added again
                step=0,
                model_id=model_id,
                dataset_name=scored.name if scored else None,
                dataset_digest=scored.digest[:DATASET_DIGEST_LENGTH] if scored else None,
            )
        )
    return found


def as_params(values: Mapping[str, str]) -> list[Param]:
    """Parameters in the form of MLflow's client."""
    from mlflow.entities import Param

    return [Param(key, value) for key, value in values.items()]


def as_tags(values: Mapping[str, str]) -> list[RunTag]:
    """Tags in the form of MLflow's client."""
    from mlflow.entities import RunTag

    return [RunTag(key, value) for key, value in values.items()]


def record_of(row: Row, *, is_dead: bool = False) -> RunRecord:
    """The record of a run, without what is in its files alone: the environment, details, seconds and log.

    `is_dead`: the process of a run that is RUNNING in MLflow is gone.
    """
    running = row.status == "RUNNING" and not is_dead
    found, doubtful = finite(row.metrics)
    intermediate = row.tags.get(_INTERMEDIATE)
    stage = row.tags.get("edlab.stage")
    facts, hidden = (_without_prefix(row.tags, prefix) for prefix in ("edlab.", HIDDEN))
    return RunRecord(
        uuid=uuid_of(row.tags) or row.run_id,
        run_id=row.run_id,
        name=description.without_mark(row.name),
        sweep_id=row.tags.get(ROW, ""),
        started_at=_moment(row.start_ms),
        ended_at="" if row.end_ms is None else _moment(row.end_ms),
        status=Status.running if running else Status(row.tags.get("edlab.status", Status.interrupted)),
        stage=Stage(stage) if stage else None,
        reason=row.tags.get("edlab.reason", KILLED if is_dead else ""),
        hint=row.tags.get("edlab.hint", KILLED_HINT if is_dead else ""),
        params=_decoded(row.params),
        metrics=found,
        missing=_without_prefix(facts | hidden, _MISSING) | doubtful,
        tags={name: value for name, value in facts.items() if name not in _NO_FACTS and not name.startswith(_MISSING)},
        verdict=_verdict(row.tags),
        details={"intermediate": intermediate} if intermediate else {},
    )


def uuid_of(tags: Mapping[str, str]) -> str:
    """edlab's own id of a run, also of one that an older version recorded."""
    return tags.get(UUID) or tags.get("edlab.uuid", "")


def _missing_tag(metric: str, record: RunRecord) -> str:
    """The tag with the reason for a missing metric: MLflow's pages show it for the six only."""
    prefix = "edlab." if metric in description.headlines(record) else HIDDEN
    return f"{prefix}{_MISSING}{metric}"


def _verdict(tags: Mapping[str, str]) -> Verdict | None:
    """The verdict in a run's tags."""
    if "edlab.verdict" not in tags:
        return None
    codes = filter(None, tags.get("edlab.verdict_reasons", "").split(","))
    return Verdict(
        state=VerdictState(tags["edlab.verdict"]),
        reasons=[_reason(code, tags.get(f"{_REASON}{number}", "")) for number, code in enumerate(codes, 1)],
    )


def _reason(code: str, text: str) -> Reason:
    """A reason from its tag; of a run of an older version, or with a text above MLflow's limit, only its code."""
    try:
        return Reason.model_validate_json(text)
    except ValueError:
        return Reason(code=code, message="", advice="`edlab show RUN` explains it")


def _decoded(params: Mapping[str, str]) -> dict[str, Any]:
    """The values of parameters: the JSON values that `as_text` writes as these texts; else the texts themselves."""
    values = {key: _from_json(text) for key, text in params.items()}
    for key, value in values.items():
        if isinstance(value, list | dict):
            values[key] = json.loads(params[key])  # not shared by records
    return values


@functools.lru_cache(maxsize=10_000)  # runs of an experiment have mostly the same settings
def _from_json(text: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return text if isinstance(value, str) or as_text(value) != text else value


def _moment(ms: int) -> str:
    """Milliseconds since the epoch as ISO 8601, in the zone of this machine."""
    return datetime.fromtimestamp(ms / 1000).astimezone().isoformat(timespec="milliseconds")


def _without_prefix(tags: Mapping[str, str], prefix: str) -> dict[str, str]:
    return {name.removeprefix(prefix): value for name, value in tags.items() if name.startswith(prefix)}
