"""The result of every metric function: metrics by name, and why others are missing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from edlab.source import Reason


@dataclass(frozen=True)
class Figures:
    """Metrics by name, units in the names. One that is not available is in `missing` with the reason: never 0 or NaN.

    `doubts` are reasons to distrust a measurement, whether a metric is withheld because of them or not.
    """

    values: dict[str, float] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    doubts: tuple[Reason, ...] = ()

    @classmethod
    def withheld(cls, names: Iterable[str], reason: str) -> Figures:
        """All named metrics are missing, for the same reason."""
        return cls(missing=dict.fromkeys(names, reason))

    @classmethod
    def doubted(cls, names: Iterable[str], doubt: Reason) -> Figures:
        """All named metrics are missing, because of a doubt that the verdict repeats; its code begins the reason."""
        return cls(missing=dict.fromkeys(names, f"{doubt.code}: {doubt.message}"), doubts=(doubt,))

    def emulated(self, stand_in: str) -> Figures:
        """The same metrics as `emulated_*`, measured on `stand_in` instead of the device; none keeps its name."""
        reason = f"measured on a stand-in, {stand_in}: see emulated_*"
        missing = {**self.missing, **dict.fromkeys(self.values, reason)}
        return Figures({f"emulated_{name}": value for name, value in self.values.items()}, missing, self.doubts)

    def without(self, names: Iterable[str]) -> Figures:
        """The metrics except the named ones, without doubts."""
        left_out = set(names)
        values = {name: value for name, value in self.values.items() if name not in left_out}
        return Figures(values, self.missing)

    def __or__(self, other: Figures) -> Figures:
        """Both together; `other` has priority if both have a metric."""
        missing = {**self.missing, **other.missing}
        values = {**self.values, **other.values}
        missing = {name: reason for name, reason in missing.items() if name not in values}
        return Figures(values, missing, (*self.doubts, *other.doubts))
