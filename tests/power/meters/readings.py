"""Readings of a meter under test, with patience: a machine that is busy delays the peers."""

from __future__ import annotations

import time

import pytest

from edlab.agent.sensors.base import Sample, Sensor

PATIENCE_S = 30.0


def next_sample(meter: Sensor) -> Sample:
    """The next reading; the first ones may have none yet."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if sample := meter.read():
            return sample
        time.sleep(0.001)
    pytest.fail("no reading came")


def next_answer(meter: Sensor) -> Sample:
    """The same of a meter whose peer may answer too late on a busy machine."""
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            if sample := meter.read():
                return sample
        except TimeoutError:
            if time.monotonic() > end:
                raise


def next_error(meter: Sensor) -> Exception:
    """The next failed reading."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        try:
            meter.read()
        except (OSError, ValueError) as error:
            return error
    pytest.fail("no reading failed")
