"""The power management chip of a Raspberry Pi 5, which only the firmware can read: `vcgencmd pmic_read_adc`.

It prints the current and the voltage of each rail that it supplies, for example

    VDD_CORE_A current(7)=1.12518000A
    VDD_CORE_V volt(15)=0.89316150V

and EXT5V_V, the 5 V input, without a current. The watts are the sum of current times voltage over the rails that have
both. What they do not include: the losses of the chip itself, and everything that takes 5 V directly: USB devices, the
fan, HATs. Owners measured 1.13 times this sum plus 0.64 W at the USB-C input (github.com/jfikar/RPi5-power), so it is
neither the module nor the board: its boundary is `rail`.

How the firmware averages a reading is not documented; single readings vary. Each one starts a program, which takes some
milliseconds of a core: `power.interval_s=0.2 power.active_seconds=25` reads less often.
"""

from __future__ import annotations

import re
import shutil
import subprocess

from ..messages import UnusableSensor
from .base import Found, PowerSensor

_NAME = "pmic"
_COMMAND = ["vcgencmd", "pmic_read_adc"]
_LONGEST_S = 1.0
_LINE = re.compile(r"\s*(\w+)_([AV])\s+(?:current|volt)\(\d+\)=(-?\d+(?:\.\d+)?)[AV]\s*")


def survey() -> Found:
    """The sum of the rails; none if vcgencmd is not installed."""
    if shutil.which(_COMMAND[0]) is None:
        return Found([], [])
    sensor = Pmic()
    try:
        sensor.read()
    except (OSError, ValueError) as error:
        hint = "a Raspberry Pi 5 has this chip, and its user must be in the group video: sudo usermod -aG video $USER"
        return Found([], [UnusableSensor(_NAME, _NAME, str(error), hint)])
    return Found([sensor], [])


class Pmic(PowerSensor):
    """The sum of the rails whose current and voltage the chip measures."""

    def __init__(self) -> None:
        super().__init__(_NAME, _NAME, "rail")

    def watts(self) -> float:
        return sum_of_rails(_output())


def sum_of_rails(output: str) -> float:
    """The watts of the rails that have a current and a voltage. Raises `ValueError` if none has."""
    values: dict[str, dict[str, float]] = {"A": {}, "V": {}}
    for line in output.splitlines():
        match = _LINE.fullmatch(line)
        if match:
            rail, unit, value = match.groups()
            values[unit][rail] = float(value)
    amperes, volts = values["A"], values["V"]
    rails = amperes.keys() & volts.keys()
    if not rails:
        raise ValueError("vcgencmd pmic_read_adc lists no rail: %s" % (output.strip()[:100] or "it printed nothing"))
    return sum(amperes[rail] * volts[rail] for rail in rails)


def _output() -> str:
    """What the command prints. Raises `OSError` if it fails or does not end in time."""
    try:
        done = subprocess.run(
            _COMMAND, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=_LONGEST_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise OSError("vcgencmd pmic_read_adc did not answer within %g s" % _LONGEST_S) from None
    printed = done.stdout.decode(errors="replace")
    if done.returncode != 0:
        raise OSError("vcgencmd pmic_read_adc failed with exit code %d: %s" % (done.returncode, printed.strip()[:100]))
    return printed
