"""The requirements of every power meter, as tests that a third party's test class inherits.

class TestAcmeMeter(MeterConformance):
    meter = "acme"  # the name of its entry point in edlab.meters
    options = {"port": "/dev/ttyUSB0"}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from edlab.agent.sensors.base import Found, Sensor
from edlab.power.meter import METERS
from edlab.testing.sensor import SensorConformance


class MeterConformance(SensorConformance):
    """Subclass with `meter` and its `options`. A meter that is not connected to this machine raises `EdlabError`."""

    meter: ClassVar[str]
    options: ClassVar[Mapping[str, Any]] = {}

    def survey(self) -> Found:
        return Found([METERS.load(self.meter)(**self.options)], [])

    def test_each_is_found_again_by_its_name(self, sensors: list[Sensor]) -> None:
        """An open meter must not be opened again."""
        assert sensors[0].name
