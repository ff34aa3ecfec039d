"""What every metric function returns: figures by name, and why others are absent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from edlab.source import Reason


@dataclass(frozen=True)
class Figures:
    """Metrics by name, units in the names. One that cannot be had is in `missing` with the reason: never 0 or NaN.

    `doubts` are reasons to distrust what was measured, whether a figure was withheld for them or not.
    """

    values: dict[str, float] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    doubts: tuple[Reason, ...] = ()

    @classmethod
    def withheld(cls, names: Iterable[str], reason: str) -> Figures:
        """None of the named metrics, all for the same reason."""
        return cls(missing=dict.fromkeys(names, reason))

    @classmethod
    def doubted(cls, names: Iterable[str], doubt: Reason) -> Figures:
        """None of the named metrics, for a doubt that the verdict repeats; its code begins the reason."""
        return cls(missing=dict.fromkeys(names, f"{doubt.code}: {doubt.message}"), doubts=(doubt,))

    def emulated(self, stand_in: str) -> Figures:
        """The same figures as `emulated_*`, where `stand_in` gave them in the device's place; none keeps its name."""
        reason = f"measured on a stand-in, {stand_in}: see emulated_*"
        missing = {**self.missing, **dict.fromkeys(self.values, reason)}
        return Figures({f"emulated_{name}": value for name, value in self.values.items()}, missing, self.doubts)

    def without(self, names: Iterable[str]) -> Figures:
        """The figures that are not named, and no doubts."""
        left_out = set(names)
        values = {name: value for name, value in self.values.items() if name not in left_out}
        return Figures(values, self.missing)

    def __or__(self, other: Figures) -> Figures:
        """Both together; where both speak of a metric, `other` wins."""
        missing = {**self.missing, **other.missing}
        values = {**self.values, **other.values}
        missing = {name: reason for name, reason in missing.items() if name not in values}
        return Figures(values, missing, (*self.doubts, *other.doubts))
