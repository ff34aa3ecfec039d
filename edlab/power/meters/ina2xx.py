"""TI's power monitors INA219 and INA226 on an I2C bus of this machine (/dev/i2c-1), in the target's supply line.

Sources: TI, INA219 data sheet (SBOS448) and INA226 data sheet (SBOS547B); the Linux drivers drivers/hwmon/ina2xx.c and
drivers/iio/adc/ina2xx-adc.c have the same registers, scales and conversion times. Registers have 16 bits, the high byte
first: 0 configuration; 1 shunt voltage, signed, in steps of 10 uV (INA226: 2.5 uV); 2 bus voltage, in steps of 4 mV in
the bits 15 to 3 (INA226: 1.25 mV in all bits). A write of one byte chooses the register that the next read returns. The
device files are described in Documentation/i2c/dev-interface.rst of the kernel.

The power is the product of both voltages, divided by the shunt: its steps are finer than those of the chips' own power
register, and it needs no calibration register, which a chip that loses its supply forgets (its power is then 0).

Not tried on hardware.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from edlab.agent.sensors.base import Sample, Sensor
from edlab.errors import ConfigError
from edlab.power import options

_I2C_SLAVE = 0x0703  # linux/i2c-dev.h
_CONFIGURATION, _SHUNT_VOLTAGE, _BUS_VOLTAGE = 0, 1, 2
_ROUNDED = 1 + 1e-9  # 0.4 A over 0.1 ohm are 40 mV
_SLOWEST = 1.15  # of the usual conversion time: the most that the data sheets state


class I2cDevice:
    """A device with 16-bit registers at an address of an I2C bus, through the bus's device file."""

    def __init__(self, path: str, address: int) -> None:
        """Raises `OSError`."""
        self._name = f"the chip at 0x{address:02x} on {path}"
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise OSError(
                f"{path} cannot be opened: {error.strerror}; {_BUS_HINTS.get(error.errno or 0, '')}"
            ) from error
        try:
            fcntl.ioctl(self._file, _I2C_SLAVE, address)
        except OSError as error:
            os.close(self._file)
            hint = _ADDRESS_HINTS.get(error.errno or 0, "is it the device file of an I2C bus?")
            raise OSError(f"{self._name} cannot be selected: {error.strerror}; {hint}") from error

    def read(self, register: int) -> int:
        """The value of a register, 0..65535. Raises `OSError`."""
        try:
            os.write(self._file, bytes([register]))
            value = os.read(self._file, 2)
        except OSError as error:
            raise OSError(f"{self._name} cannot be read: {error.strerror}; check its wiring and address") from error
        if len(value) != 2:
            raise OSError(f"{self._name} sent {len(value)} bytes, not 2")
        return int.from_bytes(value, "big")

    def write(self, register: int, value: int) -> None:
        """Set a register. Raises `OSError`."""
        try:
            os.write(self._file, bytes([register, *value.to_bytes(2, "big")]))
        except OSError as error:
            raise OSError(f"{self._name} cannot be set: {error.strerror}; check its wiring and address") from error

    def close(self) -> None:
        """Close the bus's device file."""
        os.close(self._file)


_BUS_HINTS = {
    errno.ENOENT: "is I2C enabled (modprobe i2c-dev; on a Raspberry Pi: raspi-config)?",
    errno.EACCES: "give this user access: sudo usermod -aG i2c $USER, then log in again",
}
_ADDRESS_HINTS = {
    errno.EBUSY: "a driver of the kernel uses it (rmmod ina2xx), which shows the power in /sys/class/hwmon"
}


class _Ina2xx(Sensor):
    """The power behind the shunt. `resolution_w` is one step of the current at the last reading's voltage."""

    kind_of_chip: ClassVar[str]
    averages: ClassVar[Mapping[int, tuple[int, float]]]  # readings in a mean -> its bits, seconds for a new power
    usual_averages: ClassVar[int]
    volts_per_step: ClassVar[float]  # of the shunt voltage
    gain_error: ClassVar[float]  # of current and voltage together, at most, at 25 degrees Celsius
    device = I2cDevice

    def __init__(
        self,
        *,
        max_amperes: float,
        bus: int = 1,
        address: int = 0x40,
        shunt_ohms: float = 0.1,
        shunt_tolerance: float = 0.01,
        averages: int | None = None,
        boundary: str = "board_dc",
    ) -> None:
        """`averages` is `usual_averages` by default. Raises `ConfigError`, also if no range includes `max_amperes`."""
        averages = self.usual_averages if averages is None else averages
        self._path = f"/dev/i2c-{options.integer('bus', bus)}"
        self._address = _address(address)
        self._ohms = _positive("shunt_ohms", shunt_ohms)
        self._largest = _positive("max_amperes", max_amperes) * self._ohms
        if averages not in self.averages:
            raise ConfigError(
                f"the meter option averages is {averages!r}",
                hint=f"set meter.options.averages to one of: {', '.join(map(str, self.averages))}",
            )
        averaging, self._cycle_s = self.averages[averages]
        self._configuration = averaging | self._mode()
        name = f"{self.kind_of_chip} {self._path} 0x{self._address:02x}"
        # A reading is the mean of a cycle, and stays for the next one.
        super().__init__(name, self.kind_of_chip, options.boundary(boundary), 2 * self._cycle_s)
        self.accuracy = self.gain_error + options.number("shunt_tolerance", shunt_tolerance)
        self._chip: I2cDevice | None = None
        self._ready_at = 0.0

    def read(self) -> Sample | None:
        """See `Sensor.read`. None: the chip was configured just now; it was reset, or this is the first reading."""
        if self._chip is None:
            self._chip = self.device(self._path, self._address)
        before_ns = time.perf_counter_ns()
        try:
            if self._chip.read(_CONFIGURATION) != self._configuration:
                self._configure(self._chip)
                self._ready_at = time.monotonic() + _SLOWEST * self._cycle_s
            if time.monotonic() < self._ready_at:
                return None
            shunt = self._chip.read(_SHUNT_VOLTAGE)
            bus_volts = self._bus_volts(self._chip.read(_BUS_VOLTAGE))
        except OSError:
            self.close()
            raise
        t_ns = (before_ns + time.perf_counter_ns()) // 2
        shunt_volts = (shunt - 0x10000 if shunt & 0x8000 else shunt) * self.volts_per_step
        if abs(shunt_volts) >= self._full_scale():
            raise ValueError(
                f"{self.name}: the current exceeds {self._full_scale() / self._ohms:.3g} A: raise "
                "meter.options.max_amperes, or use a smaller shunt"
            )
        watts = shunt_volts / self._ohms * bus_volts
        if watts < 0:
            raise ValueError(f"{self.name} reports {watts:.3g} W: are IN+ and IN- the wrong way round?")
        self.resolution_w = self.volts_per_step / self._ohms * bus_volts
        return Sample(t_ns, watts)

    def close(self) -> None:
        """See `Sensor.close`."""
        chip, self._chip = self._chip, None
        if chip is not None:
            chip.close()

    def _configure(self, chip: I2cDevice) -> None:
        chip.write(_CONFIGURATION, self._configuration)
        if (answer := chip.read(_CONFIGURATION)) != self._configuration:
            raise OSError(
                f"{self.name} does not keep its configuration (0x{answer:04x}, not 0x{self._configuration:04x}): is it "
                f"an {self.kind_of_chip.upper()}?"
            )

    @abstractmethod
    def _mode(self) -> int:
        """The configuration without averaging: continuous conversion of both voltages, with the range."""

    @abstractmethod
    def _full_scale(self) -> float:
        """The largest shunt voltage, at which the reading is cut off."""

    @abstractmethod
    def _bus_volts(self, value: int) -> float:
        """The voltage of the bus register."""


class Ina219(_Ina2xx):
    """An INA219: 12 bits, a range of the shunt voltage of 40, 80, 160 or 320 mV, and up to 26 V."""

    kind_of_chip = "ina219"
    # The same averaging of both voltages, which are converted one after the other; 532 us for each reading.
    averages: ClassVar[Mapping[int, tuple[int, float]]] = {
        number: ((0b1000 | bits) << 7 | (0b1000 | bits) << 3, 2 * microseconds / 1e6)
        for bits, (number, microseconds) in enumerate(
            [(1, 532), (2, 1060), (4, 2130), (8, 4260), (16, 8510), (32, 17020), (64, 34050), (128, 68100)]
        )
    }
    usual_averages = 128
    volts_per_step = 10e-6
    gain_error = 0.005 + 0.005  # current and bus voltage, INA219A; an INA219B is better

    def _range(self) -> int:
        for bits in range(4):
            if self._largest <= _ROUNDED * 0.040 * 2**bits:
                return bits
        raise _too_large(self._largest, self._ohms, 0.320)

    def _mode(self) -> int:
        return 1 << 13 | self._range() << 11 | 0b111  # 32 V

    def _full_scale(self) -> float:
        return 0.040 * (1 << self._range()) - self.volts_per_step / 2

    def _bus_volts(self, value: int) -> float:
        if value & 1:
            raise ValueError(f"{self.name} reports an overflow")
        return (value >> 3) * 4e-3


class Ina226(_Ina2xx):
    """An INA226: 16 bits, a shunt voltage of up to 81.92 mV, and up to 36 V."""

    kind_of_chip = "ina226"
    # 1.1 ms for each reading of each voltage.
    averages: ClassVar[Mapping[int, tuple[int, float]]] = {
        number: (bits << 9, number * 2 * 1.1e-3) for bits, number in enumerate([1, 4, 16, 64, 128, 256, 512, 1024])
    }
    usual_averages = 64
    volts_per_step = 2.5e-6
    gain_error = 0.001 + 0.001  # shunt and bus voltage

    def _mode(self) -> int:
        if self._largest > _ROUNDED * 0.08192:
            raise _too_large(self._largest, self._ohms, 0.08192)
        return 0x4000 | 0b100 << 6 | 0b100 << 3 | 0b111

    def _full_scale(self) -> float:
        return 32767 * self.volts_per_step

    def _bus_volts(self, value: int) -> float:
        return value * 1.25e-3


def _too_large(volts: float, ohms: float, largest: float) -> ConfigError:
    return ConfigError(
        f"the largest current gives {volts * 1000:.0f} mV at the shunt, and the chip measures {largest * 1000:.0f} mV",
        hint=f"set meter.options.max_amperes to {largest / ohms:.3g} or less, or use a smaller shunt",
    )


def _address(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0x40 <= value <= 0x4F:
        raise ConfigError(
            f"the meter option address is {value!r}",
            hint="set meter.options.address to a number from 0x40 to 0x4F, as `i2cdetect -y 1` shows it",
        )
    return value


def _positive(name: str, value: object) -> float:
    number = options.number(name, value)
    if number == 0:
        raise ConfigError(f"the meter option {name} is 0", hint=f"set meter.options.{name} to a number above 0")
    return number
