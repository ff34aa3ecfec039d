"""Built-in sensors pass the suite that third parties subclass, on stand-ins for the hardware."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conformance import Part
from sysfs_boards import JETSON_AGX_ORIN, JETSON_NANO, LAPTOP, RASPBERRY_PI_5, SERVER
from test_sensor_boards import vcgencmd
from test_sensors import FakeNvml, write

from edlab.agent.sensors import hwmon, ina3221, nvml, pmic, power_supply, rapl
from edlab.agent.sensors.base import Found
from edlab.testing.sensor import SensorConformance


class _OnFiles(SensorConformance):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path


class TestRapl(_OnFiles):
    @pytest.fixture(autouse=True)
    def _counting(self, _folder: None) -> Iterator[None]:
        """The counters of a server, which move every millisecond."""

        def count() -> None:
            while not stop.wait(0.001):
                milliseconds = (time.perf_counter_ns() - start_ns) // 1_000_000
                for path, watts in SERVER.counters.items():
                    whole = self.folder / (path + ".whole")  # a reader must not find an empty file
                    whole.write_text(str(1_000_000 + round(milliseconds * watts * 1000)))
                    whole.replace(self.folder / path)

        SERVER.write(self.folder)
        start_ns, stop = time.perf_counter_ns(), threading.Event()
        thread = threading.Thread(target=count)
        thread.start()
        yield
        stop.set()
        thread.join()

    def survey(self) -> Found:
        return rapl.survey(self.folder / "class/powercap")


class TestIna3221(_OnFiles):
    def survey(self) -> Found:
        JETSON_AGX_ORIN.write(self.folder)
        return ina3221.survey(self.folder)


class TestIna3221OfJetPack4(_OnFiles):
    def survey(self) -> Found:
        JETSON_NANO.write(self.folder)
        return ina3221.survey(self.folder)


class TestHwmon(_OnFiles):
    def survey(self) -> Found:
        write(self.folder / "hwmon0", name="ina226", power1_input=2_400_000)
        write(self.folder / "hwmon1", name="amdgpu", power1_average=35_500_000)
        return hwmon.survey(self.folder)


class TestBattery(_OnFiles):
    def survey(self) -> Found:
        LAPTOP.write(self.folder)
        return power_supply.survey(self.folder / "class/power_supply")


class TestPmic(_OnFiles):
    @pytest.fixture(autouse=True)
    def _program(self, _folder: None, monkeypatch: pytest.MonkeyPatch) -> None:
        vcgencmd(self.folder / "programs", RASPBERRY_PI_5.vcgencmd)
        monkeypatch.setenv("PATH", str(self.folder / "programs"))

    def survey(self) -> Found:
        return pmic.survey()


class TestNvml(SensorConformance):
    """On a fake driver, which follows the documented interface."""

    @pytest.fixture(autouse=True)
    def _driver(self, monkeypatch: pytest.MonkeyPatch) -> None:
        driver = FakeNvml(energy_steps=2, fields={185: 70_000, 186: 90_500})
        monkeypatch.setattr(nvml, "_load", lambda library: driver)

    def survey(self) -> Found:
        return nvml.survey()


METER = Part(
    name="acme_meter",
    source="""
import itertools
import time

from edlab.agent.messages import UnusableSensor
from edlab.agent.sensors.base import Found, Sample, Sensor

_COUNT = itertools.count(1)


class Meter(Sensor):
    def read(self):
        return Sample(time.perf_counter_ns(), 2.5)


def survey():
    other = UnusableSensor("acme_meter:1", "acme_meter", "not plugged in", "")
    return Found([Meter("acme_meter:0", "acme_meter", "module")], [other])
""",
    entries=("edlab.sensors: acme_meter = acme_meter",),
    suite="""
from edlab.testing.sensor import SensorConformance


class TestMeter(SensorConformance):
    sensor = "acme_meter"
""",
)

# What of the sensor above is replaced, by what, and the test of the suite that must see it.
BROKEN = [
    ('"not plugged in"', '""', "test_looking_for_sensors_gives_them_or_the_reason"),
    ('"module")', '"the lot")', "test_each_says_what_its_watts_include"),
    (
        "import itertools",
        "import edlab.config, itertools",
        "test_its_sources_are_for_python_3_7_and_import_only_the_agent",
    ),
    (
        "_COUNT = itertools",
        "(_N := 1); _COUNT = itertools",
        "test_its_sources_are_for_python_3_7_and_import_only_the_agent",
    ),
    ('"acme_meter:0"', '"acme_meter:%d" % next(_COUNT)', "test_each_is_found_again_by_its_name"),
    ("2.5", 'float("nan")', "test_watts_are_finite_and_times_go_on"),
    ("time.perf_counter_ns()", "1", "test_watts_are_finite_and_times_go_on"),
]


def test_the_suite_fails_sensors_that_break_a_rule(tmp_path: Path) -> None:
    METER.check_suite(tmp_path, BROKEN)


WALL_METER = Part(
    name="acme_wall",
    source="""
from edlab.agent.sensors.base import PowerSensor


class Meter(PowerSensor):
    def __init__(self, port):
        super().__init__("acme at %s" % port, "acme", "wall_ac")

    def watts(self):
        return 2.5
""",
    entries=("edlab.meters: acme_wall = acme_wall:Meter",),
    suite="""
from edlab.testing.meter import MeterConformance


class TestMeter(MeterConformance):
    meter = "acme_wall"
    options = {"port": "usb1"}
""",
)


def test_the_suite_of_meters_passes_a_sound_one_and_fails_broken_ones(tmp_path: Path) -> None:
    WALL_METER.check_suite(
        tmp_path,
        [
            ('"wall_ac"', '"the_wall"', "test_each_says_what_its_watts_include"),
            ("return 2.5", "return -2.5", "test_watts_are_finite_and_times_go_on"),
            ("return 2.5", "raise OSError('lost')", "test_a_recording_holds_watts_in_order_of_time"),
        ],
    )
