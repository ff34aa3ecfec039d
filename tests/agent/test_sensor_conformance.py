"""Built-in sensors pass the suite that third parties subclass, on trees of files in place of the hardware."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_sensors import fake_rapl, write

from edlab.agent.sensors import hwmon, rapl
from edlab.agent.sensors.base import Found
from edlab.testing.sensor import SensorConformance


class _OnFiles(SensorConformance):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path


class TestRapl(_OnFiles):
    def survey(self) -> Found:
        return rapl.survey(fake_rapl(self.folder))


class TestHwmon(_OnFiles):
    def survey(self) -> Found:
        write(self.folder / "hwmon0", name="ina226", power1_input=2_400_000)
        return hwmon.survey(self.folder)
