"""Plugs with the Tasmota firmware, over HTTP.

Sources: https://tasmota.github.io/docs/Commands: `/cm?cmnd=Status%2010` shows the sensors, `WattRes` the number of
decimals of the power, and a password is sent as `user=` and `password=` in the URL. The answer is
`{"StatusSNS": {"ENERGY": {"Power": 5}}}` in watts, with a list instead of the number if the plug has several channels.
Without the right password it is `{"WARNING": ...}`, with HTTP 401 in newer versions (Tasmota,
tasmota_xdrv_driver/xdrv_01_9_webserver.ino).

Most plugs contain an HLW8012 or a BL0937, whose pulses the firmware counts (xnrg_01_hlw8012.ino): one for each 12.5 J
or 1.7 J, so a reading of a small load is the mean of the time between two pulses: at 5 W 2.5 s or 0.35 s. Other chips
report about once a second. That is why `lag_s` is 3 s by default. Not tried on hardware.
"""

from __future__ import annotations

import math
import time
from typing import Any
from urllib.parse import quote, urlencode

from edlab.agent.sensors.base import Sample, Sensor
from edlab.power import options
from edlab.power.http import Answer, get

_ANSWER_S = 0.9


class Tasmota(Sensor):
    """The power of one channel of a plug; `channel` counts from 1, as Tasmota does.

    The first reading asks for the number of decimals, and returns None; then `resolution_w` is one step of the last of
    them: 1 W unless the plug was set up with `WattRes 1`, 2 or 3. The chip's own steps may be wider. The
    accuracy is unknown: each plug is calibrated by its user.
    """

    def __init__(
        self,
        *,
        host: str,
        channel: int = 1,
        username: str = "admin",
        password: str = "",
        lag_s: float = 3.0,
        boundary: str = "wall_ac",
    ) -> None:
        """Raises `ConfigError`."""
        self._host = options.host(host)
        super().__init__(f"tasmota {self._host}", "tasmota", options.boundary(boundary), options.number("lag_s", lag_s))
        self._channel = options.integer("channel", channel, least=1)
        self._login = {"user": options.text("username", username), "password": str(password)} if password else {}
        self._asked = False

    def read(self) -> Sample | None:
        """See `Sensor.read`. A negative power is a failed reading."""
        deadline = time.monotonic() + _ANSWER_S
        if not self._asked:
            decimals = self._command("WattRes", deadline).json().get("WattRes")
            self.resolution_w = 10.0**-decimals if isinstance(decimals, int) else None
            self._asked = True
            return None
        answer = self._command("Status 10", deadline)
        return Sample(answer.t_ns, self._watts(answer.json()))

    def close(self) -> None:
        """See `Sensor.close`."""
        self._asked = False

    def _command(self, command: str, deadline: float) -> Answer:
        query = urlencode({**self._login, "cmnd": command}, quote_via=quote)
        answer = get(f"http://{self._host}/cm?{query}", deadline)
        if answer.status == 401 or (answer.status == 200 and "WARNING" in answer.json()):
            problem = "refuses the username or the password" if self._login else "asks for a password"
            raise PermissionError(f"{self._host} {problem}: set meter.options.password")
        if answer.status != 200:
            raise OSError(f"{self._host} answered HTTP {answer.status} for {command}: {answer.body[:80]!r}")
        return answer

    def _watts(self, status: dict[str, Any]) -> float:
        sensors = status.get("StatusSNS")
        energy = sensors.get("ENERGY") if isinstance(sensors, dict) else None
        power = energy.get("Power") if isinstance(energy, dict) else None
        channels = power if isinstance(power, list) else [power]
        if power is None:
            raise ValueError(f"{self._host} has no power meter: its Status 10 has no ENERGY.Power")
        if self._channel > len(channels):
            raise ValueError(f"{self._host} has {len(channels)} channels, not {self._channel}")
        watts = channels[self._channel - 1]
        if isinstance(watts, bool) or not isinstance(watts, int | float) or not math.isfinite(watts) or watts < 0:
            raise ValueError(f"{self._host} reports a power of {watts!r} W")
        return float(watts)
