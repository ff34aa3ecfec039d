"""The meter joulescope, against a FAKE that follows the interface of the vendor's package: no device is connected.

The last class compares that interface with the real package, if it is installed.
"""

from __future__ import annotations

import inspect
import sys
import time
from collections.abc import Iterator
from typing import Any, ClassVar

import joulescope_fake
import pytest
from joulescope_fake import Bench, value
from readings import next_error, next_sample

from edlab.errors import ConfigError, MissingDependencyError
from edlab.power.meter import METERS
from edlab.power.meters.joulescope import Joulescope
from edlab.testing.meter import MeterConformance

LONGEST_READ_S = 3.0  # about a second, on a busy machine


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    bench = Bench()
    monkeypatch.setitem(sys.modules, "pyjoulescope_driver", joulescope_fake.module(bench))
    return bench


@pytest.fixture
def meter(bench: Bench) -> Iterator[Joulescope]:
    meter = Joulescope()
    yield meter
    meter.close()


class TestConformance(MeterConformance):
    meter = "joulescope"
    options: ClassVar[dict[str, Any]] = {}

    @pytest.fixture(autouse=True)
    def _connected(self, bench: Bench) -> None:
        pass


def test_its_name_is_in_the_list_of_meters() -> None:
    assert METERS.load("joulescope") is Joulescope


@pytest.mark.parametrize("model", ["js220", "js320"])
def test_the_mean_power_of_each_block(bench: Bench, model: str) -> None:
    bench.paths, path = [f"u/{model}/001234"], f"u/{model}/001234"
    meter = Joulescope(interval_s=0.02)
    before_ns = time.perf_counter_ns()
    samples = [next_sample(meter) for _ in range(5)]
    assert [sample.watts for sample in samples] == [5.0] * 5
    assert all(before_ns < sample.t_ns < time.perf_counter_ns() for sample in samples[1:])
    assert bench.published == [
        (f"{path}/s/i/range/mode", "auto"),
        (f"{path}/s/stats/scnt", 20_000),
        (f"{path}/s/stats/ctrl", 1),
    ]
    meter.close()
    assert bench.published[-1] == (f"{path}/s/stats/ctrl", 0)
    assert (bench.open, bench.finalized) == (set(), 1)
    assert (meter.boundary, meter.paced, meter.accuracy, meter.resolution_w) == ("board_dc", False, None, None)


def test_a_js110_sends_its_statistics_by_itself(bench: Bench) -> None:
    bench.paths = ["u/js110/000042"]
    meter = Joulescope()
    assert next_sample(meter).watts == 5.0
    meter.close()
    assert bench.published == [("u/js110/000042/s/i/range/select", "auto")]
    assert bench.open == set()


def test_a_sample_is_in_the_middle_of_its_block_by_the_least_delay(meter: Joulescope) -> None:
    next_sample(meter)
    assert meter._opening
    device = meter._opening.result()
    start_ns = device._last_ns + 1_000_000_000
    device._delays.clear()
    device._end_ns = 0
    at = [
        device.sample(start_ns + late, value(10.0 + i, 11.0 + i, 1.0)).t_ns for i, late in enumerate([0, 1_300_000_000])
    ]
    assert at == [start_ns - 500_000_000, start_ns + 500_000_000]  # the second value was 0.3 s late


def test_one_of_several_devices(bench: Bench) -> None:
    bench.paths = ["u/js220/000001", "u/js220/000002", "u/&js220/000003"]
    unclear = Joulescope()
    assert "meter.options.serial to one of" in str(next_error(unclear))
    assert "000003" not in str(next_error(unclear))
    unclear.close()
    meter = Joulescope(serial="000002")
    next_sample(meter)
    assert bench.open == {"u/js220/000002"}
    meter.close()
    absent = Joulescope(serial="000009")
    assert "u/js220/000001, u/js220/000002" in str(next_error(absent))
    absent.close()


def test_no_device_is_a_failed_reading_until_one_is_connected(bench: Bench, meter: Joulescope) -> None:
    bench.paths = []
    for _ in range(2):
        error = next_error(meter)
        assert isinstance(error, OSError)
        assert "no Joulescope is connected" in str(error)
        assert "udev rules" in str(error)
    bench.paths = ["u/js220/001234"]
    assert _recovered(meter).watts == 5.0
    assert bench.finalized == bench.drivers - 1  # the driver of each failure was ended


def test_a_device_that_another_program_uses(bench: Bench, meter: Joulescope) -> None:
    bench.busy = True
    assert "does another program use it?" in str(next_error(meter))
    bench.busy = False
    assert _recovered(meter).watts == 5.0


def test_a_device_that_is_unplugged_and_comes_back(bench: Bench, meter: Joulescope) -> None:
    next_sample(meter)
    bench.paths = []
    error = next_error(meter)
    assert isinstance(error, OSError)
    assert "u/js220/001234 sent nothing" in str(error)
    assert "no Joulescope is connected" in str(next_error(meter))
    bench.paths, bench.watts = ["u/js220/001234"], 7.0
    assert _recovered(meter).watts == 7.0


@pytest.mark.parametrize(
    "garbage",
    [
        {},
        None,
        b"\x00\x01",
        {"time": {"range": {"value": [1.0]}}, "signals": {}},
        value(1.0, 2.0, float("nan")),
        value(2.0, 1.0, 5.0),
        value(1.0, 2.0, -0.5),
        value(1.0, 2.0, None),  # type: ignore[arg-type]
    ],
)
def test_a_value_that_is_no_power_fails_and_a_later_reading_succeeds(
    bench: Bench, meter: Joulescope, garbage: Any
) -> None:
    next_sample(meter)
    bench.value = [] if garbage is None else garbage
    assert isinstance(next_error(meter), ValueError)
    bench.value = None
    assert _recovered(meter).watts == 5.0


def test_noise_below_zero_is_no_power(bench: Bench, meter: Joulescope) -> None:
    bench.watts = -1e-5
    assert next_sample(meter).watts == 0.0


def test_reading_does_not_wait_for_a_slow_device(bench: Bench, meter: Joulescope) -> None:
    bench.open_s = 4.0
    began = time.monotonic()
    assert meter.read() is None
    assert time.monotonic() - began < LONGEST_READ_S
    assert next_sample(meter).watts == 5.0


def test_it_can_be_closed_twice_and_read_again(bench: Bench, meter: Joulescope) -> None:
    meter.close()
    for _ in range(2):
        next_sample(meter)
        meter.close()
        meter.close()
        assert bench.open == set()
    assert bench.drivers == bench.finalized == 2


@pytest.mark.parametrize(
    "options",
    [{"serial": 1234}, {"serial": ""}, {"interval_s": 0}, {"interval_s": 2}, {"interval_s": "1"}, {"boundary": "dc"}],
)
def test_wrong_options_are_refused(bench: Bench, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as refused:
        Joulescope(**options)
    assert "meter.options" in refused.value.hint


def test_without_its_package_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyjoulescope_driver", None)
    with pytest.raises(MissingDependencyError) as refused:
        Joulescope()
    assert "pip install 'pyjoulescope_driver" in refused.value.hint


class TestRealPackage:
    @pytest.fixture
    def package(self) -> Any:
        return pytest.importorskip("pyjoulescope_driver")

    def test_each_name_that_is_used_has_the_signature_of_the_fake(self, package: Any) -> None:
        fake = joulescope_fake.module(Bench()).Driver
        for name in ("device_paths", "open", "close", "publish", "subscribe", "unsubscribe", "finalize"):
            real = inspect.signature(getattr(package.Driver, name)).parameters
            assert list(real) == list(inspect.signature(getattr(fake, name)).parameters), name

    def test_its_program_for_statistics_uses_the_same_topics_and_fields(self, package: Any) -> None:
        program = inspect.getsource(pytest.importorskip("pyjoulescope_driver.entry_points.statistics"))
        topics = (
            "s/i/range/select",
            "s/sstats/value",
            "s/i/range/mode",
            "s/stats/scnt",
            "s/stats/ctrl",
            "s/stats/value",
        )
        assert all(f"'/{topic}'" in program for topic in topics)
        assert "1_000_000 / args.frequency" in program
        assert "['signals']['power'][x]['value'] for x in ['avg'" in program

    def test_without_the_device_a_reading_fails(self, package: Any) -> None:
        meter = Joulescope(serial="no such serial number")
        assert "Joulescope" in str(next_error(meter))
        meter.close()


def _recovered(meter: Joulescope) -> Any:
    """The next reading; values that came before may still fail."""
    end = time.monotonic() + 30
    while True:
        try:
            if sample := meter.read():
                return sample
        except (OSError, ValueError):
            if time.monotonic() > end:
                raise
