"""The meter ppk2, against a FAKE that follows the interface of the package ppk2-api: no kit is connected.

The last class compares that interface with the real package, if it is installed, which then reads a peer.
"""

from __future__ import annotations

import inspect
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import ppk2_peer
import pytest
from ppk2_peer import Bench, Peer
from readings import next_error, next_sample

from edlab.errors import ConfigError, MissingDependencyError
from edlab.power.meter import METERS
from edlab.power.meters.ppk2 import Ppk2
from edlab.testing.meter import MeterConformance

PORT = "/dev/serial/by-id/ppk2"
OPTIONS: dict[str, Any] = {"port": PORT, "mode": "source", "voltage_mv": 3300}
LONGEST_READ_S = 3.0  # about a second, on a busy machine


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    bench = Bench()
    monkeypatch.setitem(sys.modules, "ppk2_api", type(sys)("ppk2_api"))
    monkeypatch.setitem(sys.modules, "ppk2_api.ppk2_api", ppk2_peer.module(bench))
    return bench


@pytest.fixture
def meter(bench: Bench) -> Iterator[Ppk2]:
    meter = Ppk2(**OPTIONS)
    yield meter
    meter.close()


class TestConformance(MeterConformance):
    meter = "ppk2"
    options: ClassVar[dict[str, Any]] = OPTIONS

    @pytest.fixture(autouse=True)
    def _connected(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        pass


def test_its_name_is_in_the_list_of_meters() -> None:
    assert METERS.load("ppk2") is Ppk2


def test_the_power_is_the_mean_current_times_the_voltage(bench: Bench, meter: Ppk2) -> None:
    before_ns = time.perf_counter_ns()
    assert meter.read() is None  # it opens the port
    first, second = next_sample(meter), next_sample(meter)
    assert [first.watts, second.watts] == pytest.approx([bench.amperes * 3.3] * 2)
    assert before_ns < first.t_ns < second.t_ns < time.perf_counter_ns()
    assert (meter.boundary, meter.paced, meter.accuracy, meter.resolution_w) == ("board_dc", False, None, None)
    bench.adc = 3000
    next_sample(meter)
    assert next_sample(meter).watts == pytest.approx(bench.amperes * 3.3)


@pytest.mark.parametrize(("mode", "calls"), [("source", [5000, "source", "ON"]), ("ampere", ["ampere", 5000, "ON"])])
def test_what_it_does_to_the_targets_supply(bench: Bench, mode: str, calls: list[Any]) -> None:
    meter = Ppk2(port=PORT, mode=mode, voltage_mv=5000)
    assert bench.calls == []  # not before the first reading
    assert next_sample(meter).watts == pytest.approx(bench.amperes * 5)
    meter.close()
    assert bench.calls == calls  # closing it switches nothing off
    assert bench.ports == 0


def test_a_pause_without_readings_starts_the_measurement_again(bench: Bench, meter: Ppk2) -> None:
    next_sample(meter)
    time.sleep(0.5)
    resumed_ns = time.perf_counter_ns()
    assert next_sample(meter).t_ns > resumed_ns
    assert bench.calls.count("ON") == 1


def test_data_may_come_in_parts_of_a_measurement(bench: Bench, meter: Ppk2, monkeypatch: pytest.MonkeyPatch) -> None:
    next_sample(meter)
    stream = ppk2_peer.Stream()
    kept = bytearray()

    def data() -> bytes:
        kept.extend(stream.data(bench.adc))
        part = bytes(kept[:4001])
        del kept[:4001]
        return part

    meter._restart()
    monkeypatch.setattr(meter._kit, "get_data", data)
    assert next_sample(meter).watts == pytest.approx(bench.amperes * 3.3)
    assert next_sample(meter).watts == pytest.approx(bench.amperes * 3.3)


@pytest.mark.parametrize("garbage", [b"\x00", b"\xff" * 4001, bytes(range(255, -1, -1)) * 20])
def test_garbage_is_a_failed_reading_and_a_later_one_succeeds(bench: Bench, meter: Ppk2, garbage: bytes) -> None:
    next_sample(meter)
    bench.garbage = garbage
    error = next_error(meter)
    assert isinstance(error, ValueError)
    assert "measurements were lost" in str(error)
    assert next_sample(meter).watts == pytest.approx(bench.amperes * 3.3)
    assert bench.calls.count("ON") == 1


def test_a_current_the_wrong_way_round(bench: Bench, meter: Ppk2) -> None:
    bench.adc = 0
    assert next_sample(meter).watts == 0.0
    get_samples = meter._kit.get_samples
    meter._kit.get_samples = lambda buf: ([-1e6] * (len(buf) // 4), [])
    assert "the wrong way round" in str(next_error(meter))
    meter._kit.get_samples = lambda buf: ([-1.0] * (len(buf) // 4), [])  # noise
    assert next_sample(meter).watts == 0.0
    meter._kit.get_samples = get_samples


def test_no_kit_is_a_failed_reading_until_one_is_connected(bench: Bench, meter: Ppk2) -> None:
    bench.connected = False
    for _ in range(2):
        began = time.monotonic()
        error = next_error(meter)
        assert time.monotonic() - began < LONGEST_READ_S
        assert isinstance(error, OSError)
        assert PORT in str(error)
        assert "ls /dev/serial/by-id" in str(error)
    bench.connected = True
    assert next_sample(meter).watts == pytest.approx(bench.amperes * 3.3)


@pytest.mark.parametrize("calibrated", [None, UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")])
def test_a_port_of_something_else_is_a_failed_reading(bench: Bench, meter: Ppk2, calibrated: object) -> None:
    bench.calibrated = calibrated
    error = next_error(meter)
    assert isinstance(error, OSError)
    assert "did not send its calibration" in str(error)
    assert (bench.calls, bench.ports) == ([], 0)
    bench.calibrated = True
    assert next_sample(meter).watts == pytest.approx(bench.amperes * 3.3)


def test_a_kit_that_is_unplugged_and_comes_back(bench: Bench, meter: Ppk2) -> None:
    next_sample(meter)
    bench.connected = False
    assert isinstance(next_error(meter), OSError)
    assert bench.ports == 0
    bench.connected = True
    assert next_sample(meter).watts == pytest.approx(bench.amperes * 3.3)


def test_a_kit_that_sends_nothing_is_opened_again(bench: Bench, meter: Ppk2) -> None:
    next_sample(meter)
    bench.silent = True
    began = time.monotonic()
    meter.read()
    assert time.monotonic() - began < LONGEST_READ_S
    assert isinstance(next_error(meter), TimeoutError)
    bench.silent = False
    assert next_sample(meter).watts == pytest.approx(bench.amperes * 3.3)


def test_it_can_be_closed_twice_and_read_again(bench: Bench, meter: Ppk2) -> None:
    meter.close()
    for _ in range(2):
        next_sample(meter)
        meter.close()
        meter.close()
        assert bench.ports == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": ""},
        {"mode": "smu"},
        {"mode": None},
        {"voltage_mv": 3.3},
        {"voltage_mv": 799},
        {"voltage_mv": 5001},
        {"boundary": "dc"},
    ],
)
def test_wrong_options_are_refused(bench: Bench, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as refused:
        Ppk2(**{**OPTIONS, **wrong})
    assert "meter.options" in refused.value.hint


@pytest.mark.parametrize("option", ["port", "mode", "voltage_mv"])
def test_what_affects_the_targets_supply_has_no_default(option: str) -> None:
    assert inspect.signature(Ppk2).parameters[option].default is inspect.Parameter.empty


def test_without_its_package_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ppk2_api", None)
    monkeypatch.setitem(sys.modules, "ppk2_api.ppk2_api", None)
    with pytest.raises(MissingDependencyError) as refused:
        Ppk2(**OPTIONS)
    assert "pip install 'ppk2-api" in refused.value.hint


class TestRealPackage:
    @pytest.fixture
    def package(self) -> Any:
        return pytest.importorskip("ppk2_api.ppk2_api")

    def test_each_name_that_is_used_has_the_signature_of_the_fake(self, package: Any) -> None:
        fake = ppk2_peer.module(Bench()).PPK2_API
        for name in (name for name in vars(fake) if not name.startswith("_") or name == "__init__"):
            real = inspect.signature(getattr(package.PPK2_API, name)).parameters
            assert list(real) == list(inspect.signature(getattr(fake, name)).parameters), name
        assert "self.ser = serial.Serial(port, **kwargs)" in inspect.getsource(package.PPK2_API.__init__)

    @pytest.mark.parametrize(
        ("mode", "commands"),
        [
            ("source", b"\x07\x19\x0d\x0c\xe4\x11\x02\x0c\x01\x06"),  # 3300 mV
            ("ampere", b"\x07\x19\x11\x01\x0d\x0c\xe4\x0c\x01\x06"),
        ],
    )
    def test_a_peer_on_a_serial_port(self, package: Any, tmp_path: Path, mode: str, commands: bytes) -> None:
        bench, port = Bench(), tmp_path / "ttyACM0"
        peer = Peer(port, bench)
        meter = Ppk2(port=str(port), mode=mode, voltage_mv=3300)
        try:
            assert next_sample(meter).watts == pytest.approx(bench.amperes * 3.3, rel=1e-3)
            assert next_sample(meter).watts == pytest.approx(bench.amperes * 3.3, rel=1e-3)
            assert b"".join(peer.commands) == commands
            meter.close()
            assert next_sample(meter).watts == pytest.approx(bench.amperes * 3.3, rel=1e-3)
        finally:
            meter.close()
            peer.close()
        assert isinstance(next_error(meter), OSError)
