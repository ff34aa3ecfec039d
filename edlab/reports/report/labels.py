"""What runs are called in charts: by the settings that distinguish them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape
from textwrap import shorten, wrap

from edlab.comparison import differing, shared
from edlab.record import RunRecord, as_text
from edlab.reports.table import ID, NAMES, short

_LONGEST = 72  # characters of a label
_LINE = 24  # characters of a line of it


def labels(records: Sequence[RunRecord], without: Sequence[str] = (), *, unique: bool = True) -> dict[str, str]:
    """The label of each run by its uuid, from the settings that differ, except those in `without`.

    If they must be `unique`, runs with equal settings get the beginning of their id.
    """
    keys = dict.fromkeys([*NAMES.values(), *differing(records)])
    equal = shared(records, list(keys))
    kept = [key for key in keys if key not in equal and key not in without]
    kept = kept or [key for key in NAMES.values() if key not in without][:1]
    found = {record.uuid: _label(record, kept) for record in records}
    if not unique:
        return found
    excluded = {record.uuid: tuple(as_text(record.params.get(key, "")) for key in without) for record in records}
    counts = Counter((found[uuid], excluded[uuid]) for uuid in found)
    for record in records:
        if counts[found[record.uuid], excluded[record.uuid]] > 1:
            found[record.uuid] += f" {record.run_id[:ID] or record.uuid[:ID]}"
    return found


def _label(record: RunRecord, keys: Sequence[str]) -> str:
    names = [as_text(record.params[key]) for key in keys if key in NAMES.values() and key in record.params]
    others = [f"{short(key)} {as_text(record.params[key])}" for key in keys if _is_other(key) and key in record.params]
    return shorten(" ".join([*names, *others]) or record.name, _LONGEST, placeholder="…")


def _is_other(key: str) -> bool:
    return key not in NAMES.values()


def safe(text: str, width: int = _LINE) -> str:
    """The text for Plotly, which reads some tags of HTML in it, in lines that fit next to a chart."""
    return "<br>".join(escape(line, quote=False) for line in wrap(text, width) or [""])
