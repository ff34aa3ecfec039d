"""The requirements of every kind of power sensor, as tests that a third party's test class inherits.

    class TestAcmeSensor(SensorConformance):
        sensor = "acme"  # the name of its entry point in edlab.sensors

If this machine has no such sensor, the tests of its readings are skipped.
"""

from __future__ import annotations

import importlib
import math
import time
from typing import ClassVar

import pytest

from edlab.agent.sensors.base import BOUNDARIES, Found, Recorder, Sample, Sensor
from edlab.registry import plugins
from edlab.testing.sources import problems

_PATIENCE_S = 10.0  # for a first reading
_INTERVAL_S = 0.05


class SensorConformance:
    """Subclass with `sensor`; or with `survey`, for a kind that is not installed as an entry point."""

    sensor: ClassVar[str]

    def survey(self) -> Found:
        """What the kind's module finds on this machine."""
        found: Found = importlib.import_module(plugins("sensors")[self.sensor].value).survey()
        return found

    @pytest.fixture
    def sensors(self) -> list[Sensor]:
        found = self.survey()
        if not found.sensors:
            pytest.skip("no such sensor can be read here: " + "; ".join(each.reason for each in found.unusable))
        return found.sensors

    def test_looking_for_sensors_gives_them_or_the_reason(self) -> None:
        found = self.survey()
        assert all(isinstance(each, Sensor) for each in found.sensors)
        assert all(each.name and each.kind and each.reason for each in found.unusable)

    def test_its_sources_are_for_python_3_7_and_import_only_the_agent(self) -> None:
        """See `edlab.testing.sources.problems` for what is checked; only an entry point is sent to a target."""
        assert not hasattr(self, "sensor") or not problems(plugins("sensors")[self.sensor].value)

    def test_each_says_what_its_watts_include(self, sensors: list[Sensor]) -> None:
        assert all(each.boundary in BOUNDARIES for each in sensors)
        assert all(each.kind and math.isfinite(each.lag_s) and each.lag_s >= 0 for each in sensors)

    def test_each_is_found_again_by_its_name(self, sensors: list[Sensor]) -> None:
        names = [each.name for each in sensors]
        assert len(set(names)) == len(names)
        assert names == [each.name for each in self.survey().sensors]

    def test_watts_are_finite_and_times_go_on(self, sensors: list[Sensor]) -> None:
        for sensor in sensors:
            first, second = _next_sample(sensor), _next_sample(sensor)
            assert all(math.isfinite(sample.watts) and sample.watts >= 0 for sample in (first, second))
            assert first.t_ns < second.t_ns <= time.perf_counter_ns()

    def test_a_recording_holds_watts_in_order_of_time(self, sensors: list[Sensor]) -> None:
        for sensor in sensors:
            start_ns, recorder = time.perf_counter_ns(), Recorder(sensor, _INTERVAL_S)
            recorder.start()
            try:
                end = time.monotonic() + _PATIENCE_S
                while len(recorder.series(start_ns, time.perf_counter_ns())) < 3 and time.monotonic() < end:
                    time.sleep(_INTERVAL_S)
            finally:
                recorder.stop()
            end_ns = time.perf_counter_ns()
            series, failures = recorder.series(start_ns, end_ns), recorder.failures(start_ns, end_ns)
            assert len(series) >= 3, f"{sensor.name}: {len(series)} readings in {_PATIENCE_S:g} s; {failures}"
            assert (series[1:, 0] > series[:-1, 0]).all()
            assert (series[:, 1] >= 0).all()


def _next_sample(sensor: Sensor) -> Sample:
    """The next reading; a failed or incomplete one is requested again, as the agent does."""
    end = time.monotonic() + _PATIENCE_S
    error: Exception | None = None
    while time.monotonic() < end:
        try:
            if sample := sensor.read():
                return sample
        except (OSError, ValueError) as failed:
            error = failed
        time.sleep(0.05)
    pytest.fail(f"{sensor.name} has no reading within {_PATIENCE_S:g} s: {error}")
