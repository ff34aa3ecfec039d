"""The profile of a run: which layers take the time, where they run, and how the sum compares with the latency."""

from __future__ import annotations

from typing import Any

from edlab.record import RunRecord
from edlab.reports.sheet import Cell, Heading, Note, Sheet

TOP = 10
_SAME = 1.2  # the ratio of two times up to which the machine was in the same state
_FACTS = (("operator", "operator"), ("kernel", "kernel"), ("precision", "precision"), ("where", "place"))


def profile_of(record: RunRecord) -> dict[str, Any] | None:
    """The profile in a record; None if it was not requested."""
    profile: dict[str, Any] | None = record.details.get("phases", {}).get("profile")
    return profile


def profile_sheet(record: RunRecord, top: int | None = TOP) -> Sheet:
    """The `top` slowest layers of a run with a profile (None: all), and what it covers; or why there are none."""
    profile = profile_of(record) or {}
    if not profile.get("rows"):
        reason = profile.get("reason", "it was not requested")
        return Sheet([], title=f"profile not available: {reason}")
    rows = sorted(profile["rows"], key=lambda row: -row["ms"])
    shown = rows[:top]
    mark = "\u2248" if "stand_in" in record.tags else ""
    shared = {title: rows[0][key] for title, key in _FACTS if len(rows) > 1 and len({row[key] for row in rows}) == 1}
    kept = [(title, key) for title, key in _FACTS if title not in shared]
    headings = [
        *(Heading(text, is_number=True) for text in ("ms", "share", "MMAC", "GMAC/s")),
        *(Heading(title, is_spare=True) for title, _ in kept),
        Heading("layer of the model", folds=True),
    ]
    cells: list[list[Cell] | str] = [
        [
            Cell(f"{mark}{row['ms']:.3g}"),
            Cell(f"{row['share']:.1%}"),
            Cell(f"{row['macs'] / 1e6:.3g}" if row["macs"] else ""),
            Cell(f"{mark}{row['gmacs_per_s']:.3g}" if row["gmacs_per_s"] else ""),
            *(Cell(row[key]) for _, key in kept),
            Cell(_layer(row)),
        ]
        for row in shown
    ]
    facts = ", ".join(f"{name} {value}" for name, value in shared.items() if value)
    notes = [facts, _rest(rows[len(shown) :]), *_sums(profile, mark), _unnamed(profile)]
    title = f"profile: the {len(shown)} slowest of {len(rows)} layers"
    return Sheet(headings, cells, shown, title, [Note(note) for note in notes if note])


def _layer(row: dict[str, Any]) -> str:
    """The layers of the model that a row computes, by their modules if these are known; else the runtime's own name."""
    if not row["layers"]:
        return f"(added by the runtime: {row['name']})"
    names = row["modules"] or row["layers"][:1]
    more = len(row["layers"]) - 1
    return ", ".join(names) + (f" (+{more} fused)" if more else "")


def _rest(rows: list[dict[str, Any]]) -> str:
    share = sum(row["share"] for row in rows)
    return f"the other {len(rows)} layers take {share:.1%}; profile.csv of the run has all" if rows else ""


def _sums(profile: dict[str, Any], mark: str) -> list[str]:
    """The sum of the layers next to the latency without the profiler, right before it and in the latency phase."""
    medians, means = (sum(row[key] for row in profile["rows"]) for key in ("ms", "mean_ms"))
    query, latency = profile["query_ms"], profile["latency_ms"]
    difference = means / query - 1
    if means > _SAME * medians:
        why = f"other programs interrupted the layers, whose medians add up to {mark}{medians:.3g} ms"
    elif difference > 0:
        why = "the profiler adds time to each layer, which matters most for small ones"
    else:
        why = "the rest is outside the layers: copies, scheduling, the call itself"
    lines = [
        f"sum of the layers {mark}{means:.3g} ms; a query right before, without the profiler, {mark}{query:.3g} ms "
        f"(means of {profile['runs']}): {difference:+.0%}; {why}"
    ]
    if latency is not None:
        lines.append(f"latency_ms of the run {mark}{latency:.3g} ms" + _load(query / latency))
    return lines


def _load(ratio: float) -> str:
    """What a query right before the profile says about the machine, next to those of the latency phase."""
    if 1 / _SAME < ratio < _SAME:
        return ""
    return f"; right before the profile x {ratio:.2g}: the load or the clocks of the machine have changed"


def _unnamed(profile: dict[str, Any]) -> str:
    """The work in layers of the model that no row names."""
    if not profile["macs"]:
        return "no row could be mapped to the model: its layers are unknown in this format"
    missing = 1 - sum(row["macs"] or 0 for row in profile["rows"]) / profile["macs"]
    return f"{missing:.1%} of the MACs are in layers that the runtime does not name" if missing > 0.0005 else ""
