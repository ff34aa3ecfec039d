"""Where a run's power figures come from: a sensor that the agent reads, the device's specification, or nowhere.

Only a sensor gives `power_w`. An estimate has names of its own and the boundary `estimated`.
"""

from __future__ import annotations

from dataclasses import dataclass

from edlab.agent.messages import SensorFound, Sensors, UnusableSensor
from edlab.config import DeviceConfig, PowerConfig, Sensor, SpecificationConfig
from edlab.errors import MeasurementError

ESTIMATED = "estimated"


@dataclass(frozen=True)
class Source:
    """One choice: the agent's `sensor`, or typical `watts` of a specification, or neither; `unmeasured` says why."""

    boundary: str  # rail, module, package, board_dc, usb, wall_ac; "estimated"; "none" where there is no source
    description: str
    sensor: str | None = None
    watts: float | None = None
    unmeasured: str = ""
    lag_s: float = 0.0  # of the sensor: how far back a reading may reach
    stand_in: str = ""  # the folder of files that the sensor's readings come from, where they are not the hardware's

    @property
    def measured(self) -> bool:
        return self.sensor is not None


def choose(
    config: PowerConfig,
    found: Sensors,
    device: DeviceConfig,
) -> Source:
    """The source that the configuration asks for, among the sensors that the agent found.

    Only those that see the device count (`device.sensors`: kinds, or beginnings of names). `auto` takes the first of
    them, else the estimate. A kind that was asked for and is not among them raises `MeasurementError`. Why one that
    sees the device is `unusable` is part of what is said. What stands in for the device has none, unless it brings
    stand-ins for the device's own, as a recording does.
    """
    if device.stand_in and not any(sensor.stand_in.startswith(device.stand_in) for sensor in found.sensors):
        return Source("none", "none", unmeasured=f"{device.stand_in} is not the device: its watts say nothing of it")
    if config.sensor is Sensor.none:
        return Source("none", "none", unmeasured="power=none was asked for")
    if config.sensor is Sensor.estimated:
        return _estimate(device.specification, "power=estimated was asked for")
    for name in device.sensors:
        for sensor in found.sensors:
            if _is_called(sensor, name) and config.sensor in (Sensor.auto, sensor.kind):
                return _measure(sensor)
    refused = [f"{each.name}: {each.reason}" for each in found.unusable if sees(device, each)]
    why = f" ({'; '.join(refused)})" if refused else ""
    if config.sensor is Sensor.auto:
        return _estimate(device.specification, f"the device has no power sensor that can be read{why}")
    names = ", ".join(sensor.name for sensor in found.sensors) or "none"
    raise MeasurementError(
        f"{device.name} has no {config.sensor} power sensor that sees it (found: {names}){why}",
        hint="power=auto takes what there is; reading RAPL may need root (/sys/class/powercap/*/energy_uj); "
        "device.sensors says which sensors see the device",
    )


def sees(device: DeviceConfig, sensor: SensorFound | UnusableSensor) -> bool:
    """Whether the device's configuration counts on this sensor."""
    return any(_is_called(sensor, name) for name in device.sensors)


def _measure(sensor: SensorFound) -> Source:
    stand_in = sensor.stand_in
    description = f"{sensor.name}, from the files under {stand_in}" if stand_in else sensor.name
    return Source(sensor.boundary, description, sensor=sensor.name, lag_s=sensor.lag_s, stand_in=stand_in)


def _is_called(sensor: SensorFound | UnusableSensor, name: str) -> bool:
    """Whether `name` is the sensor's kind, or the beginning of its name."""
    return name == sensor.kind or sensor.name.startswith(name)


def _estimate(specification: SpecificationConfig, unmeasured: str) -> Source:
    if specification.typical_watts is None:
        return Source("none", "none", unmeasured=f"{unmeasured}, and device.specification.typical_watts is not set")
    description = specification.source or "device.specification"
    return Source(ESTIMATED, description, watts=specification.typical_watts, unmeasured=unmeasured)
