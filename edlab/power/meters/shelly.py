"""Shelly plugs and meters of all generations, over HTTP.

Sources: the vendor's API reference, https://shelly-api-docs.shelly.cloud. First generation: `/shelly`, and `/status`
with `meters` (plugs and relays) or `emeters` (EM, 3EM), each with `power` in watts and `is_valid`; HTTP basic
authentication. Later generations: `/rpc/Shelly.GetStatus`, whose components report `apower` (Switch, PM1, Cover,
Light), `act_power` (EM1) or `total_act_power` (EM, all phases) in watts, and `/rpc/<Component>.GetStatus?id=<id>`; HTTP
digest authentication with SHA-256 as the user admin (General/Authentication). `/shelly` needs no password, and has
`gen` from the second generation on. Answers of real devices: the fixtures of github.com/home-assistant-libs/aioshelly.

Not tried on hardware. The vendor does not document over which time the power is averaged and how often it is updated
(`lag_s` is an assumption), nor its resolution and accuracy.
"""

from __future__ import annotations

import base64
import hashlib
import math
import secrets
import time
import urllib.request
from collections.abc import Sequence
from typing import Any, NamedTuple

from edlab.agent.sensors.base import Sample, Sensor
from edlab.errors import ConfigError
from edlab.power import options
from edlab.power.http import Answer, get

_ANSWER_S = 0.9
_NAMESPACES = {"switch": "Switch", "pm1": "PM1", "em1": "EM1", "em": "EM", "cover": "Cover", "light": "Light"}
_POWERS = ("apower", "act_power", "total_act_power")


class Shelly(Sensor):
    """The power of one channel (`meters[channel]`, or `switch:channel`), or of `component` such as "em1:1".

    The first reading finds out what the device is, and returns None.
    """

    def __init__(
        self,
        *,
        host: str,
        channel: int = 0,
        component: str | None = None,
        username: str = "admin",
        password: str = "",
        lag_s: float = 2.0,
        boundary: str = "wall_ac",
    ) -> None:
        """`username` counts for the first generation only. Raises `ConfigError`."""
        self._host = options.host(host)
        super().__init__(f"shelly {self._host}", "shelly", options.boundary(boundary), options.number("lag_s", lag_s))
        self._channel = options.integer("channel", channel)
        self._component = None if component is None else _component(component)
        self._username = options.text("username", username)
        self._password = str(password or "")  # YAML reads 1234 as a number
        self._login: _Basic | _Digest | None = None
        self._meter: _Meter | _Component | None = None

    def read(self) -> Sample | None:
        """See `Sensor.read`. A power that is not valid, or negative, is a failed reading."""
        deadline = time.monotonic() + _ANSWER_S
        meter, self._meter = self._meter, None  # after a failure it is identified again: it may be another device now
        if meter is None:
            self._meter = self._identify(deadline)
            return None
        answer = self._get(meter.path, deadline)
        watts = meter.watts(answer.json())
        if not math.isfinite(watts) or watts < 0:
            raise ValueError(f"{self._host} reports {watts} W: is the device fed through it the wrong way round?")
        self._meter = meter
        return Sample(answer.t_ns, watts)

    def close(self) -> None:
        """See `Sensor.close`."""
        self._meter = self._login = None

    def _identify(self, deadline: float) -> _Meter | _Component:
        self._login = None
        about = get(f"http://{self._host}/shelly", deadline).json()
        if "mac" not in about:
            raise ValueError(f"{self._host} is not a Shelly: its /shelly has no mac")
        if about.get("gen", 1) == 1:
            if self._component is not None:
                raise ValueError(f"{self._host} is of the first generation, without components: set channel instead")
            if self._password:
                self._login = _Basic(self._username, self._password)
            return _Meter(self._channel)
        if self._component is not None:
            return self._component
        return _metered(self._get("/rpc/Shelly.GetStatus", deadline).json(), self._channel)

    def _get(self, path: str, deadline: float) -> Answer:
        """The answer to a request, with the password if the device asks for it."""
        answer = self._request(path, deadline)
        challenge = answer.headers.get("WWW-Authenticate", "")
        if answer.status == 401 and self._password and challenge.lower().startswith("digest "):
            self._login = _Digest(challenge, self._password)  # for the first time, or because the nonce is too old
            answer = self._request(path, deadline)
        if answer.status == 401:
            problem = "refuses the username or the password" if self._password else "asks for a password"
            raise PermissionError(f"{self._host} {problem}: set meter.options.password")
        if answer.status != 200:
            raise OSError(f"{self._host} answered HTTP {answer.status} for {path}: {answer.body[:80]!r}")
        return answer

    def _request(self, path: str, deadline: float) -> Answer:
        headers = {"Authorization": self._login.header(path)} if self._login else {}
        return get(f"http://{self._host}{path}", deadline, headers)


class _Meter(NamedTuple):
    """A channel of the first generation."""

    channel: int
    path: str = "/status"

    def watts(self, status: dict[str, Any]) -> float:
        meters = status.get("emeters") or status.get("meters") or []
        if not isinstance(meters, list) or self.channel >= len(meters):
            raise ValueError(f"the device has {len(meters)} meters, numbered from 0: channel {self.channel} is not one")
        meter = meters[self.channel]
        if not isinstance(meter, dict) or not meter.get("is_valid", True):
            raise ValueError(f"the device says that the power of channel {self.channel} is not valid")
        return _number(meter, ("power",))


class _Component(NamedTuple):
    """A component of a later generation, such as switch:0."""

    kind: str
    number: int

    @property
    def path(self) -> str:
        return f"/rpc/{_NAMESPACES[self.kind]}.GetStatus?id={self.number}"

    def watts(self, status: dict[str, Any]) -> float:
        return _number(status, _POWERS)


class _Basic:
    def __init__(self, username: str, password: str) -> None:
        self._token = base64.b64encode(f"{username}:{password}".encode()).decode()

    def header(self, path: str) -> str:
        return f"Basic {self._token}"


class _Digest:
    """RFC 7616 with SHA-256, which urllib's own handler does not know before Python 3.14."""

    def __init__(self, challenge: str, password: str) -> None:
        """Raises `ValueError` for a challenge of another kind."""
        items = urllib.request.parse_http_list(challenge.partition(" ")[2])
        fields = urllib.request.parse_keqv_list([item for item in items if "=" in item])
        if fields.get("algorithm") != "SHA-256" or "auth" not in fields.get("qop", "") or "nonce" not in fields:
            raise ValueError(f"unknown authentication: {challenge[:120]}")
        self._realm, self._nonce = fields.get("realm", ""), fields["nonce"]
        self._secret = _sha256("admin", self._realm, password)
        self._count = 0

    def header(self, path: str) -> str:
        self._count += 1
        count, own = f"{self._count:08x}", secrets.token_hex(8)
        response = _sha256(self._secret, self._nonce, count, own, "auth", _sha256("GET", path))
        return (
            f'Digest username="admin", realm="{self._realm}", nonce="{self._nonce}", uri="{path}", '
            f'algorithm=SHA-256, qop=auth, nc={count}, cnonce="{own}", response="{response}"'
        )


def _sha256(*parts: str) -> str:
    return hashlib.sha256(":".join(parts).encode()).hexdigest()


def _number(status: dict[str, Any], names: Sequence[str]) -> float:
    """The first of these fields that is a number; a meter that does not work reports null."""
    for name in names:
        value = status.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    raise ValueError(f"the device reports no {' or '.join(names)}: {status}"[:200])


def _component(name: str) -> _Component:
    kind, _, number = options.text("component", name).partition(":")
    if kind not in _NAMESPACES or not number.isdecimal():
        raise ConfigError(
            f"the meter option component is {name!r}",
            hint=f"set meter.options.component to one of {', '.join(_NAMESPACES)} and its number: em1:0",
        )
    return _Component(kind, int(number))


def _metered(status: dict[str, Any], channel: int) -> _Component:
    """The component with this number that has a meter."""
    found = [
        _Component(kind, channel)
        for kind in _NAMESPACES
        if isinstance(component := status.get(f"{kind}:{channel}"), dict) and not component.keys().isdisjoint(_POWERS)
    ]
    if len(found) != 1:
        names = ", ".join(f"{each.kind}:{each.number}" for each in found) or "no component"
        raise ValueError(
            f"{names} with the number {channel} measures power (components: {', '.join(status)}): "
            "set meter.options.component, or channel"
        )
    return found[0]
