"""What a run reports while its power source fails. The agent's part is a stand-in."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from edlab.agent import messages
from edlab.composition import compose_config
from edlab.errors import MeasurementError
from edlab.metrics import Figures
from edlab.power import Estimate, HostMeter, Series, Source, trial
from edlab.power.meters.um25c import Um25c
from edlab.stages import measure as stage
from edlab.stages.measure import measure
from edlab.stages.phases import Bench, Measurement, SingleStream, Throughput
from edlab.stages.phases.base import Other
from edlab.stages.record import _power_facts

S = 1_000_000_000
STEADY = np.arange(0, 20 * S, S // 20)


class Fed(Source):
    """A source with the given readings in each phase, in turn."""

    def __init__(self, *watts: float) -> None:
        super().__init__("um25c", "usb")
        self.watts = list(watts)

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass

    def series(self, start_ns: int, end_ns: int) -> Series:
        if not (watts := self.watts.pop(0)):
            return Series(np.empty(0, np.int64), np.empty(0), 200, "it was unplugged")
        return Series(STEADY, watts + 0.01 * (np.arange(len(STEADY)) % 3))


def bench(tmp_path: Path, source: Source, others: list[Other]) -> tuple[Bench, list[str]]:
    warnings: list[str] = []

    def answer(method: object, request: Any, on_progress: object = None) -> Any:
        if method is not messages.THROUGHPUT:
            Path(request.out).touch()
        return Mock(
            start_ns=0, end_ns=19 * S, seconds=19.0, queries=100, throughput_ips=50.0, batch=1, in_flight=1,
            batch1_ips=50.0, batch1_note="", search=[], ips_by_second=[50.0] * 19,
        )  # fmt: skip

    measurement = Measurement(
        Figures({"idle_power_w": 5.0, "idle_power_standard_error_w": 0.01}), power=source, others=others
    )
    complexity = Mock(flops=None)
    inputs = Mock(source=Mock(complexity=complexity, batchable=False))
    deployment = Mock(session=Mock(measure=answer))
    run = Bench(
        compose_config(["device=cpu"]), inputs, deployment, measurement, Mock(), tmp_path, Mock(),
        on_warning=warnings.append,
    )  # fmt: skip
    run.__dict__["pool"] = messages.Pool("", [])
    return run, warnings


def test_a_source_that_dies_is_reported_at_once_and_is_one_reason_of_the_verdict(tmp_path: Path) -> None:
    run, warnings = bench(tmp_path, Fed(5.0, 0.0), [Other(Fed(9.0, 0.0))])
    SingleStream().measure(run)
    assert [line.partition(",")[0] for line in warnings] == ["power: in the single-stream phase"]
    assert "not 3 sigma above the idle power" in warnings[0]
    Throughput().measure(run)
    assert warnings[1:] == [
        "power: in the throughput phase, no readings: it was unplugged",
        "power by um25c: in the throughput phase, no readings: it was unplugged",
    ]
    assert [doubt.code for doubt in run.measurement.figures.doubts] == ["power_unreadable"]
    assert run.measurement.figures.missing["latency_power_w"].startswith("power_not_above_idle: ")


def test_a_second_source_that_is_read_from_files_is_a_fact_for_the_verdict(tmp_path: Path) -> None:
    files = Fed()
    files.stand_in = "/tree"
    measurement = Measurement(power=Fed(), others=[Other(Fed()), Other(files)])
    assert _power_facts(measurement).stand_in == "/tree"
    assert _power_facts(Measurement(power=Estimate("none"))).stand_in == ""


def test_a_meter_that_cannot_be_read_fails_the_row_before_its_first_phase(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "_LONGEST_WAIT_S", 0.2)
    meter = HostMeter(Um25c(port=str(tmp_path / "rfcomm0")), 0.05, time.perf_counter_ns)
    run, _ = bench(tmp_path, meter, [])
    monkeypatch.setattr(stage.power, "choose", lambda *_: stage.power.Choice(meter, []))
    with pytest.raises(MeasurementError, match="rfcomm0 does not exist: pair the meter") as failed:
        measure(run)
    assert "edlab doctor meter=" in failed.value.hint
    assert not run.measurement.results
