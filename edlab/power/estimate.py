"""Power from the device's specification, if it is not measured."""

from __future__ import annotations

from dataclasses import dataclass

from edlab.config import SpecificationConfig

ESTIMATED = "estimated"
NO_BOUNDARY = "none"


@dataclass(frozen=True)
class Estimate:
    """Typical watts; None if unknown. `reason` is why power was not measured, and not estimated either."""

    reason: str
    watts: float | None = None
    boundary: str = NO_BOUNDARY
    description: str = "none"
    stand_in: str = ""


def estimate(specification: SpecificationConfig, reason: str) -> Estimate:
    """The estimate of the specification; `reason` is why power was not measured."""
    if specification.typical_watts is None:
        return Estimate(f"{reason}, and device.specification.typical_watts is not set")
    description = specification.source or "device.specification"
    return Estimate(reason, specification.typical_watts, ESTIMATED, description)
