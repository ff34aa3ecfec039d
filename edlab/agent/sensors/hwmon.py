"""Linux hwmon: power meters of boards and cards.

power*_input and power*_average are in microwatts (Linux, Documentation/hwmon/sysfs-interface.rst).

What the watts of a chip include:

- `power_meter`, ACPI's: the board (Linux, Documentation/hwmon/acpi_power_meter.rst).
- `amdgpu`: power1_average is the mean, power1_input the present power of the card; of a processor's integrated graphics
  both include the processor's cores (Linux, Documentation/gpu/amdgpu/thermal).
- `ina238` on a Jetson AGX Thor: the input of module and carrier board, which tegrastats calls VIN (NVIDIA developer
  forum 366461; rbonghi/jetson_stats, pull request 900). Its driver need not name it.
- any other chip: one rail.

Two kinds of chips are not read here: the INA3221 (ina3221.py), and the entries of batteries and USB-C supplies
(`ucsi_source_psy_*`), which report a battery or a negotiated contract, not the power of a rail.
"""

from __future__ import annotations

from pathlib import Path
from typing import Iterator

from . import sysfs
from .base import Found

_KIND = "hwmon"
_BOUNDARIES = {"amdgpu": "module", "power_meter": "board_dc"}  # other chips measure a rail
_WIDEST_FIRST = ("board_dc", "module", "rail")
_NOT_RAILS = ("ina3221", "ucsi_source_psy_")  # beginnings of names
_THOR = "nvidia,tegra264"
_THORS_INPUT = {"ina238": "VIN"}


def survey(root: Path = Path("/sys/class/hwmon")) -> Found:
    """The meters, those with the widest boundary first, each with a unique name."""
    is_thor = _THOR in (sysfs.text(root.parent.parent / "firmware/devicetree/base/compatible") or "")
    inputs = _THORS_INPUT if is_thor else {}
    meters = [meter for chip in sorted(root.glob("hwmon*")) for meter in _of_chip(chip, inputs)]
    sysfs.tell_apart(meters)
    return sysfs.readable(sorted(meters, key=lambda meter: _WIDEST_FIRST.index(meter.boundary)))


def _of_chip(chip: Path, inputs: dict[str, str]) -> Iterator[sysfs.ChannelSensor]:
    """The channels of a chip; `inputs` are the names of the chips that measure the board's input."""
    chip_name = sysfs.text(chip / "name") or chip.name
    if chip_name.startswith(_NOT_RAILS) or _is_supply(chip):
        return
    for path in sysfs.channels(chip, r"power(\d+)_(?:input|average)").values():
        channel = path.name.partition("_")[0]
        label = inputs.get(chip_name) or sysfs.text(chip / (channel + "_label")) or channel
        boundary = "board_dc" if chip_name in inputs else _BOUNDARIES.get(chip_name, "rail")
        lag_s = sysfs.lag_s(chip, channel + "_average_interval", "update_interval")
        name = "hwmon:%s %s" % (chip_name, label)
        yield sysfs.ChannelSensor(name, _KIND, boundary, lag_s, chip, channel, sysfs.scaled(path, 1e6))


def _is_supply(chip: Path) -> bool:
    """Whether this is the entry of a battery, an adapter or a USB-C port, whose device is in class power_supply."""
    return sysfs.text(chip / "device/type") in ("Battery", "Mains", "UPS", "USB", "Wireless")
