"""What reading the power sources costs: measured once, and never the end of a run. The agent's part is a stand-in."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast
from unittest.mock import Mock

import numpy as np
import pytest

from edlab.agent import messages
from edlab.cache import Cache
from edlab.composition import compose_config
from edlab.metrics import Figures
from edlab.power import Series, Source
from edlab.stages.phases import Bench, Measurement, Throughput
from edlab.stages.phases.base import Other, Result
from edlab.stages.sampling_cost import sampling_cost


class Counted(Source):
    """A source that counts how often it was started."""

    starts = 0
    read = Series(np.zeros(1, np.int64), np.ones(1))

    def start(self) -> None:
        self.starts += 1

    def stop(self) -> None:
        pass

    def series(self, start_ns: int, end_ns: int) -> Series:
        return self.read


class Late(Counted):
    @property
    def late_s(self) -> float:
        return 30.0


def bench(tmp_path: Path, rate: float = 100.0) -> Bench:
    """A run after its throughput phase, with two sources; the agent answers `rate` inferences/s while none is read."""
    sources = [Counted("first", "module"), Counted("second", "usb")]
    active: list[Source] = []
    for source in sources:
        cast("Any", source).start = lambda source=source: (Counted.start(source), active.append(source))
        cast("Any", source).stop = lambda source=source: active.remove(source)

    def measure(method: object, request: Any, on_progress: object = None) -> Any:
        now = rate / (1 + 0.1 * len(active))
        if method is messages.THROUGHPUT:
            return Mock(throughput_ips=now)
        Path(request.out).touch()
        return Mock(seconds=1.0, queries=now or 1)

    measurement = Measurement(Figures({"latency_ms": 10.0}), power=sources[0], others=[Other(sources[1])])
    measurement.results[Throughput] = Result(cast("Any", Throughput()), Mock(batch=4, in_flight=2))
    machine = messages.Machine(
        1, "python", "1", "3.11", "2", "Linux", "x86_64", None, None, None, False, None, [0], None
    )
    session = Mock(measure=measure, hello=lambda: machine)
    deployment = Mock(session=session, model=Mock(runtime="onnxruntime"))
    run = Bench(compose_config(["device=cpu"]), Mock(), deployment, measurement, Cache(tmp_path), tmp_path, Mock())
    run.__dict__["pool"] = messages.Pool("", [])
    return run


def test_all_sources_are_read_and_the_result_serves_the_next_run(tmp_path: Path) -> None:
    first = bench(tmp_path)
    values = sampling_cost(first).values
    assert values["sampling_latency_cost"] == pytest.approx(0.2)
    assert values["sampling_throughput_cost"] == pytest.approx(0.2)
    assert first.measurement.sampling_cost_with == "digits_cnn on onnxruntime"
    again = bench(tmp_path)
    assert sampling_cost(again).values == values
    assert cast("Counted", again.source).starts == 0


def test_a_window_without_inference_is_a_reason_and_is_not_kept(tmp_path: Path) -> None:
    failed = sampling_cost(bench(tmp_path, rate=0.0))
    assert not failed.values
    assert "no inference" in failed.missing["sampling_throughput_cost"]
    assert sampling_cost(bench(tmp_path)).values


@pytest.mark.parametrize(("failed", "error"), [(3, "cannot be read: no such device"), (0, "second sent no reading")])
def test_a_source_without_readings_costs_nothing_and_is_not_kept(tmp_path: Path, failed: int, error: str) -> None:
    run = bench(tmp_path)
    cast("Any", run.measurement.others[0].source).read = Series(
        np.empty(0, np.int64), np.empty(0), failed, "no such device"
    )
    cost = sampling_cost(run)
    assert not cost.values
    assert error in cost.missing["sampling_latency_cost"]
    assert sampling_cost(bench(tmp_path)).values


def test_windows_that_take_long_to_prepare_are_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(np.arange(0.0, 1e6, 30.0).tolist())
    monkeypatch.setattr("edlab.stages.sampling_cost.time", Mock(monotonic=lambda: next(clock)))
    assert "takes 30 s" in sampling_cost(bench(tmp_path)).missing["sampling_latency_cost"]


def test_late_readings_and_long_queries_are_reasons(tmp_path: Path) -> None:
    slow = bench(tmp_path)
    slow.measurement.figures = Figures({"latency_ms": 5e3})
    assert "a query is longer" in sampling_cost(slow).missing["sampling_latency_cost"]
    late = bench(tmp_path)
    late.measurement.others = [Other(Late("csv", "usb"))]
    assert "arrive 30 s late" in sampling_cost(late).missing["sampling_latency_cost"]
