"""Which source of power counts, or which estimate."""

from __future__ import annotations

from edlab.agent.messages import SensorFound, UnusableSensor
from edlab.config import DeviceConfig, PowerConfig, Sensor
from edlab.errors import MeasurementError
from edlab.power.base import Source
from edlab.power.board import BoardSensor, Target
from edlab.power.estimate import Estimate, estimate


def choose(config: PowerConfig, target: Target, device: DeviceConfig) -> Source | Estimate:
    """What the configuration asks for, among the sensors that the target's agent finds.

    Only those that see the device count (`device.sensors`: kinds, or beginnings of names). `auto` takes the first of
    them, else the estimate. A kind that was asked for and is not among them raises `MeasurementError`. Why one that
    sees the device is `unusable` is part of what is said. What stands in for the device has none, unless it brings
    stand-ins for the device's own, as a recording does.
    """
    if device.stand_in and not any(each.stand_in.startswith(device.stand_in) for each in target.sensors().sensors):
        return Estimate(f"{device.stand_in} is not the device: its watts say nothing of it")
    if config.sensor is Sensor.none:
        return Estimate("power=none was asked for")
    if config.sensor is Sensor.estimated:
        return estimate(device.specification, "power=estimated was asked for")
    found = target.sensors()
    for name in device.sensors:
        for sensor in found.sensors:
            if _is_called(sensor, name) and config.sensor in (Sensor.auto, sensor.kind):
                return BoardSensor(target, sensor, config.interval_s)
    refused = [f"{each.name}: {each.reason}" for each in found.unusable if sees(device, each)]
    why = f" ({'; '.join(refused)})" if refused else ""
    if config.sensor is Sensor.auto:
        return estimate(device.specification, f"the device has no power sensor that can be read{why}")
    names = ", ".join(sensor.name for sensor in found.sensors) or "none"
    raise MeasurementError(
        f"{device.name} has no {config.sensor} power sensor that sees it (found: {names}){why}",
        hint="power=auto takes what there is; reading RAPL may need root (/sys/class/powercap/*/energy_uj); "
        "device.sensors says which sensors see the device",
    )


def sees(device: DeviceConfig, sensor: SensorFound | UnusableSensor) -> bool:
    """Whether the device's configuration counts on this sensor."""
    return any(_is_called(sensor, name) for name in device.sensors)


def _is_called(sensor: SensorFound | UnusableSensor, name: str) -> bool:
    """Whether `name` is the sensor's kind, or the beginning of its name."""
    return name == sensor.kind or sensor.name.startswith(name)
