"""Rules on the throughput: its search and its window."""

from __future__ import annotations

from collections.abc import Iterator

from edlab.metrics.verdict.facts import Facts, Finding, degraded, graded, meanwhile, steadier

_HELD = 0.98  # of the peak; a target that does not throttle stays above it: docs/metrics.md
_SHARE = 1 / 3  # of the loop's own limit: above this its cost is a large part of the measurement
_WIDE = 0.2  # width of the interval / the mean; the window has few seconds, so that the width is uncertain too
_SEVERE = 0.5
_BELOW = 0.75  # of the rate in the search: trials differ from the window by less on a machine that does nothing else


def throughput_rules(facts: Facts) -> Iterator[Finding]:
    """Whether the search was complete, the rate was steady and sustained, and the driving loop was fast enough."""
    if facts.search_unfinished:
        yield degraded(
            "search_unfinished",
            "the search for the best setting was cut short by its time limit; a better one may exist",
            "raise protocol.max_seconds, or lower protocol.throughput.max_batch or max_in_flight",
        )
    if facts.sustained_ratio is not None and facts.sustained_ratio < _HELD:
        yield degraded(
            "not_sustained",
            f"the throughput ended at {facts.sustained_ratio:.1%} of its peak: throughput_ips is the mean over both",
            "quote throughput_sustained_ips for continuous use, or cool the target",
        )
    yield from _steadiness_rules(facts)
    ips, limit = facts.throughput_ips, facts.driver_limit_ips
    if ips is not None and limit is not None and ips > _SHARE * limit:
        yield degraded(
            "driver_limited",
            f"{ips:,.0f} inferences/s are {ips / limit:.0%} of what edlab's own loop can drive ({limit:,.0f}/s)",
            "treat throughput_ips as a lower bound: the model is too small for a Python loop",
        )


def _steadiness_rules(facts: Facts) -> Iterator[Finding]:
    ips, interval, searched = facts.throughput_ips, facts.throughput_interval_ips, facts.searched_ips
    if not ips or interval is None:
        return
    width = (interval[1] - interval[0]) / ips
    if width > _WIDE:
        yield graded(
            "wide_throughput_interval",
            f"the throughput is uncertain by ±{width / 2:.1%} (95 %)" + meanwhile(facts, "throughput"),
            steadier(facts),
            severe=width > _SEVERE and facts.repeats == 1,  # few repeats are uncertain, not wrong
        )
    if searched is not None and interval[1] < _BELOW * searched:
        yield degraded(
            "throughput_below_search",
            f"the throughput is {ips:,.0f} inferences/s, but the same setting had {searched:,.0f}/s in the search"
            + meanwhile(facts, "throughput"),
            steadier(facts),
        )
