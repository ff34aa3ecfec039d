"""The meter scpi, against a PEER that answers SCPI queries over TCP as bench supplies do: no instrument is connected.

Through VISA, the same peer is read by the real PyVISA and PyVISA-py, if they are installed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from line_peer import LinePeer
from readings import next_answer

from edlab.errors import ConfigError, MissingDependencyError
from edlab.power.meter import METERS
from edlab.power.meters.scpi import Scpi
from edlab.testing.meter import MeterConformance


class Supply:
    """Answers by query; nothing for a query that it does not have."""

    def __init__(self) -> None:
        self.answers: dict[str, str | bytes] = {"MEAS:POW?": "+5.25000E+00"}

    def answer(self, query: str) -> str | bytes | None:
        return self.answers.get(query)


@pytest.fixture
def supply() -> Supply:
    return Supply()


@pytest.fixture
def peer(supply: Supply) -> Iterator[LinePeer]:
    peer = LinePeer(supply.answer)
    yield peer
    peer.close()


class TestConformance(MeterConformance):
    meter = "scpi"
    options: ClassVar[dict[str, str]] = {}

    @pytest.fixture(autouse=True)
    def _connected(self, peer: LinePeer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(type(self), "options", {"host": peer.host})


def test_its_name_is_in_the_list_of_meters() -> None:
    assert METERS.load("scpi") is Scpi


@pytest.mark.parametrize(
    ("answer", "watts"),
    [("5", 5.0), ("+5.25000E+00", 5.25), (".5", 0.5), ("5.25W", 5.25), ("5.25 W", 5.25), ("250 mW", 0.25), ("0", 0.0)],
)
def test_the_power_in_all_forms_of_a_number(peer: LinePeer, supply: Supply, answer: str, watts: float) -> None:
    supply.answers["MEAS:POW?"] = answer
    meter = Scpi(host=peer.host)
    before_ns = time.perf_counter_ns()
    sample = next_answer(meter)
    assert sample.watts == pytest.approx(watts)
    assert before_ns < sample.t_ns < time.perf_counter_ns()
    assert (meter.boundary, meter.lag_s, meter.paced) == ("board_dc", 0.2, True)


def test_another_query(peer: LinePeer, supply: Supply) -> None:
    supply.answers["MEAS:POW? CH2"] = "7.5"
    assert next_answer(Scpi(host=peer.host, query="MEAS:POW? CH2")).watts == 7.5


def test_the_product_of_voltage_and_current(peer: LinePeer, supply: Supply) -> None:
    supply.answers = {"MEAS:VOLT?": "5.0V", "MEAS:CURR?": "400mA"}
    meter = Scpi(host=peer.host, voltage_query="MEAS:VOLT?", current_query="MEAS:CURR?")
    assert next_answer(meter).watts == pytest.approx(2.0)
    assert set(peer.lines) == {"MEAS:VOLT?", "MEAS:CURR?"}


@pytest.mark.parametrize("answer", ["", "ERROR", "1.0,2.0", "9.91E37", "-9.9E+37", "nan", "-0.5", b"\xff\xfe\n"])
def test_an_answer_that_is_no_power_fails_and_a_later_reading_succeeds(
    peer: LinePeer, supply: Supply, answer: str | bytes
) -> None:
    meter = Scpi(host=peer.host)
    next_answer(meter)
    supply.answers["MEAS:POW?"] = answer
    for _ in range(2):
        with pytest.raises(ValueError, match=r"answered|reports -0\.5 W"):
            meter.read()
    supply.answers["MEAS:POW?"] = "6.0"
    assert next_answer(meter).watts == 6.0


def test_a_query_that_the_instrument_does_not_have_is_a_failed_reading(peer: LinePeer, supply: Supply) -> None:
    supply.answers = {}
    meter = Scpi(host=peer.host)
    assert meter.read() is None
    with pytest.raises(TimeoutError, match=r"did not answer MEAS:POW\?.*voltage_query"):
        meter.read()


def test_an_answer_that_comes_too_late_is_not_that_of_the_next_query(peer: LinePeer, supply: Supply) -> None:
    meter = Scpi(host=peer.host)
    next_answer(meter)
    peer.push(b"99.0\n")
    supply.answers["MEAS:POW?"] = b"98"  # half of an answer
    with pytest.raises(TimeoutError):
        meter.read()
    supply.answers["MEAS:POW?"] = "6.0"
    assert next_answer(meter).watts == 6.0


def test_an_answer_without_end_is_a_failed_reading(peer: LinePeer, supply: Supply) -> None:
    supply.answers["MEAS:POW?"] = b"1" * 1_000_000
    meter = Scpi(host=peer.host)
    assert meter.read() is None
    with pytest.raises(OSError, match=r"without the end of a line|did not answer"):
        meter.read()


def test_an_instrument_that_goes_away_and_comes_back(peer: LinePeer) -> None:
    meter = Scpi(host=peer.host)
    next_answer(meter)
    peer.close()
    with pytest.raises(OSError, match=r"closed the connection|reset|roken pipe"):
        meter.read()
    with pytest.raises(OSError, match="cannot reach " + peer.host):
        meter.read()
    peer.open()
    assert next_answer(meter).watts == 5.25
    meter.close()
    assert next_answer(meter).watts == 5.25


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"host": "supply", "resource": "USB0::1::2::INSTR"},
        {"host": "http://supply"},
        {"host": 5},
        {"host": "supply", "query": "MEAS:POW"},
        {"host": "supply", "query": "A?\nB?"},
        {"host": "supply", "query": ""},
        {"host": "supply", "voltage_query": "MEAS:VOLT?"},
        {"host": "supply", "current_query": "MEAS:CURR?"},
        {"host": "supply", "lag_s": -1},
        {"host": "supply", "boundary": "dc"},
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as refused:
        Scpi(**options)
    assert "meter.options" in refused.value.hint


def test_visa_without_its_package_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyvisa", None)
    with pytest.raises(MissingDependencyError) as refused:
        Scpi(resource="USB0::0x2A8D::0x1002::MY1::INSTR")
    assert "pip install pyvisa pyvisa-py" in refused.value.hint


class TestVisa:
    @pytest.fixture
    def resource(self, peer: LinePeer) -> str:
        pytest.importorskip("pyvisa")
        pytest.importorskip("pyvisa_py")
        return "TCPIP::{}::{}::SOCKET".format(*peer.host.split(":"))

    def test_the_power(self, resource: str) -> None:
        meter = Scpi(resource=resource)
        assert next_answer(meter).watts == 5.25
        meter.close()
        assert next_answer(meter).watts == 5.25

    def test_an_instrument_that_does_not_answer(self, resource: str, supply: Supply) -> None:
        meter = Scpi(resource=resource)
        next_answer(meter)
        supply.answers = {}
        with pytest.raises(TimeoutError, match=r"did not answer MEAS:POW\?"):
            meter.read()
        supply.answers["MEAS:POW?"] = "6.0"
        assert next_answer(meter).watts == 6.0

    def test_an_instrument_that_goes_away(self, resource: str, peer: LinePeer) -> None:
        meter = Scpi(resource=resource)
        next_answer(meter)
        peer.close()
        with pytest.raises(OSError, match=r"127\.0\.0\.1"):
            meter.read()
        assert meter.read() is None  # PyVISA-py opens a connection that is refused
        with pytest.raises(OSError, match=r"127\.0\.0\.1"):
            meter.read()
        peer.open()
        assert next_answer(meter).watts == 5.25
