"""Which source of power counts: a sensor first, an estimate that says so, or none with a reason."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from edlab.agent.messages import SensorFound, Sensors, UnusableSensor
from edlab.composition import compose_config
from edlab.config import DeviceConfig, MeterConfig, PowerConfig, Sensor, SpecificationConfig
from edlab.errors import MeasurementError
from edlab.power import Choice, Estimate, Series, Source, choose

RAPL = SensorFound("rapl package-0", "rapl", "package", lag_s=0.0, stand_in="")
NVML = SensorFound("nvml gpu0", "nvml", "module", lag_s=0.0, stand_in="")
METER = SensorFound("hwmon:power_meter power1", "hwmon", "board_dc", lag_s=0.0, stand_in="")
NO_METER = MeterConfig(name="none")
SPECIFIED = DeviceConfig(
    name="cpu",
    sensors=["rapl", "hwmon:power_meter"],
    specification=SpecificationConfig(typical_watts=10.0, source="data sheet, table 3"),
)


def config(sensor: Sensor) -> PowerConfig:
    return PowerConfig(name=str(sensor), sensor=sensor)


class Board:
    """A target that only says which sensors it has."""

    def __init__(self, found: Sensors) -> None:
        self.found = found

    def sensors(self) -> Sensors:
        return self.found

    def clock(self) -> int:
        raise NotImplementedError

    def record_start(self, sensor: str, interval_s: float) -> None:
        raise NotImplementedError

    def record_stop(self, sensor: str) -> None:
        raise NotImplementedError

    def record_series(self, sensor: str, start_ns: int, end_ns: int) -> Series:
        raise NotImplementedError


def found(*sensors: SensorFound, unusable: Sequence[UnusableSensor] = ()) -> Board:
    return Board(Sensors(list(sensors), list(unusable)))


def estimated(chosen: Choice) -> Estimate:
    assert isinstance(chosen.power, Estimate)
    return chosen.power


def measured(chosen: Choice) -> Source:
    assert isinstance(chosen.power, Source)
    return chosen.power


def test_auto_takes_the_first_sensor() -> None:
    source = measured(choose(config(Sensor.auto), NO_METER, found(RAPL, NVML), SPECIFIED))
    assert (source.name, source.boundary) == ("rapl package-0", "package")


def test_a_sensor_of_another_device_does_not_count() -> None:
    assert choose(config(Sensor.auto), NO_METER, found(NVML), SPECIFIED).power.boundary == "estimated"
    assert measured(choose(config(Sensor.auto), NO_METER, found(NVML, RAPL), SPECIFIED)).name == "rapl package-0"


def test_a_sensor_can_be_named() -> None:
    assert (
        measured(choose(config(Sensor.hwmon), NO_METER, found(RAPL, METER), SPECIFIED)).name
        == "hwmon:power_meter power1"
    )


def test_a_rail_that_is_not_the_devices_does_not_count() -> None:
    card = SensorFound("hwmon:amdgpu PPT", "hwmon", "module", lag_s=0.0, stand_in="")
    assert choose(config(Sensor.auto), NO_METER, found(card), SPECIFIED).power.boundary == "estimated"


def test_without_a_sensor_the_specification_is_an_estimate_and_says_so() -> None:
    source = estimated(choose(config(Sensor.auto), NO_METER, found(), SPECIFIED))
    assert (source.watts, source.boundary) == (10.0, "estimated")
    assert source.description == "data sheet, table 3"
    assert "no readable power sensor" in source.reason


def test_without_a_specification_there_is_a_reason() -> None:
    source = estimated(choose(config(Sensor.auto), NO_METER, found(), DeviceConfig(name="bare")))
    assert source.watts is None
    assert "typical_watts" in source.reason


def test_none_reads_nothing() -> None:
    source = estimated(choose(config(Sensor.none), NO_METER, found(RAPL), SPECIFIED))
    assert (source.boundary, source.reason) == ("none", "power=none was requested")


def test_a_named_sensor_that_is_absent_is_an_error_not_an_estimate() -> None:
    with pytest.raises(MeasurementError, match="no nvml sensor measures cpu") as caught:
        choose(config(Sensor.nvml), NO_METER, found(RAPL), SPECIFIED)
    assert "power=auto" in caught.value.hint


def test_why_a_sensor_that_sees_the_device_cannot_be_read_is_said() -> None:
    unusable = [
        UnusableSensor("rapl", "rapl", "1 of 2 packages cannot be read: [Errno 13]", hint=""),
        UnusableSensor("nvml:0 Card", "nvml", "error 3", hint=""),
    ]
    source = estimated(choose(config(Sensor.auto), NO_METER, found(unusable=unusable), SPECIFIED))
    assert "rapl: 1 of 2 packages" in source.reason
    assert "Card" not in source.reason
    with pytest.raises(MeasurementError, match="1 of 2 packages"):
        choose(config(Sensor.rapl), NO_METER, found(unusable=unusable), SPECIFIED)


def test_a_tree_of_files_is_named_where_the_figure_comes_from() -> None:
    source = measured(
        choose(config(Sensor.auto), NO_METER, found(RAPL._replace(lag_s=0.5, stand_in="/tmp/tree")), SPECIFIED)
    )
    assert (source.lag_s, source.stand_in) == (0.5, "/tmp/tree")
    assert "/tmp/tree" in source.description


def test_the_cpu_has_no_estimate_of_another_processor() -> None:
    for name in ("cpu", "raspberry_pi"):
        source = estimated(choose(config(Sensor.auto), NO_METER, found(), compose_config([f"device={name}"]).device))
        assert source.watts is None
        assert "device.specification.typical_watts" in source.reason


def test_all_records_the_other_sensors_of_the_device_too() -> None:
    board = found(NVML, METER, RAPL)
    assert measured(choose(config(Sensor.all), NO_METER, board, SPECIFIED)).name == RAPL.name
    assert [source.name for source in choose(config(Sensor.all), NO_METER, board, SPECIFIED).others] == [METER.name]
    assert not choose(config(Sensor.auto), NO_METER, board, SPECIFIED).others


def test_next_to_a_meter_the_devices_first_sensor_is_recorded() -> None:
    meter = MeterConfig(name="um25c", kind="um25c", options={"port": "/dev/rfcomm0"})
    board = found(NVML, METER, RAPL)
    assert [source.name for source in choose(config(Sensor.auto), meter, board, SPECIFIED).others] == [RAPL.name]
    assert not choose(config(Sensor.none), meter, board, SPECIFIED).others


def test_all_without_a_sensor_is_an_estimate() -> None:
    assert estimated(choose(config(Sensor.all), NO_METER, found(), SPECIFIED)).watts == 10.0
