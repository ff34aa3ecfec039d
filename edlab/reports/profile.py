"""The profile of a run: which layers take the time, where they run, and how the sum compares with the latency."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from edlab.record import RunRecord

TOP = 10
_FACTS = (("operator", "operator"), ("kernel", "kernel"), ("precision", "precision"), ("where", "place"))


def profile_of(record: RunRecord) -> dict[str, Any] | None:
    """The profile in a record; None if it was not requested."""
    profile: dict[str, Any] | None = record.details.get("phases", {}).get("profile")
    return profile


def show_profile(record: RunRecord, top: int = TOP) -> RenderableType:
    """The slowest layers of a run that has a profile, and what the profile covers; or why there are no layers."""
    profile = profile_of(record) or {}
    if not profile.get("rows"):
        return Text(f"profile not available: {profile.get('reason', 'it was not requested')}")
    rows = sorted(profile["rows"], key=lambda row: -row["ms"])
    mark = "\u2248" if "stand_in" in record.tags else ""
    shared = {
        title: values.pop() for title, key in _FACTS if len(values := {row[key] for row in rows}) == 1 and rows[1:]
    }
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0), collapse_padding=True)
    for heading in ("ms", "share", "MMAC", "GMAC/s"):
        table.add_column(heading, justify="right", no_wrap=True)
    kept = [(title, key) for title, key in _FACTS if title not in shared]
    for title, _ in kept:
        table.add_column(title, overflow="ellipsis", no_wrap=True)
    table.add_column("layer of the model", overflow="fold", min_width=18)
    for row in rows[:top]:
        table.add_row(
            f"{mark}{row['ms']:.3g}",
            f"{row['share']:.1%}",
            f"{row['macs'] / 1e6:.3g}" if row["macs"] else "",
            f"{mark}{row['gmacs_per_s']:.3g}" if row["gmacs_per_s"] else "",
            *(escape(row[key]) for _, key in kept),
            escape(_layer(row)),
        )
    title = f"profile: the {min(top, len(rows))} slowest of {len(rows)} layers"
    facts = ", ".join(f"{name} {value}" for name, value in shared.items() if value)
    notes = [_rest(rows[top:]), *_sums(profile, mark), _unnamed(profile)]
    lines = [Text(note) for note in notes if note]
    return Group(Text(title, "bold"), *([Text(facts)] if facts else []), table, *lines)


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
    """The sum of the layers next to the latency that was measured without the profiler."""
    total, median, mean = (sum(row["ms"] for row in profile["rows"]), *_latencies(profile))
    line = f"sum of the layers {mark}{total:.3g} ms (medians of {profile['runs']} queries)"
    if not median:
        return [line]
    difference = total / median - 1
    why = (
        "the profiler adds time to each layer, which matters most for small ones"
        if difference > 0
        else "the rest is outside the layers: copies, scheduling, the call itself"
    )
    return [
        f"{line}; latency without the profiler: median {mark}{median:.3g} ms, mean {mark}{mean:.3g} ms",
        f"the sum differs from the median latency by {difference:+.0%}: {why}",
    ]


def _latencies(profile: dict[str, Any]) -> tuple[float, float]:
    return profile["median_latency_ms"] or 0.0, profile["latency_ms"] or 0.0


def _unnamed(profile: dict[str, Any]) -> str:
    """The work in layers of the model that no row names."""
    if not profile["macs"]:
        return "no row could be mapped to the model: its layers are unknown in this format"
    missing = 1 - sum(row["macs"] or 0 for row in profile["rows"]) / profile["macs"]
    return f"{missing:.1%} of the MACs are in layers that the runtime does not name" if missing > 0.0005 else ""
