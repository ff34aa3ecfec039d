"""The parts of scripts/bench/observer whose errors would not be visible in the table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest


def test_the_report_before_the_first_query_is_no_poll(script: Any) -> None:
    observer = script("observer")
    times = np.full(1000, 100)
    times[0], times[501] = 900, 700
    assert observer.at_polls(observer.Run(times, [0, 500, 1000], 0)) == [7.0]


def test_a_percentile_is_of_as_many_queries_as_it_needs(script: Any) -> None:
    observer = script("observer")
    assert list(observer.statistics_of(np.arange(999))) == ["mean", "median", "p99"]
    assert list(observer.statistics_of(np.arange(1000))) == ["mean", "median", "p99", "p99.9"]


def test_a_measurement_without_a_heartbeat_is_refused(
    script: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    observer = script("observer")
    monkeypatch.setattr("sys.argv", ["observer", "--seconds", "1.5"])
    with pytest.raises(SystemExit):
        observer.main()
    assert "no heartbeat" in capsys.readouterr().err


def test_the_heartbeats_that_were_sent_are_counted(script: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    observer = script("observer")
    monkeypatch.setattr(observer.LATENCY_MODULE, "Observer", observer.NoObserver)  # puts it back afterwards
    monkeypatch.setattr(observer.protocol, "HEARTBEAT_S", 0.05)
    bench = observer.Bench(tmp_path)
    pool = [np.zeros(1, np.float32)]
    assert bench.run(observer.Null(), pool, 0.3, "heartbeat").beats > 0
    assert bench.run(observer.Null(), pool, 0.1, "observer").beats == 0
