"""A power meter next to the target, which this machine reads on its own clock."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from types import TracebackType

import numpy as np

from edlab.agent.sensors.base import BOUNDARIES, Recorder, Sensor
from edlab.config import MeterConfig
from edlab.errors import ConfigError
from edlab.power.align import Alignment
from edlab.power.base import Series, Source
from edlab.power.clock import ClockRelation, compare_clocks
from edlab.power.trial import find_problem
from edlab.registry import Group, did_you_mean

_SEARCH_MARGIN_S = 2.0

# A package adds one by the entry point group `edlab.meters`: a class with `meter.options` as keyword arguments.
METERS = Group(
    "meters",
    Sensor,  # type: ignore[type-abstract]
    {
        "command": "edlab.power.meters.command:Command",
        "csv": "edlab.power.meters.csv:Csv",
        "ina219": "edlab.power.meters.ina2xx:Ina219",
        "ina226": "edlab.power.meters.ina2xx:Ina226",
        "joulescope": "edlab.power.meters.joulescope:Joulescope",
        "ppk2": "edlab.power.meters.ppk2:Ppk2",
        "scpi": "edlab.power.meters.scpi:Scpi",
        "shelly": "edlab.power.meters.shelly:Shelly",
        "spec_ptd": "edlab.power.meters.spec_ptd:SpecPtd",
        "tasmota": "edlab.power.meters.tasmota:Tasmota",
        "um25c": "edlab.power.meters.um25c:Um25c",
    },
)


def open_meter(config: MeterConfig) -> Sensor | None:
    """The configured meter, whose device is opened by its first reading; None if there is none.

    Raises `ConfigError` for an unknown meter or invalid options, `MissingDependencyError` if it needs a package.
    """
    if config.kind is None:
        if config.options:
            raise ConfigError(
                f"meter.options.{next(iter(config.options))} is set, and no meter is chosen",
                hint=f"set meter to one of: {', '.join(METERS.names())}",
            )
        return None
    known = check_options(config.name, config.kind, list(config.options))
    try:
        opened = METERS.load(config.kind)(**config.options)
    except TypeError as error:  # an option without a default is not set
        raise ConfigError(f"meter={config.name}: {error}", hint=f"set meter.options.KEY: {', '.join(known)}") from error
    if opened.boundary not in BOUNDARIES:
        raise ConfigError(
            f"meter={config.name} has the boundary '{opened.boundary}'",
            hint=f"it must be one of: {', '.join(BOUNDARIES)}",
        )
    return opened


def check_options(name: str, kind: str, options: Sequence[str]) -> list[str]:
    """All options of the meter `kind`, which is `name` in the configuration.

    Raises `ConfigError` if it does not have one of `options`.
    """
    known = list(inspect.signature(METERS.load(kind)).parameters)
    for option in options:
        if option not in known:
            valid = f"{did_you_mean(option, known)}its options: {', '.join(known) or 'none'}"
            raise ConfigError(f"meter={name} has no option '{option}'", hint=valid)
    return known


class HostMeter(Source):
    """A meter, read about every `interval_s`; `agent_ns` returns the agent's time."""

    def __init__(self, meter: Sensor, interval_s: float, agent_ns: Callable[[], int]) -> None:
        super().__init__(meter.name, meter.boundary, meter.lag_s, renewed_s=meter.renewed_s)
        self._meter = meter
        self._interval_s = interval_s
        self._agent_ns = agent_ns
        self._recorder: Recorder | None = None
        self._alignment = Alignment(0, 0 if meter.knows_time else round(meter.late_s * 1e9))

    @property
    def late_s(self) -> float:
        return self._meter.late_s

    @property
    def search_s(self) -> float | None:
        """How much the readings' times may be wrong before `shift`, in seconds; None: they are right."""
        return None if self._meter.knows_time else self._meter.late_s + _SEARCH_MARGIN_S

    def find_problem(self) -> str:
        """Why it cannot be read, after some seconds; empty if it can."""
        return find_problem(self._meter, self._interval_s)

    def shift(self, alignment: Alignment) -> None:
        """Correct the times of all readings, in addition to earlier corrections."""
        self._alignment = Alignment(self._alignment.shift_ns + alignment.shift_ns, alignment.error_ns)

    def start(self) -> None:
        self._recorder = Recorder(self._meter, self._interval_s)
        self._before = compare_clocks(self._agent_ns)
        self._recorder.start()

    def stop(self) -> None:
        if self._recorder:
            self._recorder.stop()

    def close(self) -> None:
        self._meter.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._recorder and kind is None:  # Ctrl-C waits for no reading
            self._recorder.catch_up()
        super().__exit__(kind, error, trace)

    def series(self, start_ns: int, end_ns: int) -> Series:
        """See `Source.series`."""
        assert self._recorder
        clocks = ClockRelation(self._before, compare_clocks(self._agent_ns))
        shift_ns, error_ns = self._alignment
        here = clocks.host_ns(start_ns) - shift_ns, clocks.host_ns(end_ns) - shift_ns
        samples, failures = self._recorder.series(*here), self._recorder.failures(*here)
        self.resolution_w, self.accuracy = self._meter.resolution_w, self._meter.accuracy  # a reading may set them
        read = Series(samples[:, 0].astype(np.int64) + shift_ns, samples[:, 1], failures.failed, failures.error)
        series = read.on_agents_clock(clocks)
        return dataclasses.replace(series, clock_error_ns=series.clock_error_ns + error_ns)
