"""The meter tasmota, against a PEER that answers its HTTP requests as the firmware does: no plug is connected."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from http_peer import HttpPeer, Reply, Request, SilentPeer
from readings import next_answer

from edlab.errors import ConfigError
from edlab.power.meter import METERS
from edlab.power.meters.tasmota import Tasmota
from edlab.testing.meter import MeterConformance


class Plug:
    """The firmware's answers: its power, its number of decimals, and its password."""

    def __init__(self) -> None:
        self.power: Any = 5
        self.decimals: int | None = 0
        self.password = ""
        self.old = False  # versions that refuse with HTTP 200

    def answer(self, request: Request) -> Reply:
        assert request.path == "/cm"
        given = (request.query.get("user"), request.query.get("password"))
        if self.password and given != ("admin", self.password):
            warning = json.dumps({"WARNING": "Need user=<username>&password=<password>"})
            return Reply(warning, 200 if self.old else 401)
        if request.query["cmnd"] == "WattRes":
            return Reply(json.dumps({"Command": "Unknown"} if self.decimals is None else {"WattRes": self.decimals}))
        assert request.query["cmnd"] == "Status 10"
        energy = {"Total": 3.185, "Power": self.power, "ApparentPower": 21, "Voltage": 231, "Current": 0.091}
        return Reply(json.dumps({"StatusSNS": {"Time": "2026-01-02T03:04:05", "ENERGY": energy}}))


@pytest.fixture
def plug() -> Plug:
    return Plug()


@pytest.fixture
def peer(plug: Plug) -> Iterator[HttpPeer]:
    peer = HttpPeer(plug.answer)
    yield peer
    peer.close()


class TestConformance(MeterConformance):
    meter = "tasmota"
    options: ClassVar[dict[str, str]] = {}

    @pytest.fixture(autouse=True)
    def _connected(self, peer: HttpPeer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(type(self), "options", {"host": peer.host})


def test_its_name_is_in_the_list_of_meters() -> None:
    assert METERS.load("tasmota") is Tasmota


@pytest.mark.parametrize(
    ("power", "channel", "watts"), [(5, 1, 5.0), (0, 1, 0.0), (4.731, 1, 4.731), ([7, 2.5], 1, 7.0), ([7, 2.5], 2, 2.5)]
)
def test_the_power_of_a_channel(peer: HttpPeer, plug: Plug, power: Any, channel: int, watts: float) -> None:
    plug.power = power
    meter = Tasmota(host=peer.host, channel=channel)
    before_ns = time.perf_counter_ns()
    sample = next_answer(meter)
    assert sample.watts == watts
    assert before_ns < sample.t_ns < time.perf_counter_ns()
    assert (meter.boundary, meter.paced) == ("wall_ac", True)


@pytest.mark.parametrize(("decimals", "resolution_w"), [(0, 1.0), (2, 0.01), (None, None)])
def test_the_resolution_is_what_the_plug_is_set_to(
    peer: HttpPeer, plug: Plug, decimals: int | None, resolution_w: float | None
) -> None:
    plug.decimals = decimals
    meter = Tasmota(host=peer.host)
    assert meter.resolution_w is None
    next_answer(meter)
    assert meter.resolution_w == resolution_w
    assert meter.accuracy is None


@pytest.mark.parametrize("power", [None, "5", True, -3, math.nan, [1]])
def test_what_is_no_power_is_a_failed_reading(peer: HttpPeer, plug: Plug, power: Any) -> None:
    plug.power = power
    meter = Tasmota(host=peer.host, channel=2 if power == [1] else 1)
    with pytest.raises(ValueError, match=peer.host):
        next_answer(meter)
    plug.power = [1, 2]
    assert next_answer(meter).watts in (1, 2)


def test_a_plug_without_a_meter_is_said_to_have_none(peer: HttpPeer, plug: Plug) -> None:
    meter = Tasmota(host=peer.host)
    next_answer(meter)
    peer.answer = lambda request: Reply(json.dumps({"StatusSNS": {"Time": "2026-01-02T03:04:05"}}))
    with pytest.raises(ValueError, match="no power meter"):
        meter.read()


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("password", ["", "wrong"])
def test_a_missing_or_wrong_password_is_said_and_not_shown(
    peer: HttpPeer, plug: Plug, old: bool, password: str
) -> None:
    plug.password, plug.old = "s p&?=ß", old
    problem = "refuses" if password else "asks for a password"
    with pytest.raises(PermissionError, match=problem) as refused:
        Tasmota(host=peer.host, password=password).read()
    assert "meter.options.password" in str(refused.value)
    assert "wrong" not in str(refused.value)
    assert next_answer(Tasmota(host=peer.host, password=plug.password)).watts == 5.0


def test_no_password_is_sent_if_none_is_set(peer: HttpPeer) -> None:
    next_answer(Tasmota(host=peer.host))
    assert [request.query for request in peer.requests] == [{"cmnd": "WattRes"}, {"cmnd": "Status 10"}]


@pytest.mark.parametrize(
    "reply",
    [
        Reply("<html>busy</html>"),
        Reply("[]"),
        Reply(b"\xff\x00"),
        Reply("", 500),
        Reply('{"StatusSNS": {"ENERGY"', length=100),
        Reply('{"StatusSNS": {"ENERGY": 5}}'),
        Reply('{"StatusSNS": 5}'),
    ],
)
def test_a_bad_answer_fails_and_the_next_reading_succeeds(peer: HttpPeer, plug: Plug, reply: Reply) -> None:
    meter = Tasmota(host=peer.host)
    next_answer(meter)
    peer.answer = lambda request: reply
    with pytest.raises((OSError, ValueError)):
        meter.read()
    peer.answer = plug.answer
    assert next_answer(meter).watts == 5.0


def test_a_plug_that_goes_away_and_comes_back(peer: HttpPeer) -> None:
    meter = Tasmota(host=peer.host)
    next_answer(meter)
    peer.close()
    with pytest.raises(OSError, match="cannot reach " + peer.host):
        meter.read()
    peer.open()
    assert next_answer(meter).watts == 5.0
    meter.close()
    assert next_answer(meter).watts == 5.0


@pytest.mark.parametrize("drip", [b"", b"x", b"HTTP/1.1 200 OK\r\n"])
def test_a_plug_that_never_finishes_an_answer_is_a_failed_reading(drip: bytes) -> None:
    peer = SilentPeer(drip)
    try:
        with pytest.raises(TimeoutError, match="did not answer in time"):
            Tasmota(host=peer.host, password="secret").read()
    finally:
        peer.close()


def test_a_proxy_of_the_environment_is_not_used(peer: HttpPeer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert next_answer(Tasmota(host=peer.host)).watts == 5.0


@pytest.mark.parametrize(
    "options",
    [
        {"host": ""},
        {"host": "http://192.168.1.20"},
        {"host": "192.168.1.20/cm"},
        {"host": "a b"},
        {"host": "plug:http"},
        {"host": "user@plug"},
        {"host": "plug", "channel": 0},
        {"host": "plug", "channel": "1"},
        {"host": "plug", "lag_s": -1},
        {"host": "plug", "boundary": "mains"},
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as refused:
        Tasmota(**options)
    assert "meter.options" in refused.value.hint
