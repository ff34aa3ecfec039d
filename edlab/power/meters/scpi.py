"""Bench supplies and power analysers that speak SCPI, over TCP or through VISA.

Sources: Keysight, EDU33210 Series User's Guide, "SCPI Socket Services": port 5025, commands and responses end with a
newline; Siglent, SPD1000X User Manual: the same port. MEASure:POWer?, MEASure:VOLTage? and MEASure:CURRent?: B+K
Precision, 9130 Series manual; Sorensen, SGX manual, 8.13.4. 9.91E37 is not a number (Keysight, 53131A Programming
Guide, "Response Message Data Types"), 9.9E37 is infinity (Rohde & Schwarz, NGE100B User Manual). Some instruments add
the unit, and none answers a query that it does not have. VISA resources are opened with PyVISA
(https://pyvisa.readthedocs.io).

Not tried on hardware. Over which time a reading is averaged depends on the instrument: `lag_s` is an assumption.
"""

from __future__ import annotations

import math
import re
import time
from typing import Any, Protocol

from edlab.agent.sensors.base import Sample, Sensor
from edlab.errors import ConfigError
from edlab.power import options
from edlab.power.lines import LineConnection

_PORT = 5025
_ANSWER_S = 0.9
_PREFIXES = {"": 1.0, "u": 1e-6, "m": 1e-3, "k": 1e3}
_RESPONSE = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([umk]?)[WVA]?")
_NOT_A_NUMBER = 9.9e37


class Scpi(Sensor):
    """The power that the instrument measures; with `voltage_query` and `current_query`, the product of their answers.

    The first reading connects, and returns None.
    """

    def __init__(
        self,
        *,
        host: str | None = None,
        resource: str | None = None,
        query: str = "MEAS:POW?",
        voltage_query: str | None = None,
        current_query: str | None = None,
        lag_s: float = 0.2,
        boundary: str = "board_dc",
    ) -> None:
        """`host` is a name or an address, with `:port` if the port is not 5025; `resource` is a VISA resource.

        Raises `ConfigError`, and `MissingDependencyError` for a `resource` without PyVISA.
        """
        if (host is None) == (resource is None):
            raise ConfigError(
                "the meter scpi needs either the option host or the option resource",
                hint="set meter.options.host=192.168.1.20, or meter.options.resource=USB0::...::INSTR",
            )
        self._host = None if host is None else options.host(host)
        self._resource = None if resource is None else options.text("resource", resource)
        self._queries = _queries(query, voltage_query, current_query)
        name = f"scpi {self._host or self._resource}"
        super().__init__(name, "scpi", options.boundary(boundary), options.number("lag_s", lag_s))
        self._visa = (
            options.package("the meter option resource", "pyvisa", "pyvisa", "pyvisa-py") if self._resource else None
        )
        self._instrument: _Instrument | None = None

    def read(self) -> Sample | None:
        """See `Sensor.read`. A negative power is a failed reading."""
        deadline = time.monotonic() + _ANSWER_S
        if self._instrument is None:
            self._instrument = self._open(deadline)
            return None
        before_ns = time.perf_counter_ns()
        try:
            answers = [self._instrument.ask(query, deadline) for query in self._queries]
        except OSError:
            self.close()  # an answer that comes later must not be taken for that of the next query
            raise
        t_ns = (before_ns + time.perf_counter_ns()) // 2
        watts = math.prod(map(_number, answers))
        if watts < 0:
            raise ValueError(f"{self.name} reports {watts:g} W: is the current the wrong way round?")
        return Sample(t_ns, watts)

    def close(self) -> None:
        """See `Sensor.close`."""
        instrument, self._instrument = self._instrument, None
        if instrument is not None:
            instrument.close()

    def _open(self, deadline: float) -> _Instrument:
        if self._host is not None:
            return _SocketInstrument(LineConnection(self._host, _PORT, deadline))
        assert self._resource
        return _VisaInstrument(self._visa, self._resource, deadline)


class _Instrument(Protocol):
    def ask(self, query: str, deadline: float) -> str:
        """The answer to a query. Raises `OSError`; `TimeoutError` after `deadline`."""

    def close(self) -> None:
        """Close the connection."""


class _SocketInstrument:
    def __init__(self, connection: LineConnection) -> None:
        self._connection = connection

    def ask(self, query: str, deadline: float) -> str:
        self._connection.discard()
        self._connection.send(query)
        answer = self._connection.receive(deadline)
        if answer is None:
            raise _unanswered(self._connection.address, query)
        return answer

    def close(self) -> None:
        self._connection.close()


class _VisaInstrument:
    def __init__(self, pyvisa: Any, resource: str, deadline: float) -> None:
        self._name = resource
        try:
            self._resource = pyvisa.ResourceManager().open_resource(
                resource, open_timeout=_milliseconds(deadline), read_termination="\n", write_termination="\n"
            )
        except Exception as error:  # of PyVISA, of its backend, or of the backend's libraries
            raise OSError(f"cannot open {resource}: {error}") from error

    def ask(self, query: str, deadline: float) -> str:
        try:
            self._resource.timeout = _milliseconds(deadline)
            return str(self._resource.query(query)).strip()
        except Exception as error:
            if "VI_ERROR_TMO" in str(error):
                raise _unanswered(self._name, query) from error
            raise OSError(f"{self._name} cannot be read: {error}") from error

    def close(self) -> None:
        self._resource.close()


def _milliseconds(deadline: float) -> int:
    return max(1, round((deadline - time.monotonic()) * 1000))


def _unanswered(name: str, query: str) -> TimeoutError:
    return TimeoutError(
        f"{name} did not answer {query}: if it does not have this query, set meter.options.query, or "
        "voltage_query and current_query"
    )


def _queries(power: object, voltage: object, current: object) -> list[str]:
    if (voltage is None) != (current is None):
        raise ConfigError(
            "the meter options voltage_query and current_query belong together",
            hint="set both of meter.options.voltage_query=MEAS:VOLT? and current_query=MEAS:CURR?",
        )
    named = {"query": power} if voltage is None else {"voltage_query": voltage, "current_query": current}
    queries = [options.text(name, query) for name, query in named.items()]
    for name, query in zip(named, queries, strict=True):
        if "?" not in query or not query.isprintable():
            raise ConfigError(
                f"the meter option {name} is {query!r}, not a query",
                hint=f"set meter.options.{name} to one SCPI query, which has a question mark",
            )
    return queries


def _number(answer: str) -> float:
    match = _RESPONSE.fullmatch(answer)
    if match is None:
        raise ValueError(f"the instrument answered {answer[:80]!r}, not a number")
    value = float(match[1])
    if abs(value) >= _NOT_A_NUMBER:
        raise ValueError(f"the instrument answered {answer!r}, which stands for a value that it cannot measure")
    return value * _PREFIXES[match[2]]
