"""What every metric function returns: figures by name, and why others are absent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Figures:
    """Metrics by name, units in the names. One that cannot be had is in `missing` with the reason: never 0 or NaN."""

    values: dict[str, float] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    @classmethod
    def withheld(cls, names: Iterable[str], reason: str) -> Figures:
        """None of the named metrics, all for the same reason."""
        return cls(missing=dict.fromkeys(names, reason))

    def emulated(self, stand_in: str) -> Figures:
        """The same figures as `emulated_*`, where `stand_in` gave them in the device's place; none keeps its name."""
        missing = dict.fromkeys(self.values, f"measured on a stand-in, {stand_in}: see emulated_*")
        return Figures({f"emulated_{name}": value for name, value in self.values.items()}, {**self.missing, **missing})

    def without(self, names: Iterable[str]) -> Figures:
        """The figures that are not named."""
        left_out = set(names)
        return Figures({name: value for name, value in self.values.items() if name not in left_out}, self.missing)

    def __or__(self, other: Figures) -> Figures:
        """Both together; where both speak of a metric, `other` wins."""
        missing = {**self.missing, **other.missing}
        values = {**self.values, **other.values}
        return Figures(values, {name: reason for name, reason in missing.items() if name not in values})
