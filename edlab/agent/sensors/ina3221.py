"""INA3221, the power monitor of NVIDIA's Jetson boards: three channels a chip, each the voltage and current of a rail.

Two drivers report them, and both are read:

- JetPack 5 and later, Linux's own, in hwmon: in*_label, in*_input in millivolts, curr*_input in milliamperes,
  shunt*_resistor in microohms, and in*_enable (Linux, Documentation/hwmon/ina3221.rst). in4 to in7 and curr4 are shunt
  voltages and their sum. A channel that is not connected is disabled, or is labelled NC.
- JetPack 4, NVIDIA's, in bus/i2c/drivers/ina3221x/*/iio:device*: rail_name_*, in_power*_input in milliwatts,
  in_voltage*_input and in_current*_input in millivolts and milliamperes.

A step is 40 uV at the shunt and 8 mV of the rail (Texas Instruments, SBOS576, INA3221).

Which rail is the module, by board:

- TX1, TX2, Xavier NX, Orin NX and Nano: VDD_IN, "the total power of module" (NVIDIA developer forum 200883; energymon,
  jetson/JetsonPowerRails.md). Nano: POM_5V_IN (forum 73608). They include the module's other rails.
- AGX Xavier and AGX Orin have no such rail: the module is the sum of those that branch from its inputs. AGX Xavier:
  all six (Jetson AGX Xavier Series Product Design Guide, 5.2 and 5.6.2). AGX Orin: all but VDDQ_VDD2_1V8AO, which "is
  also included in VIN_SYS_5V0" (Jetson Linux Developer Guide 36.4.3, software-based power consumption modeling; forum
  223111). A sum with it counts the memory twice.
- AGX Thor: its rails are not documented as a whole; the board's input is an INA238 (hwmon.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Iterator, Sequence

from ..messages import UnusableSensor
from . import sysfs
from .base import Found, PowerSensor

_KIND = "ina3221"
_MODULE_RAILS = ("VDD_IN", "POM_5V_IN")
_MODULE_SUMS = {
    "AGX Orin": ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),
    "AGX Xavier": ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"),
}
_LEAST_IN_COMMON = 2  # rails, for a board to be recognised by their names
_NOT_CONNECTED = "NC"
_SHUNT_STEP_UV = 40.0


def survey(root: Path = Path("/sys")) -> Found:
    """The module first, then each rail; `root` is sysfs."""
    rails = [*_in_hwmon(root / "class/hwmon"), *_in_iio(root / "bus/i2c/drivers/ina3221x")]
    labels = {rail.label for rail in rails}
    sysfs.tell_apart(rails)
    found = sysfs.readable(sorted(rails, key=lambda rail: rail.boundary != "module"))
    if labels.isdisjoint(_MODULE_RAILS):
        _add_sum(found, labels)
    return found


class Rail(sysfs.ChannelSensor):
    """One channel. `label` is the rail's name on the board."""

    def __init__(self, label: str, lag_s: float, folder: Path, channel: str, watts: Callable[[], float]) -> None:
        boundary = "module" if label in _MODULE_RAILS else "rail"
        super().__init__("ina3221 %s" % label, _KIND, boundary, lag_s, folder, channel, watts)
        self.label = label


class Sum(PowerSensor):
    """The module, as the sum of its rails, which are read one after another."""

    def __init__(self, rails: Sequence[Rail]) -> None:
        name = "ina3221 sum of %s" % ", ".join(rail.label for rail in rails)
        super().__init__(name, _KIND, "module", max(rail.lag_s for rail in rails))
        steps = [rail.resolution_w for rail in rails if rail.resolution_w is not None]
        self.resolution_w = sum(steps) if len(steps) == len(rails) else None
        self._rails = rails

    def watts(self) -> float:
        return sum(rail.watts() for rail in self._rails)


def _add_sum(found: Found, labels: set[str]) -> None:
    """Add the sum of the board whose rails these are, if it is known: a sensor, or unusable if one cannot be read."""
    board = max(_MODULE_SUMS, key=lambda board: len(labels.intersection(_MODULE_SUMS[board])))
    wanted = _MODULE_SUMS[board]
    if len(labels.intersection(wanted)) < _LEAST_IN_COMMON:
        return
    readable = {sensor.label: sensor for sensor in found.sensors if isinstance(sensor, Rail)}
    missing = [label for label in wanted if label not in readable]
    if missing:
        reason = "the module of a Jetson %s is the sum of %d rails, and %s cannot be read" % (
            board, len(wanted), ", ".join(missing),
        )  # fmt: skip
        hint = "check the board's device tree and the drivers of both INA3221 chips"
        found.unusable.insert(0, UnusableSensor("ina3221 sum of %s" % ", ".join(wanted), _KIND, reason, hint))
    else:
        found.sensors.insert(0, Sum([readable[label] for label in wanted]))


def _in_hwmon(root: Path) -> Iterator[Rail]:
    for chip in sorted(root.glob("hwmon*")):
        if sysfs.text(chip / "name") == "ina3221":
            for number in (1, 2, 3):
                label = _connected(chip, number)
                if label:
                    yield _of_hwmon(chip, number, label)


def _connected(chip: Path, number: int) -> str | None:
    """The label of a channel; None if it is disabled, not connected or not there."""
    label = sysfs.text(chip / ("in%d_label" % number)) or "channel %d" % number
    there = all((chip / (name % number)).exists() for name in ("in%d_input", "curr%d_input"))
    if not there or label == _NOT_CONNECTED or sysfs.text(chip / ("in%d_enable" % number)) == "0":
        return None
    return label


def _of_hwmon(chip: Path, number: int, label: str) -> Rail:
    millivolts, milliamperes = chip / ("in%d_input" % number), chip / ("curr%d_input" % number)
    watts = _product(millivolts, milliamperes)
    rail = Rail(label, sysfs.lag_s(chip, "update_interval"), chip, "channel %d" % number, watts)
    rail.resolution_w = _resolution_w(millivolts, chip / ("shunt%d_resistor" % number))
    return rail


def _resolution_w(millivolts: Path, microohms: Path) -> float | None:
    """The watts of one step of the current at the rail's present voltage; a step of the voltage is far less.

    The driver rounds the current to milliamperes, which is finer than the chip up to shunts of 40 milliohms.
    """
    try:
        shunt = sysfs.integer(microohms)
        return sysfs.integer(millivolts) / 1000 * max(_SHUNT_STEP_UV / shunt, 0.001)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _in_iio(root: Path) -> Iterator[Rail]:
    for folder in sorted(root.glob("*/iio:device*")):
        for number, path in sysfs.channels(folder, r"rail_name_(\d+)").items():
            label = sysfs.text(path)
            if label and label != _NOT_CONNECTED:
                yield Rail(label, 0.0, folder, "channel %d" % (number + 1), _iio_watts(folder, number))


def _iio_watts(folder: Path, number: int) -> Callable[[], float]:
    """Reads the driver's power, or the product of its voltage and current if it has none."""
    milliwatts = folder / ("in_power%d_input" % number)
    if milliwatts.exists():
        return sysfs.scaled(milliwatts, 1e3)
    return _product(folder / ("in_voltage%d_input" % number), folder / ("in_current%d_input" % number))


def _product(millivolts: Path, milliamperes: Path) -> Callable[[], float]:
    """Reads a voltage and a current, and multiplies them to watts."""
    return lambda: sysfs.integer(milliamperes) * sysfs.integer(millivolts) / 1e6
