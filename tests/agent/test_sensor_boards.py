"""What is found on each board of `sysfs_boards`, which sensor its configuration takes, and the watts that it reads."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import NoReturn
from unittest.mock import Mock

import pytest
from sysfs_boards import BOARDS, JETSON_AGX_ORIN, JETSON_AGX_XAVIER, JETSON_NANO, LAPTOP, RASPBERRY_PI_5, Board
from test_sensors import write

from edlab.agent import sensors
from edlab.agent.sensors import hwmon, ina3221, nvml, pmic, power_supply
from edlab.agent.sensors.base import Found, Sensor
from edlab.composition import compose_config
from edlab.config import MeterConfig
from edlab.power import Choice, Source, choose
from edlab.power.board import Target

SECOND_NS = 1_000_000_000


def vcgencmd(folder: Path, output: str, code: int = 0) -> None:
    """A stand-in for the program of the Raspberry Pi: it prints this for `pmic_read_adc`."""
    folder.mkdir(exist_ok=True)
    (folder / "output").write_text(output)
    program = folder / "vcgencmd"
    program.write_text(f'#!/bin/sh\n[ "$1" = pmic_read_adc ] || exit 9\n/bin/cat {folder}/output\nexit {code}\n')
    program.chmod(0o755)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on PATH, and a machine without an NVIDIA card."""
    monkeypatch.setenv("PATH", str(tmp_path / "programs"))
    monkeypatch.setattr(nvml, "survey", lambda: Found([], []))
    return tmp_path / "programs"


def stand_in(board: Board, tmp_path: Path, programs: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The board's sysfs and programs, as the agent finds them."""
    board.write(tmp_path / "sys")
    if board.vcgencmd:
        vcgencmd(programs, board.vcgencmd)
    monkeypatch.setenv("EDLAB_SYSFS", str(tmp_path / "sys"))
    return tmp_path / "sys"


def watts(found: list[Sensor], board: Board, root: Path, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What each sensor reads; counters are read every second."""
    read: list[float] = []
    for sensor in found:
        for second in range(3):
            board.count(root, second)
            with monkeypatch.context() as patch:
                patch.setattr(time, "perf_counter_ns", lambda second=second: second * SECOND_NS)
                sample = sensor.read()
        assert sample is not None, sensor.name
        read.append(sample.watts)
    return read


def chosen(device: str, *overrides: str) -> Choice:
    """What a run with this device takes of the sensors that are found now."""
    config = compose_config([f"device={device}", *overrides])
    target = Mock(spec=Target)
    target.sensors.return_value = sensors.describe(sensors.survey())
    return choose(config.power, MeterConfig(name="none"), target, config.device)


def names(choice: Choice) -> list[str]:
    assert isinstance(choice.power, Source)
    return [choice.power.name, *(other.name for other in choice.others)]


@pytest.mark.parametrize("name", BOARDS)
def test_a_board_has_the_sensors_that_its_sources_say(
    name: str, tmp_path: Path, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = BOARDS[name]
    root = stand_in(board, tmp_path, programs, monkeypatch)
    found = sensors.survey()
    assert found.unusable == []
    assert [(each.name, each.boundary) for each in found.sensors] == [each[:2] for each in board.sensors]
    assert watts(found.sensors, board, root, monkeypatch) == pytest.approx(
        [each[2] for each in board.sensors], rel=0.005
    )
    assert names(chosen(board.device)) == [board.chosen]


@pytest.mark.parametrize("name", ["jetson agx orin", "jetson agx thor", "jetson nano"])
def test_all_records_every_rail_of_a_jetson_once(
    name: str, tmp_path: Path, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = BOARDS[name]
    stand_in(board, tmp_path, programs, monkeypatch)
    recorded = names(chosen(board.device, "power=all"))
    assert recorded[0] == board.chosen
    assert sorted(recorded) == sorted(each[0] for each in board.sensors)


def test_all_records_the_domains_of_a_processor_next_to_its_packages(
    tmp_path: Path, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(LAPTOP, tmp_path, programs, monkeypatch)
    assert names(chosen("cpu", "power=all")) == ["rapl", "rapl core", "rapl psys", "battery"]
    assert names(chosen("cpu", "power=battery")) == ["battery"]


@pytest.mark.parametrize(
    ("board", "gone", "missing"),
    [
        (JETSON_AGX_ORIN, "class/hwmon/hwmon3/in2_input", "VDD_CPU_CV"),
        (JETSON_AGX_XAVIER, "class/hwmon/hwmon4/curr3_input", "SYS5V"),
    ],
)
def test_a_sum_without_one_of_its_rails_is_refused_with_their_names(
    board: Board, gone: str, missing: str, tmp_path: Path
) -> None:
    """The rails that can be read are still there."""
    board.write(tmp_path)
    (tmp_path / gone).unlink()
    found = ina3221.survey(tmp_path)
    assert {sensor.boundary for sensor in found.sensors} == {"rail"}
    assert len(found.sensors) == len(board.sensors) - 2
    (refused,) = found.unusable
    assert refused.name == board.chosen
    assert f"and {missing} cannot be read" in refused.reason


def test_a_rail_whose_driver_fails_is_named_and_so_is_the_sum(tmp_path: Path) -> None:
    JETSON_AGX_ORIN.write(tmp_path)
    (tmp_path / "class/hwmon/hwmon3/curr1_input").write_text("")
    found = ina3221.survey(tmp_path)
    assert [each.name for each in found.unusable] == [JETSON_AGX_ORIN.chosen, "ina3221 VDD_GPU_SOC"]
    assert "curr1_input is '', not an integer" in found.unusable[1].reason


def test_the_memory_of_an_agx_orin_is_counted_once(tmp_path: Path) -> None:
    """VDDQ_VDD2_1V8AO is a part of VIN_SYS_5V0: the sum is complete without it."""
    JETSON_AGX_ORIN.write(tmp_path)
    (tmp_path / "class/hwmon/hwmon4/in2_input").unlink()
    assert ina3221.survey(tmp_path).sensors[0].name == JETSON_AGX_ORIN.chosen


def test_a_disabled_channel_is_not_a_rail(tmp_path: Path) -> None:
    JETSON_AGX_ORIN.write(tmp_path)
    write(tmp_path / "class/hwmon/hwmon4", in2_enable=0)
    assert "ina3221 VDDQ_VDD2_1V8AO" not in [sensor.name for sensor in ina3221.survey(tmp_path).sensors]


def test_an_ina3221_without_names_has_rails_and_no_module(tmp_path: Path) -> None:
    write(tmp_path / "class/hwmon/hwmon0", name="ina3221", in1_input=5000, curr1_input=100, in2_input=12000)
    assert [(sensor.name, sensor.boundary) for sensor in ina3221.survey(tmp_path).sensors] == [
        ("ina3221 channel 1", "rail")
    ]


def test_the_step_of_a_rail_follows_from_its_shunt(tmp_path: Path) -> None:
    """40 uV at 2 milliohms are 20 mA."""
    JETSON_AGX_ORIN.write(tmp_path)
    write(tmp_path / "class/hwmon/hwmon3", update_interval=7)
    found = {sensor.name: sensor for sensor in ina3221.survey(tmp_path).sensors}
    assert found["ina3221 VDD_GPU_SOC"].resolution_w == pytest.approx(19.688 * 0.020)
    assert found["ina3221 VIN_SYS_5V0"].resolution_w == pytest.approx(4.968 * 0.020)
    assert found[JETSON_AGX_ORIN.chosen].resolution_w == pytest.approx(0.88576)  # the sum of the three
    assert found[JETSON_AGX_ORIN.chosen].lag_s == 0.014
    for shunt in ("", "0"):
        write(tmp_path / "class/hwmon/hwmon3", shunt1_resistor=shunt)
        found = {sensor.name: sensor for sensor in ina3221.survey(tmp_path).sensors}
        assert found["ina3221 VDD_GPU_SOC"].resolution_w is None
        assert found[JETSON_AGX_ORIN.chosen].resolution_w is None


def test_jetpack_4_without_a_power_file_has_the_product(tmp_path: Path) -> None:
    JETSON_NANO.write(tmp_path)
    for path in tmp_path.glob("bus/i2c/drivers/ina3221x/*/*/in_power0_input"):
        path.unlink()
    sample = ina3221.survey(tmp_path).sensors[0].read()
    assert sample is not None
    assert sample.watts == pytest.approx(1.02)  # 5 V and 204 mA


def test_another_boards_ina238_is_one_rail(tmp_path: Path) -> None:
    write(tmp_path / "class/hwmon/hwmon0", name="ina238", power1_input=19_555_200)
    (sensor,) = hwmon.survey(tmp_path / "class/hwmon").sensors
    assert (sensor.name, sensor.boundary) == ("hwmon:ina238 power1", "rail")


BATTERY = {"type": "Battery", "status": "Discharging", "voltage_now": 11_400_000, "current_now": -1_500_000}


@pytest.mark.parametrize(("status", "supply"), [("Charging", 0), ("Not charging", 0), ("Full", 0), ("Discharging", 1)])
def test_a_battery_counts_only_while_it_supplies_the_machine(status: str, supply: int, tmp_path: Path) -> None:
    """Without power_now: 11.4 V and 1.5 A, which some drivers report as negative."""
    write(tmp_path / "ADP1", type="Mains", online=0)
    write(tmp_path / "BAT0", **BATTERY)
    (sensor,) = power_supply.survey(tmp_path).sensors
    sample = sensor.read()
    assert sample is not None
    assert sample.watts == pytest.approx(17.1)
    assert (sensor.name, sensor.kind, sensor.boundary) == ("battery", "battery", "board_dc")
    write(tmp_path / "BAT0", status=status)
    write(tmp_path / "ADP1", online=supply)
    with pytest.raises(ValueError, match="unplug the charger"):
        sensor.read()
    found = power_supply.survey(tmp_path)
    assert found.sensors == []
    assert "unplug the charger" in found.unusable[0].reason
    assert "unplug the charger" in found.unusable[0].hint


def test_the_batteries_of_a_machine_discharge_one_after_the_other(tmp_path: Path) -> None:
    write(tmp_path / "BAT0", **{**BATTERY, "status": "Not charging"})
    write(tmp_path / "BAT1", **BATTERY, power_now=9_000_000)
    (sensor,) = power_supply.survey(tmp_path).sensors
    sample = sensor.read()
    assert sample is not None
    assert sample.watts == 9.0


def test_a_mouse_has_no_battery_of_the_machine(tmp_path: Path) -> None:
    write(tmp_path / "hidpp_battery_0", **BATTERY, scope="Device")
    assert power_supply.survey(tmp_path) == Found([], [])


@pytest.mark.parametrize(
    ("output", "code", "reason"),
    [
        ('error=1 error_msg="Command not registered"\n', 0, "lists no rail: error=1"),  # as on a Pi 4
        ("", 0, "it printed nothing"),
        ("EXT5V_V volt(24)=5.06788000V\nVDD_CORE_A current(7)=1.5A\n", 0, "lists no rail"),
        ("Can't open device file: /dev/vcio\n", 255, "failed with exit code 255: Can't open device file"),
    ],
)
def test_a_pi_without_that_chip_says_so(output: str, code: int, reason: str, programs: Path) -> None:
    vcgencmd(programs, output, code)
    found = pmic.survey()
    assert found.sensors == []
    assert reason in found.unusable[0].reason
    assert "group video" in found.unusable[0].hint


def test_a_pi_that_stops_answering_is_a_failed_reading(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_late(*_: object, **options: float) -> NoReturn:
        raise subprocess.TimeoutExpired("vcgencmd", options["timeout"])

    assert pmic.survey() == Found([], [])  # not installed
    vcgencmd(programs, RASPBERRY_PI_5.vcgencmd)
    (sensor,) = pmic.survey().sensors
    monkeypatch.setattr(subprocess, "run", too_late)
    with pytest.raises(OSError, match="did not answer within 1 s"):
        sensor.read()
