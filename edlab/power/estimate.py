"""Power by the device's specification, if nothing measures it."""

from __future__ import annotations

from dataclasses import dataclass

from edlab.config import SpecificationConfig

ESTIMATED = "estimated"
NO_BOUNDARY = "none"


@dataclass(frozen=True)
class Estimate:
    """Typical watts; None if nothing is known. `reason` is why nothing was measured, or estimated either."""

    reason: str
    watts: float | None = None
    boundary: str = NO_BOUNDARY
    description: str = "none"
    stand_in: str = ""


def estimate(specification: SpecificationConfig, reason: str) -> Estimate:
    """What the specification says; `reason` is why nothing was measured."""
    if specification.typical_watts is None:
        return Estimate(f"{reason}, and device.specification.typical_watts is not set")
    description = specification.source or "device.specification"
    return Estimate(reason, specification.typical_watts, ESTIMATED, description)
