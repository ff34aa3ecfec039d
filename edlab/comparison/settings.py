"""The settings of runs: what differs between them, and what is equal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from edlab.record import RunRecord, Status, as_text

#: Parameters that follow from others, or that cannot change a metric.
_NO_SETTINGS = ("model.input.", "tracking.", "sweep.", "cache.")


def differing(records: Sequence[RunRecord]) -> list[str]:
    """The keys of the configuration that do not have one value in all runs, in the order of the first run with each.

    A setting of a chosen option (`quantization.precision` of `quantization.name`) differs only if it differs between
    runs with the same option.
    """
    return [key for key in _varying(records) if not key.startswith(_NO_SETTINGS) and _differs(records, key)]


def shared(records: Sequence[RunRecord], keys: Sequence[str]) -> dict[str, str]:
    """Those of the keys that have the same value in all runs."""
    values = {key: {as_text(record.params.get(key, "")) for record in records} for key in keys}
    return {key: found.pop() for key, found in values.items() if len(found) == 1}


def _varying(records: Sequence[RunRecord]) -> list[str]:
    """The keys that have several values or that some runs do not have: few of them, however many runs there are."""
    first: dict[str, Any] = {}
    present: Counter[str] = Counter()
    several: set[str] = set()
    for record in records:
        present.update(record.params.keys())
        for key, value in record.params.items():
            other = first.setdefault(key, value)
            if other is not value and key not in several and as_text(other) != as_text(value):
                several.add(key)
    return [key for key, count in present.items() if count < len(records) or key in several]


def _differs(records: Sequence[RunRecord], key: str) -> bool:
    group, _, rest = key.partition(".")
    within = "" if rest == "name" else f"{group}.name"
    values: dict[str, str] = {}
    for record in records:
        if key in record.params or record.status is Status.ok:  # others may have ended before the key was known
            option, value = (as_text(record.params.get(name, "")) for name in (within, key))
            if values.setdefault(option, value) != value:
                return True
    return False
