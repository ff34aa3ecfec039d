"""A power analyser behind SPEC's PTDaemon, which MLPerf Power and SPEC's benchmarks use, over its TCP port.

SPEC describes the protocol in the PTDaemon Programmer's Guide, which only licensees have. These facts come from its
clients: ptd_client_server of github.com/mlcommons/power-dev (lib/server.py, lib/common.py, compliance/check.py and
README.md), and bin/util.pl of SPEC CPU 2017 (meter_connect, meter_time_offset, do_RL, sum_channels). Lines end with
CR LF; requests may end with LF only. The port is 8888.

    Hello             Hello, PTDaemon here!
    Identify          driver,interval in ms,...,version=...,OS=...,mode=power,...; the 15th field: number of channels
    Go,1000,0,mark    Starting untimed measurement, maximum 500000 samples at 1000ms with 0 rampup samples
    RL,*              Last 2 samples, then these unread samples, a line each:
                      Time,12-28-2020 15:21:14.682,Watts,22.950000,Volts,228.570000,Amps,0.206430,PF,0.486400
    RL,*,*            the same of an analyser with several channels; the first of its fields is their sum
    DC-RL             the same of a DC analyser, which answers RL with "Unknown command"
    Uncertainty       Uncertainty,0.006264,0.006105,0.009201,692,0,692,0: average, least and greatest as fractions, ...
    Stop              Stopping untimed measurement

RL waits up to an interval if no sample is unread. Watts below 0 stand for an error (-1) or a missed sample (-2).

Not tried on hardware, nor with the PTDaemon itself. Not confirmed: the format of the samples of DC-RL, the answer to Go
while a measurement runs (any answer that is not "Starting" is taken for that), and the order of day and month, which
differs between the sources: only the time of day is read.
"""

from __future__ import annotations

import math
import re
import time
from collections import deque
from collections.abc import Generator

from edlab.agent.sensors.base import Sample, Sensor
from edlab.power import options
from edlab.power.lines import LineConnection

_PORT = 8888
_WAIT_S = 0.5
_RETRY_S = 0.5  # from a failure to the next connection
_PATIENCE_S = 10.0  # for an answer, in addition to the interval
_UNCERTAINTY_S = 30.0  # from one request of it to the next
_CHANNELS = 14  # the place of their number in the answer to Identify
_DAY_NS = 86_400_000_000_000
_CLOCKS = 60  # samples, by which this machine's clock is compared with the PTDaemon's
_SAMPLE = re.compile(r"Time,[^,]*\b(\d{1,2}):(\d{2}):(\d{2}(?:\.\d+)?),Watts,(-?\d+(?:\.\d+)?)(?:,|$)")


class SpecPtd(Sensor):
    """The power of the PTDaemon's analyser; the sum of its channels, if it has several.

    A sample's time is that of the PTDaemon, whose clock is compared with this machine's: a sample cannot arrive before
    it was taken. `accuracy` is the average uncertainty that the PTDaemon reports, once it does.
    """

    paced = False

    def __init__(self, *, host: str = "localhost", interval_ms: int = 1000, boundary: str = "wall_ac") -> None:
        """`host` is a name or an address, with `:port` if the port is not 8888. Raises `ConfigError`."""
        self._host = options.host(host)
        self._interval_ms = options.integer("interval_ms", interval_ms, least=1)
        super().__init__(f"spec_ptd {self._host}", "spec_ptd", options.boundary(boundary), self._interval_ms / 1000)
        self._connection: LineConnection | None = None
        self._request = ""
        self._last_ns = 0
        self._failed_at = -math.inf

    def read(self) -> Sample | None:
        """See `Sensor.read`: the next sample. None: there is none yet."""
        if self._connection is None:
            time.sleep(max(0.0, self._failed_at + _RETRY_S - time.monotonic()))  # the next reading follows at once
        deadline = time.monotonic() + _WAIT_S
        try:
            if self._connection is None:
                self._start(LineConnection(self._host, _PORT, deadline))
            self._talk(deadline)
        except OSError:
            self._failed_at = time.monotonic()
            self.close()
            raise
        if not self._samples:
            return None
        t_ns, watts = self._samples.popleft()
        if watts < 0:
            raise ValueError(f"the PTDaemon at {self._host} reports {watts:g} W, its mark for a failed sample")
        t_ns = self._last_ns = max(self._clock.to_here(t_ns), self._last_ns + 1)
        return Sample(t_ns, watts)

    def close(self) -> None:
        """Stop the measurement, and disconnect."""
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.send("Stop")
            except OSError:
                pass  # the connection has ended
            finally:
                connection.close()

    def _start(self, connection: LineConnection) -> None:
        self._connection = connection
        self._samples: deque[tuple[int, float]] = deque()  # in the PTDaemon's time
        self._clock = _Clock()
        self._script = self._conversation()
        self._send(next(self._script))

    def _send(self, request: str) -> None:
        assert self._connection
        self._request, self._sent = request or self._request, time.monotonic()
        if request:
            self._connection.send(request)

    def _talk(self, deadline: float) -> None:
        """Go on with the conversation until there is a sample, or until `deadline`."""
        assert self._connection
        while not self._samples:
            line = self._connection.receive(deadline)
            if line is None:
                if time.monotonic() - self._sent > _PATIENCE_S + self._interval_ms / 1000:
                    raise TimeoutError(f"the PTDaemon at {self._host} does not answer {self._request}")
                return
            self._send(self._script.send(line))

    def _conversation(self) -> Generator[str, str, None]:
        """Yields requests and receives the lines of the answers; an empty request is for one more line."""
        answer = yield "Hello"
        if answer != "Hello, PTDaemon here!":
            raise ConnectionError(f"{self._host} is not a PTDaemon: it answered {answer[:80]!r} to Hello")
        identity = (yield "Identify").split(",")
        if "mode=temperature" in identity:
            raise ConnectionError(f"the PTDaemon at {self._host} reads a temperature sensor: {identity[0]}")
        answer = yield self._go()
        if not answer.startswith("Starting"):  # a measurement runs, which a connection that broke has left
            yield "Stop"
            answer = yield self._go()
        if not answer.startswith("Starting"):
            raise ConnectionError(f"the PTDaemon at {self._host} does not measure: {answer[:120]}")
        several = identity[_CHANNELS : _CHANNELS + 1] not in ([], ["0"], ["1"])
        yield from self._samples_for_ever(["RL,*,*"] if several else ["RL,*", "RL", "DC-RL"])

    def _go(self) -> str:
        return f"Go,{self._interval_ms},0,edlab"

    def _samples_for_ever(self, requests: list[str]) -> Generator[str, str, None]:
        """With the first of these requests that the PTDaemon knows."""
        ask_again = time.monotonic()
        while True:
            answer = yield requests[0]
            if re.match("Unknown command|Invalid number of parameters", answer) and len(requests) > 1:
                requests = requests[1:]
            elif re.match("(Insufficient|No) (unread|data)|Last 0 ", answer, re.IGNORECASE):
                time.sleep(min(0.1, self._interval_ms / 1000))
            elif match := re.match(r"Last (\d+) sample", answer):
                unread = []
                for _ in range(int(match[1])):
                    unread.append(self._sample((yield "")))
                self._samples.extend(unread)
            else:
                raise ConnectionError(f"the PTDaemon at {self._host} answered {answer[:80]!r} to {requests[0]}")
            if time.monotonic() >= ask_again:
                ask_again = time.monotonic() + _UNCERTAINTY_S
                self.accuracy = _uncertainty((yield "Uncertainty"))

    def _sample(self, line: str) -> tuple[int, float]:
        match = _SAMPLE.match(line)
        if match is None:
            raise ConnectionError(f"the PTDaemon at {self._host} sent {line[:120]!r}, not a sample")
        seconds = (int(match[1]) * 60 + int(match[2])) * 60 + float(match[3])
        return self._clock.arrived(round(seconds * 1e9), time.perf_counter_ns()), float(match[4])


class _Clock:
    """The PTDaemon's time of day in comparison with this machine's clock (time.perf_counter_ns)."""

    def __init__(self) -> None:
        self._delays: deque[int] = deque(maxlen=_CLOCKS)  # arrival less time: the clocks' difference, and the delay
        self._last_ns = 0

    def arrived(self, of_day_ns: int, here_ns: int) -> int:
        """The time of a sample that has just arrived, which goes on at midnight."""
        t_ns = self._last_ns - self._last_ns % _DAY_NS + of_day_ns
        if t_ns < self._last_ns - _DAY_NS // 2:
            t_ns += _DAY_NS
        if t_ns < self._last_ns:  # that clock was set back
            self._delays.clear()
        self._delays.append(here_ns - t_ns)
        self._last_ns = t_ns
        return t_ns

    def to_here(self, t_ns: int) -> int:
        """The same moment by this machine's clock: the least delay has the least error."""
        return t_ns + min(self._delays)


def _uncertainty(answer: str) -> float | None:
    """The average of an answer to Uncertainty; None if it is unknown, as with automatic ranges."""
    fields = answer.split(",")
    if len(fields) < 2 or fields[0] != "Uncertainty":
        return None
    try:
        average = float(fields[1])
    except ValueError:
        return None
    return average if average > 0 else None
