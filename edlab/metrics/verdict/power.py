"""Rules on the power sensor. Missing power, without a sensor, is not a reason."""

from __future__ import annotations

from collections.abc import Iterator

from edlab.metrics.verdict.facts import Facts, Finding, degraded, invalid


def power_rules(facts: Facts) -> Iterator[Finding]:
    """Whether the readings of the sensor are plausible."""
    for doubt in {doubt.code: doubt for doubt in reversed(facts.power.doubts)}.values():  # each once, the first one
        yield degraded(doubt.code, doubt.message, doubt.advice)
    if facts.power.stand_in:
        yield invalid(
            "power_from_files",
            f"power was read from the files under {facts.power.stand_in}, which stand in for a sensor",
            "unset EDLAB_SYSFS (in device.env, and in the environment of edlab)",
        )
