"""Rules on the protocol, and on how steady the latencies were."""

from __future__ import annotations

import math
from collections.abc import Iterator

from edlab.metrics.stability import Stability
from edlab.metrics.verdict.facts import Facts, Finding, degraded, graded, invalid, meanwhile, steadier

_DRIFT = 0.025  # fitted: a drift of 5 % over the phase is 4.5 % between the middles of the first and the last window
_CHANGE = 0.05  # between the first and the last window
_SCATTERS = 4.0  # and this many times the usual difference of two windows, which is estimated from few
_SEVERE_DRIFT = 0.20
_SEVERE_INTERVAL = 0.25
_BURSTS = 0.05  # of the time
_SHORTEST = "smoke"  # of the tiers


def protocol_rules(facts: Facts) -> Iterator[Finding]:
    """Whether the protocol's minima were requested and reached."""
    if facts.truncated:
        yield invalid(
            "minima_not_reached",
            f"{', '.join(facts.truncated)} ended before the protocol's minimum number of queries and seconds",
            "raise protocol.max_seconds, or use a smaller model",
        )
    if facts.weaker_settings:
        weaker = ", ".join(facts.weaker_settings)
        yield degraded(
            "protocol_weakened",
            f"{weaker} {'is' if len(facts.weaker_settings) == 1 else 'are'} weaker than protocol={facts.tier} requires",
            f"remove {weaker}" + ("" if facts.tier == _SHORTEST else ", or choose a shorter tier"),
        )
    if facts.tier == _SHORTEST:
        yield degraded(
            "tier_smoke",
            "the smoke tier only proves that the run works",
            "measure with protocol=normal or protocol=strict",
        )
    if not facts.warmup_settled:
        yield degraded(
            "warmup_unsettled",
            "latency had not settled when the warm-up ended" + meanwhile(facts, "warmup"),
            steadier(facts),
        )


def stability_rules(facts: Facts) -> Iterator[Finding]:
    """Whether the latency is precise enough, and was stable."""
    if facts.latency_interval_ms and facts.latency_ms:
        low, high = facts.latency_interval_ms
        width = (high - low) / facts.latency_ms
        if width > min(facts.max_interval, _SEVERE_INTERVAL):
            yield graded(
                "wide_confidence_interval",
                f"the mean latency is uncertain by ±{width / 2:.1%} (95 %)" + meanwhile(facts, "latency"),
                steadier(facts),
                severe=width > _SEVERE_INTERVAL and facts.repeats == 1,  # few repeats are uncertain, not wrong
            )
    if facts.stability:
        yield from _change_rules(facts, facts.stability)


def _change_rules(facts: Facts, stability: Stability) -> Iterator[Finding]:
    low, high = stability.drift_interval
    drifts = abs(stability.drift) > _DRIFT and low * high > 0
    limit = max(_CHANGE, _SCATTERS * math.sqrt(2) * stability.scatter)
    if drifts or abs(stability.last_over_first) > limit:
        change = stability.drift if drifts else stability.last_over_first
        how = (
            f"changed by {change:+.1%} over the phase"
            if drifts
            else f"at the end differs by {change:+.1%} from the start"
        )
        yield graded(
            "latency_drift",
            f"the latency {how}" + meanwhile(facts, "latency"),
            steadier(facts),
            severe=abs(change) > _SEVERE_DRIFT,
        )
    if stability.bursts > _BURSTS:
        yield degraded(
            "latency_bursts",
            f"in {stability.bursts:.0%} of the time queries took 15 % or more longer than undisturbed"
            + meanwhile(facts, "latency"),
            steadier(facts),
        )
