"""Rules on the throughput: its search and its window."""

from __future__ import annotations

from collections.abc import Iterator

from edlab.metrics.verdict.facts import Facts, Finding, degraded

_SHARE = 1 / 3  # of what the loop can drive: from here on its own cost is a large part of what was measured


def throughput_rules(facts: Facts) -> Iterator[Finding]:
    if facts.search_unfinished:
        yield degraded(
            "search_unfinished",
            "the search for the best setting ended before its last trials; a better one may exist",
            "raise protocol.max_seconds, or set protocol.throughput.max_batch or max_in_flight lower",
        )
    ips, limit = facts.throughput_ips, facts.driver_limit_ips
    if ips is not None and limit is not None and ips > _SHARE * limit:
        yield degraded(
            "driver_limited",
            f"{ips:,.0f} inferences/s are {ips / limit:.0%} of what edlab's own loop can drive ({limit:,.0f}/s)",
            "take throughput_ips as a lower bound: the model is too small for a Python loop",
        )
