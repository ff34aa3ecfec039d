"""A run that breaks off in a repeat keeps what the first process measured, and its own reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edlab.agent.messages import Activity, LatencyReport
from edlab.composition import compose_config
from edlab.metrics import latency
from edlab.record import RunRecord, Stage, Status
from edlab.stages.phases import LATENCIES_FILE, Latency, Measurement
from edlab.stages.phases.base import Result
from edlab.stages.record import Outcome, draw_plots, fill_record, run_files


def test_a_repeat_without_latencies_leaves_the_first_runs_picture(tmp_path: Path) -> None:
    ns = np.full(40, 2_000_000)
    np.save(tmp_path / LATENCIES_FILE, ns)
    activity = Activity(0.08, None, None, None, 0, [], None)
    results = {Latency: Result(Latency(), LatencyReport(len(ns), 0, 80_000_000, 0.08, False, activity, None))}
    files = {LATENCIES_FILE: tmp_path / LATENCIES_FILE}
    measurement = Measurement(figures=latency(ns), results=results, files=files, repeats=[Measurement()])
    record = RunRecord(name="run", sweep_id="sweep", started_at="2026-01-01T00:00:00+00:00")
    kept = run_files(record, Outcome(measurement=measurement), compose_config([]), tmp_path)
    assert kept.named[LATENCIES_FILE] == tmp_path / LATENCIES_FILE
    drawn = draw_plots(record, compose_config([]), measurement, tmp_path)
    assert drawn == [tmp_path / "latency.png"]
    assert drawn[0].exists()


def test_its_figures_are_said_to_be_of_one_process() -> None:
    measurement = Measurement(figures=latency(np.full(40, 2_000_000)), repeats=[Measurement()])
    record = RunRecord(name="run", sweep_id="sweep", started_at="2026-01-01T00:00:00+00:00")
    record.status, record.stage = Status.interrupted, Stage.measure
    fill_record(record, compose_config(["protocol.repeats=5"]), Outcome(measurement=measurement), ())
    assert record.metrics["latency_ms"] == 2
    assert "from one process" in record.missing["latency_run_spread"]
