"""A run that is read from MLflow's data, without its files, is the run that was written."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from mlflow import MlflowClient
from workplace import Workplace

from edlab.config import TrackingConfig
from edlab.record import Reason, RunRecord, Stage, Status, Verdict, VerdictState, as_text
from edlab.reports.table import table
from edlab.tracking import RESULT, Files, Recorder, Spool, Tracker

MakeRecord = Callable[..., RunRecord]

#: As configurations have them; as text they are all different.
VALUES: dict[str, Any] = {
    "text": "fp32", "empty": "", "path": "/data/a b", "number": 64, "negative": -1, "fraction": 0.001, "tiny": 1e-12,
    "yes": True, "no": False, "nothing": None, "list": [1, "a", None], "mapping": {"onnx": "onnxruntime"}, "none": [],
    "padded": "007", "quoted": '"fp32"', "spaced": "[1,2]", "exponent": "1e-3", "umlaut": ["ä"],
}  # fmt: skip


def sent(config: TrackingConfig, record: RunRecord) -> RunRecord:
    tracker = Tracker(config)
    record.run_id = tracker.start(record)
    tracker.send(record, Files())
    return record


def read(config: TrackingConfig, record: RunRecord) -> list[RunRecord]:
    """The run in each of the ways in which runs are read without their files."""
    tracker = Tracker(config)
    found = [
        tracker.rows(record.sweep_id),
        tracker.rows(record.run_id),
        tracker.latest(1),
        tracker.everything(),
        tracker.matching(f"tags.`edlab.sweep_id` = '{record.sweep_id}'"),
    ]
    assert [len(each) for each in found] == [1] * len(found)
    return [record for (record,) in found]


def comparable(record: RunRecord) -> dict[str, Any]:
    """What MLflow's data have of a record; texts of these tests are short."""
    fields = {
        "uuid", "run_id", "name", "sweep_id", "status", "stage", "reason", "hint", "params", "metrics", "missing",
        "tags", "verdict",
    }  # fmt: skip
    ends = [datetime.fromisoformat(moment) for moment in (record.started_at, record.ended_at) if moment]
    return record.model_dump(include=fields) | {"ends": ends, "intermediate": record.details.get("intermediate")}


def test_a_measured_run(config: TrackingConfig, record: MakeRecord) -> None:
    reasons = [
        Reason(code="tier_smoke", message="the smoke tier, only", advice="measure with `protocol=normal`"),
        Reason(code="wide_confidence_interval", message="±30 %", advice="stop others", invalid=True),
    ]
    one = record(
        params=VALUES,
        verdict=Verdict(state=VerdictState.invalid, reasons=reasons),
        missing={"power_w": "no sensor", "accuracy_drop": "no labels"},
        started_at="2025-01-01T12:00:00.123+02:00",
        ended_at="2025-01-01T12:01:00.456+02:00",
    )
    sent(config, one)
    for found in read(config, one):
        assert comparable(found) == comparable(one)
        assert {key: type(value) for key, value in found.params.items()} == {k: type(v) for k, v in VALUES.items()}


def test_a_run_that_failed_with_an_intermediate_file(config: TrackingConfig, record: MakeRecord) -> None:
    one = record(
        status=Status.failed,
        stage=Stage.convert,
        reason="the tool crashed",
        hint="use another",
        verdict=None,
        details={"intermediate": "model.onnx"},
        ended_at="2026-01-01T12:00:00.000+00:00",
    )
    sent(config, one)
    for found in read(config, one):
        assert comparable(found) == comparable(one)
        notes = [note.text for note in table([found]).notes]
        assert f"the intermediate file model.onnx is saved: edlab pull {one.run_id[:8]}" in notes


def test_a_text_that_reads_as_json_is_the_same_setting(local: TrackingConfig, record: MakeRecord) -> None:
    """MLflow has only text: the type of such a setting is unknown, its value is not."""
    one = sent(local, record(params={"dataset.path": "2024", "model.name": "true"}))
    for found in read(local, one):
        assert {key: as_text(value) for key, value in found.params.items()} == one.params


def test_a_reason_without_its_text_has_its_code(local: TrackingConfig, record: MakeRecord) -> None:
    """Of an earlier edlab, and of a text above MLflow's limit."""
    verdict = Verdict(state=VerdictState.degraded, reasons=[Reason(code="tier_smoke", message="x" * 6000)])
    one = sent(local, record(verdict=verdict))
    for found in read(local, one):
        assert found.verdict
        assert [reason.code for reason in found.verdict.reasons] == ["tier_smoke"]
        assert found.verdict.reasons[0].advice == "`edlab show RUN` explains it"


def test_a_sweep(workplace: Workplace) -> None:
    workplace.run("-m", "quantization=int8", "quantization.exclude=[],[no_such_node]")
    written = workplace.records()
    assert [record.status for record in written] == [Status.ok, Status.failed]
    uri = f"sqlite:///{workplace.folder}/mlruns/mlflow.db"
    tracker = Tracker(TrackingConfig(name="mlflow", uri=uri, experiment="edlab"))
    found = tracker.rows(written[0].sweep_id)
    assert list(map(comparable, found)) == list(map(comparable, written))


NOT_NUMBERS = {
    math.nan: "the value is not a number (NaN)",
    math.inf: "the value is infinite",
    -math.inf: "the value is infinite",
}


@pytest.mark.parametrize(("value", "reason"), NOT_NUMBERS.items())
def test_a_metric_in_mlflow_that_is_not_a_number_is_missing_with_a_reason(
    config: TrackingConfig, record: MakeRecord, value: float, reason: str
) -> None:
    one = sent(config, record(metrics={"throughput_ips": 5.0}))
    MlflowClient(tracking_uri=config.uri).log_metric(one.run_id, "latency_ms", value)
    for found in read(config, one):
        assert found.metrics == {"throughput_ips": 5.0}
        assert found.missing["latency_ms"] == reason
        assert table([found]).rows


@pytest.mark.parametrize(("value", "reason"), NOT_NUMBERS.items())
def test_a_metric_that_is_not_a_number_does_not_keep_its_run_from_mlflow(
    local: TrackingConfig, record: MakeRecord, tmp_path: Path, value: float, reason: str
) -> None:
    recorder, one = Recorder(local, Spool(tmp_path / "spool")), record(metrics={"latency_ms": value})
    recorder.begin(one)
    recorder.keep(one, Files(), tmp_path / "0")
    recorder.end(one, tmp_path / "0")
    assert recorder.waiting() == 0
    for found in (*read(local, one), RunRecord.read(tmp_path / "0" / RESULT)):
        assert (found.metrics, found.missing["latency_ms"]) == ({}, reason)


def test_runs_are_in_the_order_in_which_they_started_whenever_they_were_sent(
    config: TrackingConfig, record: MakeRecord, tmp_path: Path
) -> None:
    """A run that waited for the server is sent after a later one of another sweep."""
    recorder, tracker = Recorder(config, Spool(tmp_path / "spool")), Tracker(config)
    early = record(started_at="2025-01-01T12:00:00.000+00:00", sweep_id="20250101-120000-aaaa", name="early")
    late = record(started_at="2025-01-02T12:00:00.000+00:00", sweep_id="20250102-120000-bbbb", name="late")
    recorder.keep(early, Files(), tmp_path / "early")
    sent(config, late)
    assert recorder.flush() == 0
    assert [each.name for each in tracker.latest(2)] == ["late", "early"]
    assert [each.name for each in tracker.everything()] == ["early", "late"]
    run = MlflowClient(tracking_uri=config.uri).get_run(RunRecord.read(tmp_path / "early" / RESULT).run_id)
    assert run.info.start_time == 1_735_732_800_000


def test_runs_are_read_while_another_one_starts(local: TrackingConfig, record: MakeRecord) -> None:
    """It is created after the first of the queries."""
    sent(local, record(name="first"))
    reader, writer = Tracker(local), Tracker(local)
    created: list[str] = []

    def create(connection: object, cursor: object, statement: str, *others: object) -> None:
        if "FROM params WHERE run_uuid IN" in statement and statement.startswith("SELECT run_uuid") and not created:
            created.append("")  # the new run's own queries are not the reader's
            created.append(writer.start(record(name="second")))

    sa.event.listen(sa.Engine, "before_cursor_execute", create)
    try:
        assert [found.name for found in reader.everything()] == ["first"]
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", create)
    assert len(created) == 2
    assert [found.name for found in reader.everything()] == ["first", "second"]


def test_random_values_of_parameters_come_back(local: TrackingConfig, record: MakeRecord) -> None:
    chance = random.Random(0)
    makers: list[Callable[[], Any]] = [
        lambda: chance.randrange(-(10**12), 10**12),
        lambda: chance.uniform(-1, 1) * 10.0 ** chance.randrange(-20, 20),
        lambda: [chance.random(), "x", None, True],
        lambda: "".join(chance.choices("ab{}[],:äé ", k=5)) + "z",
    ]
    one = sent(local, record(params={f"p{number}": chance.choice(makers)() for number in range(300)}))
    for found in read(local, one):
        assert found.params == one.params
