"""Chooses the source of power, or the estimate."""

from __future__ import annotations

from typing import NamedTuple

from edlab.agent.messages import SensorFound, Sensors, UnusableSensor
from edlab.config import DeviceConfig, MeterConfig, PowerConfig, Sensor
from edlab.errors import MeasurementError
from edlab.power.base import Source
from edlab.power.board import BoardSensor, Target
from edlab.power.estimate import Estimate, estimate
from edlab.power.meter import HostMeter, open_meter


class Choice(NamedTuple):
    """The source of a run's power metrics, or the estimate, and the sources that are recorded next to it."""

    power: Source | Estimate
    others: list[Source]


def choose(config: PowerConfig, meter: MeterConfig, target: Target, device: DeviceConfig) -> Choice:
    """The source that the configuration requests: a meter of this machine, or one of the sensors of the target's agent.

    Only sensors that measure the device are used (`device.sensors`: kinds, or prefixes of names). `auto` uses the first
    of them, else the estimate. A requested kind that is not among them raises `MeasurementError`. The message includes
    why sensors of the device are `unusable`. A stand-in for the device has no sensors, unless it has stand-ins for the
    device's own, as a recording does.

    The others, each with its own boundary, are the requested sensors next to a meter, and with `power=all` all sensors
    of the device after the first.
    """
    found = target.sensors()
    if not _is_real(device, found):
        return Choice(Estimate(f"{device.stand_in} is not the device: its watts say nothing about it"), [])
    sensors = _sensors(config, target, device, found)
    if opened := open_meter(meter):
        if not sensors and config.sensor not in (Sensor.auto, Sensor.all):
            _without_sensor(config, device, found)  # raises for a kind that was requested
        return Choice(HostMeter(opened, config.interval_s, target.clock), sensors)
    if sensors:
        return Choice(sensors[0], sensors[1:])
    return Choice(_without_sensor(config, device, found), [])


def _without_sensor(config: PowerConfig, device: DeviceConfig, found: Sensors) -> Estimate:
    """The estimate, or none. Raises `MeasurementError` if a kind of sensor was requested."""
    if config.sensor is Sensor.none:
        return Estimate("power=none was requested")
    if config.sensor is Sensor.estimated:
        return estimate(device.specification, "power=estimated was requested")
    refused = [f"{each.name}: {each.reason}" for each in found.unusable if measures(device, each)]
    why = f" ({'; '.join(refused)})" if refused else ""
    if config.sensor in (Sensor.auto, Sensor.all):
        return estimate(device.specification, f"the device has no readable power sensor{why}")
    names = ", ".join(sensor.name for sensor in found.sensors) or "none"
    raise MeasurementError(
        f"no {config.sensor} sensor measures {device.name} (found: {names}){why}",
        hint="set power=auto to use any sensor that is available; reading RAPL may need root "
        "(/sys/class/powercap/*/energy_uj); "
        "device.sensors lists the sensors that measure the device",
    )


def _is_real(device: DeviceConfig, found: Sensors) -> bool:
    """Whether sensors measure the device: a stand-in for it has none, unless it has stand-ins for the device's own."""
    return not device.stand_in or any(each.stand_in.startswith(device.stand_in) for each in found.sensors)


def _sensors(config: PowerConfig, target: Target, device: DeviceConfig, found: Sensors) -> list[Source]:
    """The requested sensors of the device, in the order of `device.sensors`."""
    named = [sensor for name in device.sensors for sensor in found.sensors if _is_called(sensor, name)]
    wanted = list(dict.fromkeys(each for each in named if config.sensor in (Sensor.auto, Sensor.all, each.kind)))
    if config.sensor is Sensor.auto and wanted and _is_part(wanted[0], device, found):
        return []
    used = wanted if config.sensor is Sensor.all else wanted[:1]
    return [BoardSensor(target, sensor, config.interval_s) for sensor in used]


def _is_part(sensor: SensorFound, device: DeviceConfig, found: Sensors) -> bool:
    """Whether this is a rail, while a preferred sensor cannot be read: a part does not stand for the whole."""

    def rank(each: SensorFound | UnusableSensor) -> int:
        return next((place for place, name in enumerate(device.sensors) if _is_called(each, name)), len(device.sensors))

    return sensor.boundary == "rail" and any(rank(each) < rank(sensor) for each in found.unusable)


def measures(device: DeviceConfig, sensor: SensorFound | UnusableSensor) -> bool:
    """Whether this sensor measures the device, by the device's configuration."""
    return any(_is_called(sensor, name) for name in device.sensors)


def _is_called(sensor: SensorFound | UnusableSensor, name: str) -> bool:
    """Whether `name` is the sensor's kind, or a prefix of its name."""
    return name == sensor.kind or sensor.name.startswith(name)
