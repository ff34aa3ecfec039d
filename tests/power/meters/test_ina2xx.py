"""The meters ina219 and ina226, against FAKE CHIPS: objects with the chips' registers, in place of a bus's device file.

No chip is connected. What goes to the device file is checked against a socket whose other end answers as a chip does.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from readings import PATIENCE_S, next_sample

from edlab.errors import ConfigError
from edlab.power.meter import METERS
from edlab.power.meters.ina2xx import I2cDevice, Ina219, Ina226
from edlab.testing.meter import MeterConformance

I2C_SLAVE = 0x0703  # linux/i2c-dev.h


class FakeChip:
    """NOT a chip: its registers, whose voltages are there once it has been configured, or after a reset."""

    reset: ClassVar[int]  # the configuration after power-on
    keeps: ClassVar[int] = 0xFFFF  # bits of the configuration that can be set
    shunt: ClassVar[int] = 0
    bus: ClassVar[int] = 0
    error: ClassVar[int] = 0
    configuration: ClassVar[int]
    opened: ClassVar[list[tuple[str, int]]]

    def __init__(self, path: str, address: int) -> None:
        type(self).opened.append((path, address))

    def read(self, register: int) -> int:
        if self.error:
            raise OSError(self.error, os.strerror(self.error))
        return {0: self.configuration, 1: self.shunt & 0xFFFF, 2: self.bus}[register]

    def write(self, register: int, value: int) -> None:
        assert register == 0
        type(self).configuration = value & self.keeps

    def close(self) -> None:
        pass


@pytest.fixture
def chip219(monkeypatch: pytest.MonkeyPatch) -> type[FakeChip]:
    """5 V (bits 15 to 3, with the bit that a conversion is ready), and 40 mV at the shunt."""

    class Fake219(FakeChip):
        reset = configuration = 0x399F
        shunt, bus = 4000, 1250 << 3 | 0b10
        opened: ClassVar[list[tuple[str, int]]] = []

    monkeypatch.setattr(Ina219, "device", Fake219)
    return Fake219


@pytest.fixture
def chip226(monkeypatch: pytest.MonkeyPatch) -> type[FakeChip]:
    """5 V, and 40 mV at the shunt."""

    class Fake226(FakeChip):
        reset = configuration = 0x4127
        shunt, bus = 16000, 4000
        opened: ClassVar[list[tuple[str, int]]] = []

    monkeypatch.setattr(Ina226, "device", Fake226)
    return Fake226


class TestConformance219(MeterConformance):
    meter = "ina219"
    options: ClassVar[dict[str, Any]] = {"max_amperes": 2.0}

    @pytest.fixture(autouse=True)
    def _connected(self, chip219: type[FakeChip]) -> None:
        pass


class TestConformance226(MeterConformance):
    meter = "ina226"
    options: ClassVar[dict[str, Any]] = {"max_amperes": 0.8}

    @pytest.fixture(autouse=True)
    def _connected(self, chip226: type[FakeChip]) -> None:
        pass


def test_their_names_are_in_the_list_of_meters() -> None:
    assert (METERS.load("ina219"), METERS.load("ina226")) == (Ina219, Ina226)


def test_an_ina219(chip219: type[FakeChip]) -> None:
    meter = Ina219(max_amperes=2, bus=7, address=0x41)
    assert (meter.boundary, meter.paced) == ("board_dc", True)
    assert meter.lag_s == pytest.approx(2 * 2 * 0.0681)
    assert chip219.opened == []
    before_ns = time.perf_counter_ns()
    sample = next_sample(meter)
    assert chip219.opened == [("/dev/i2c-7", 0x41)]
    assert chip219.configuration == 0b0011_1111_1111_1111  # 32 V, 320 mV, 128 readings of both, continuous
    assert sample.watts == pytest.approx(5.0 * 0.4)
    assert before_ns < sample.t_ns < time.perf_counter_ns()
    assert meter.resolution_w == pytest.approx(5.0 * 1e-4)
    assert meter.accuracy == pytest.approx(0.005 + 0.005 + 0.01)


def test_an_ina226(chip226: type[FakeChip]) -> None:
    meter = Ina226(max_amperes=8, shunt_ohms=0.01, shunt_tolerance=0.001)
    assert meter.lag_s == pytest.approx(2 * 64 * 2.2e-3)
    sample = next_sample(meter)
    assert chip226.configuration == 0b0100_0111_0010_0111  # 64 readings of 1.1 ms of both, continuous
    assert sample.watts == pytest.approx(5.0 * 4.0)
    assert meter.resolution_w == pytest.approx(5.0 * 2.5e-4)
    assert meter.accuracy == pytest.approx(0.001 + 0.001 + 0.001)


@pytest.mark.parametrize(("amperes", "gain"), [(0.4, 0b00), (0.41, 0b01), (0.8, 0b01), (1.6, 0b10), (3.2, 0b11)])
def test_the_range_of_an_ina219_includes_the_largest_current(
    chip219: type[FakeChip], amperes: float, gain: int
) -> None:
    chip219.shunt = 3999
    next_sample(Ina219(max_amperes=amperes, averages=1))
    assert chip219.configuration >> 11 & 0b11 == gain


@pytest.mark.parametrize(
    ("averages", "bits"), [(1, 0b1000), (2, 0b1001), (4, 0b1010), (8, 0b1011), (64, 0b1110), (128, 0b1111)]
)
def test_the_averaging_of_an_ina219(chip219: type[FakeChip], averages: int, bits: int) -> None:
    next_sample(Ina219(max_amperes=2, averages=averages))
    assert (chip219.configuration >> 7 & 0b1111, chip219.configuration >> 3 & 0b1111) == (bits, bits)


@pytest.mark.parametrize(("averages", "bits"), [(1, 0b000), (4, 0b001), (16, 0b010), (128, 0b100)])
def test_the_averaging_of_an_ina226(chip226: type[FakeChip], averages: int, bits: int) -> None:
    next_sample(Ina226(max_amperes=0.5, averages=averages))
    assert chip226.configuration >> 9 & 0b111 == bits


def test_a_chip_that_was_reset_is_configured_again(chip219: type[FakeChip]) -> None:
    meter = Ina219(max_amperes=2)
    next_sample(meter)
    chip219.configuration = chip219.reset
    assert meter.read() is None
    assert chip219.configuration != chip219.reset
    assert next_sample(meter).watts == pytest.approx(2.0)


def test_no_reading_is_from_before_the_first_conversion(chip226: type[FakeChip]) -> None:
    """1,024 readings of both voltages take 2.25 s."""
    meter = Ina226(max_amperes=0.5, averages=1024)
    start = time.monotonic()
    next_sample(meter)
    assert time.monotonic() - start > 2.2


@pytest.mark.parametrize("shunt", [4000, -4000])
def test_a_current_beyond_the_range_of_an_ina219_fails(chip219: type[FakeChip], shunt: int) -> None:
    meter = Ina219(max_amperes=0.4, averages=1)
    chip219.shunt = shunt
    with pytest.raises(ValueError, match=r"exceeds 0\.4 A"):
        next_sample(meter)
    chip219.shunt = 2000
    assert next_sample(meter).watts == pytest.approx(1.0)


def test_a_current_beyond_the_range_of_an_ina226_fails(chip226: type[FakeChip]) -> None:
    chip226.shunt = 0x7FFF
    with pytest.raises(ValueError, match=r"exceeds 0\.819 A"):
        next_sample(Ina226(max_amperes=0.5, averages=1))


def test_a_shunt_that_is_the_wrong_way_round_fails(chip219: type[FakeChip]) -> None:
    chip219.shunt = -100
    with pytest.raises(ValueError, match=r"-0\.05 W: are IN\+ and IN- the wrong way round"):
        next_sample(Ina219(max_amperes=2, averages=1))


def test_an_overflow_of_an_ina219_fails(chip219: type[FakeChip]) -> None:
    chip219.bus |= 1
    with pytest.raises(ValueError, match="overflow"):
        next_sample(Ina219(max_amperes=2, averages=1))


def test_another_chip_is_refused(chip219: type[FakeChip]) -> None:
    chip219.keeps = 0x00FF
    with pytest.raises(OSError, match=r"does not keep its configuration .* is it an INA219\?"):
        Ina219(max_amperes=2).read()


def test_a_chip_that_does_not_answer_is_opened_again(chip219: type[FakeChip]) -> None:
    meter = Ina219(max_amperes=2, averages=1)
    next_sample(meter)
    chip219.error = errno.EREMOTEIO
    for _ in range(2):
        with pytest.raises(OSError, match="Remote I/O"):
            meter.read()
    chip219.error = 0
    assert next_sample(meter).watts == pytest.approx(2.0)
    meter.close()
    assert next_sample(meter).watts == pytest.approx(2.0)
    assert len(chip219.opened) == 4


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (Ina219, {"max_amperes": 3.3}),
        (Ina219, {"max_amperes": 0}),
        (Ina219, {"max_amperes": -1}),
        (Ina219, {"max_amperes": "2 A"}),
        (Ina219, {"max_amperes": 1, "shunt_ohms": 0}),
        (Ina219, {"max_amperes": 1, "shunt_tolerance": -0.1}),
        (Ina219, {"max_amperes": 1, "averages": 256}),
        (Ina219, {"max_amperes": 1, "bus": -1}),
        (Ina219, {"max_amperes": 1, "address": 0x50}),
        (Ina219, {"max_amperes": 1, "address": "0x40"}),
        (Ina219, {"max_amperes": 1, "boundary": "dc"}),
        (Ina226, {"max_amperes": 0.83}),
        (Ina226, {"max_amperes": 0.5, "averages": 2}),
    ],
)
def test_wrong_options_are_refused(kind: Callable[..., Any], options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as refused:
        kind(**options)
    assert "meter.options" in refused.value.hint


def test_the_largest_current_must_be_given() -> None:
    with pytest.raises(TypeError, match="max_amperes"):
        Ina219()  # type: ignore[call-arg]


def test_a_bus_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OSError, match=r"/dev/i2c-99 cannot be opened: .*; is I2C enabled"):
        Ina219(max_amperes=2, bus=99).read()


class TestTheDeviceFile:
    @pytest.fixture
    def other_end(self, monkeypatch: pytest.MonkeyPatch) -> socket.socket:
        """What is written to the file and read from it goes to a socket, as whole transfers."""
        here, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        monkeypatch.setattr(os, "open", lambda path, flags: here.detach())
        self.selected: list[tuple[int, int]] = []
        monkeypatch.setattr(fcntl, "ioctl", lambda file, request, value: self.selected.append((request, value)))
        other.settimeout(PATIENCE_S)
        return other

    def test_registers_are_read_and_written_high_byte_first(self, other_end: socket.socket) -> None:
        device = I2cDevice("/dev/i2c-1", 0x40)
        assert self.selected == [(I2C_SLAVE, 0x40)]
        device.write(0, 0x399F)
        assert other_end.recv(16) == b"\x00\x39\x9f"
        chip = threading.Thread(target=lambda: (other_end.recv(16), other_end.send(b"\x01\x02")))
        chip.start()
        assert device.read(2) == 0x0102
        chip.join()
        device.close()

    def test_half_an_answer_and_a_broken_bus_are_failed_readings(self, other_end: socket.socket) -> None:
        device = I2cDevice("/dev/i2c-1", 0x40)
        other_end.send(b"\x01")
        with pytest.raises(OSError, match="sent 1 bytes, not 2"):
            device.read(2)
        other_end.close()
        with pytest.raises(OSError, match=r"the chip at 0x40 on /dev/i2c-1 cannot be read: .*wiring"):
            device.read(2)
        with pytest.raises(OSError, match=r"the chip at 0x40 on /dev/i2c-1 cannot be set: .*wiring"):
            device.write(0, 1)
        device.close()

    def test_a_file_that_is_no_bus(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.write_bytes(b"")
        with pytest.raises(OSError, match=r"cannot be selected: .*device file of an I2C bus"):
            I2cDevice(str(path), 0x40)

    def test_a_chip_that_the_kernel_uses(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> None:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

        monkeypatch.setattr(fcntl, "ioctl", refuse)
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(OSError, match="driver of the kernel"):
            I2cDevice(str(tmp_path / "file"), 0x40)
