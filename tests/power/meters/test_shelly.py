"""The meter shelly, against PEERS that answer its HTTP requests as devices of both kinds do: no device is connected.

The answers have the form of real devices' (the fixtures of github.com/home-assistant-libs/aioshelly).
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import time
import urllib.request
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from http_peer import HttpPeer, Reply, Request, SilentPeer
from readings import next_answer

from edlab.errors import ConfigError
from edlab.power.meter import METERS
from edlab.power.meters.shelly import Shelly
from edlab.testing.meter import MeterConformance


class FirstGeneration:
    """A Plug S, or another device with these meters."""

    def __init__(self) -> None:
        self.status: Any = {
            "meters": [{"counters": [0.0], "is_valid": True, "overpower": 0.0, "power": 4.71, "total": 2632}],
            "relays": [{"ison": True}],
        }
        self.login = ("", "")

    def answer(self, request: Request) -> Reply:
        if request.path == "/shelly":
            return Reply(json.dumps({"type": "SHPLG-S", "mac": "AABBCCDDEEFF", "auth": False, "fw": "1.14.0"}))
        assert request.path == "/status"
        expected = "Basic " + base64.b64encode(":".join(self.login).encode()).decode()
        if self.login[1] and request.authorization != expected:
            return Reply("401 Unauthorized", 401, (("WWW-Authenticate", 'Basic realm="Shelly"'),))
        return Reply(json.dumps(self.status))


class LaterGeneration:
    """A device with these components, which asks for its password and checks it as RFC 7616 says."""

    realm = "shellyplugsg3-aabbccddeeff"

    def __init__(self) -> None:
        self.status: dict[str, Any] = {
            "ble": {},
            "switch:0": {"id": 0, "output": True, "apower": 5.3, "voltage": 230.1, "aenergy": {"total": 1.5}},
            "sys": {"mac": "AABBCCDDEEFF"},
        }
        self.password = ""
        self.nonce = "1716556501"
        self.counts: list[int] = []  # of the requests with the present nonce
        self.algorithm = "SHA-256"

    def answer(self, request: Request) -> Reply:
        if request.path == "/shelly":
            about = {"id": self.realm, "mac": "AABBCCDDEEFF", "gen": 3, "auth_en": bool(self.password)}
            return Reply(json.dumps(about))
        if self.password and not self._is_allowed(request):
            challenge = f'Digest qop="auth", realm="{self.realm}", nonce="{self.nonce}", algorithm={self.algorithm}'
            return Reply("", 401, (("WWW-Authenticate", challenge),))
        if request.path == "/rpc/Shelly.GetStatus":
            return Reply(json.dumps(self.status))
        kind = request.path.removeprefix("/rpc/").removesuffix(".GetStatus").lower()
        component = self.status.get(f"{kind}:{request.query['id']}")
        if component is None:
            return Reply(json.dumps({"code": -105, "message": "Argument 'id', value 7 not found!"}), 500)
        return Reply(json.dumps(component))

    def new_nonce(self) -> None:
        self.nonce, self.counts = "1716559999", []

    def _is_allowed(self, request: Request) -> bool:
        scheme, _, rest = request.authorization.partition(" ")
        if scheme != "Digest":
            return False
        fields = urllib.request.parse_keqv_list(urllib.request.parse_http_list(rest))
        if fields["nonce"] != self.nonce or int(fields["nc"], 16) in self.counts:
            return False
        assert (fields["username"], fields["uri"]) == ("admin", request.target)
        secret = sha256(f"admin:{self.realm}:{self.password}")
        middle = f"{self.nonce}:{fields['nc']}:{fields['cnonce']}:auth"
        allowed = fields["response"] == sha256(f"{secret}:{middle}:{sha256(f'GET:{request.target}')}")
        if allowed:
            self.counts.append(int(fields["nc"], 16))
        return allowed


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture(params=[FirstGeneration, LaterGeneration], ids=["first", "later"])
def device(request: pytest.FixtureRequest) -> FirstGeneration | LaterGeneration:
    made: FirstGeneration | LaterGeneration = request.param()
    return made


@pytest.fixture
def first() -> FirstGeneration:
    return FirstGeneration()


@pytest.fixture
def later() -> LaterGeneration:
    return LaterGeneration()


@pytest.fixture
def peer() -> Iterator[HttpPeer]:
    """Of a device that a test sets."""
    peer = HttpPeer(FirstGeneration().answer)
    yield peer
    peer.close()


class TestConformance(MeterConformance):
    meter = "shelly"
    options: ClassVar[dict[str, str]] = {}

    @pytest.fixture(autouse=True)
    def _connected(
        self, peer: HttpPeer, device: FirstGeneration | LaterGeneration, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        peer.answer = device.answer
        monkeypatch.setattr(type(self), "options", {"host": peer.host})


def test_its_name_is_in_the_list_of_meters() -> None:
    assert METERS.load("shelly") is Shelly


def test_the_meters_of_the_first_generation(peer: HttpPeer, first: FirstGeneration) -> None:
    peer.answer = first.answer
    meter = Shelly(host=peer.host)
    before_ns = time.perf_counter_ns()
    sample = next_answer(meter)
    assert sample.watts == 4.71
    assert before_ns < sample.t_ns < time.perf_counter_ns()
    assert (meter.boundary, meter.paced) == ("wall_ac", True)
    # a 3EM
    first.status = {"emeters": [{"power": 10.66, "is_valid": True}, {"power": 0.5, "is_valid": True}], "meters": []}
    assert next_answer(Shelly(host=peer.host, channel=1)).watts == 0.5


@pytest.mark.parametrize(
    ("status", "options", "path", "watts"),
    [
        ({"switch:0": {"apower": 5.3}, "switch:1": {"apower": 7.0}}, {}, "/rpc/Switch.GetStatus?id=0", 5.3),
        ({"switch:0": {"apower": 5.3}, "switch:1": {"apower": 7.0}}, {"channel": 1}, "/rpc/Switch.GetStatus?id=1", 7.0),
        ({"pm1:0": {"apower": 0}}, {}, "/rpc/PM1.GetStatus?id=0", 0.0),
        ({"em1:0": {"act_power": 501.8}, "switch:0": {"output": True}}, {}, "/rpc/EM1.GetStatus?id=0", 501.8),
        ({"em:0": {"a_act_power": 375.5, "total_act_power": 558.9}}, {}, "/rpc/EM.GetStatus?id=0", 558.9),
        (
            {"em1:0": {"act_power": 9.0}, "switch:0": {"apower": 8.0}},
            {"component": "switch:0"},
            "/rpc/Switch.GetStatus?id=0",
            8.0,
        ),
    ],
)
def test_the_components_of_later_generations(
    peer: HttpPeer, later: LaterGeneration, status: dict[str, Any], options: dict[str, Any], path: str, watts: float
) -> None:
    later.status = status
    peer.answer = later.answer
    assert next_answer(Shelly(host=peer.host, **options)).watts == watts
    assert peer.requests[-1].target == path


def test_once_identified_a_reading_is_one_request(peer: HttpPeer, device: FirstGeneration | LaterGeneration) -> None:
    peer.answer = device.answer
    meter = Shelly(host=peer.host)
    next_answer(meter)
    count = len(peer.requests)
    for _ in range(3):
        assert meter.read()
    assert len(peer.requests) == count + 3


@pytest.mark.parametrize(
    ("status", "options", "problem"),
    [
        ({"sys": {}, "switch:0": {"output": True}}, {}, "no component with the number 0 measures power"),
        ({"em1:0": {"act_power": 1.0}, "pm1:0": {"apower": 2.0}}, {}, "pm1:0, em1:0"),
        ({"switch:0": {"apower": 1.0}}, {"channel": 3}, "number 3"),
        ({"switch:0": 5}, {}, "no component"),
        ({"switch:0": {"apower": None}}, {}, "reports no apower"),
        ({"switch:0": {"apower": -2.5}}, {}, "-2.5 W"),
        ({"switch:0": {"apower": math.nan}}, {}, "nan W"),
        ({"switch:0": {"apower": 1.0}}, {"component": "pm1:7"}, "HTTP 500"),
    ],
)
def test_a_later_device_that_does_not_report_the_power(
    peer: HttpPeer, later: LaterGeneration, status: dict[str, Any], options: dict[str, Any], problem: str
) -> None:
    later.status = status
    peer.answer = later.answer
    meter = Shelly(host=peer.host, **options)
    for _ in range(2):
        with pytest.raises((OSError, ValueError), match=problem):
            next_answer(meter)


@pytest.mark.parametrize(
    ("status", "options", "problem"),
    [
        ({"meters": [{"power": 0.0, "is_valid": False}]}, {}, "not valid"),
        ({"meters": [{"power": 1.0}]}, {"channel": 1}, "1 meters, numbered from 0"),
        ({"relays": []}, {}, "0 meters"),
        ({"meters": {"power": 1.0}}, {}, "1 meters"),
        ({"meters": [1.0]}, {}, "not valid"),
        ({"meters": [{"is_valid": True}]}, {}, "reports no power"),
        ({"meters": [{"power": 1.0}]}, {"component": "switch:0"}, "set channel instead"),
    ],
)
def test_a_first_device_that_does_not_report_the_power(
    peer: HttpPeer, first: FirstGeneration, status: Any, options: dict[str, Any], problem: str
) -> None:
    first.status = status
    peer.answer = first.answer
    with pytest.raises(ValueError, match=problem):
        next_answer(Shelly(host=peer.host, **options))


def test_the_password_of_the_first_generation(peer: HttpPeer, first: FirstGeneration) -> None:
    first.login = ("owner", "s:cret ß")
    peer.answer = first.answer
    assert next_answer(Shelly(host=peer.host, username="owner", password="s:cret ß")).watts == 4.71
    for password, problem in (("", "asks for a password"), ("wrong", "refuses")):
        with pytest.raises(PermissionError, match=problem) as refused:
            next_answer(Shelly(host=peer.host, username="owner", password=password))
        assert "wrong" not in str(refused.value)


def test_the_password_of_later_generations(peer: HttpPeer, later: LaterGeneration) -> None:
    later.password = "s:cret ß"
    peer.answer = later.answer
    meter = Shelly(host=peer.host, password=later.password)
    assert next_answer(meter).watts == 5.3
    count = len(peer.requests)
    assert meter.read()
    assert len(peer.requests) == count + 1  # it is not asked for again each time
    later.new_nonce()
    assert meter.read()
    assert later.counts == [1]
    for password, problem in (("", "asks for a password"), ("wrong", "refuses")):
        with pytest.raises(PermissionError, match=problem) as refused:
            next_answer(Shelly(host=peer.host, password=password))
        assert "wrong" not in str(refused.value)


def test_the_password_is_not_sent_before_it_is_asked_for(peer: HttpPeer, later: LaterGeneration) -> None:
    peer.answer = later.answer
    next_answer(Shelly(host=peer.host, password="secret"))
    assert not any(request.authorization for request in peer.requests)


def test_an_unknown_kind_of_authentication_is_said(peer: HttpPeer, later: LaterGeneration) -> None:
    later.password, later.algorithm = "secret", "MD5"
    peer.answer = later.answer
    with pytest.raises(ValueError, match="unknown authentication"):
        Shelly(host=peer.host, password="secret").read()


@pytest.mark.parametrize("reply", [Reply("<html>"), Reply("{}"), Reply("[1]"), Reply("{", length=99), Reply("", 503)])
def test_a_bad_answer_fails_and_a_later_reading_succeeds(
    peer: HttpPeer, device: FirstGeneration | LaterGeneration, reply: Reply
) -> None:
    peer.answer = device.answer
    meter = Shelly(host=peer.host)
    next_answer(meter)
    peer.answer = lambda request: reply
    for _ in range(2):
        with pytest.raises((OSError, ValueError)):
            meter.read()
    peer.answer = device.answer
    assert next_answer(meter).watts > 4


def test_a_device_that_goes_away_and_comes_back_as_another(
    peer: HttpPeer, first: FirstGeneration, later: LaterGeneration
) -> None:
    peer.answer = first.answer
    meter = Shelly(host=peer.host)
    assert next_answer(meter).watts == 4.71
    peer.close()
    with pytest.raises(OSError, match="cannot reach " + peer.host):
        meter.read()
    peer.answer = later.answer
    peer.open()
    assert next_answer(meter).watts == 5.3
    meter.close()
    assert next_answer(meter).watts == 5.3


@pytest.mark.parametrize("drip", [b"", b"HTTP/1.1 200 OK\r\n"])
def test_a_device_that_never_finishes_an_answer_is_a_failed_reading(drip: bytes) -> None:
    peer = SilentPeer(drip)
    try:
        with pytest.raises(TimeoutError, match="did not answer in time"):
            Shelly(host=peer.host).read()
    finally:
        peer.close()


@pytest.mark.parametrize(
    "options",
    [
        {"host": 5},
        {"host": "https://plug"},
        {"host": "[::1"},
        {"host": "plug:0"},
        {"host": "plug", "channel": -1},
        {"host": "plug", "channel": True},
        {"host": "plug", "component": "switch"},
        {"host": "plug", "component": "relay:0"},
        {"host": "plug", "lag_s": math.inf},
        {"host": "plug", "boundary": ""},
        {"host": "plug", "username": ""},
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as refused:
        Shelly(**options)
    assert "meter.options" in refused.value.hint
