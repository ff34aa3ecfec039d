"""Rules on the protocol and on how steady the latencies were."""

from __future__ import annotations

from collections.abc import Iterator

from edlab.metrics.verdict.facts import Facts, Finding, degraded, invalid
from edlab.record import VerdictState
from edlab.source import Reason

_DRIFT = 0.05
_SEVERE_DRIFT = 0.20
_INTERVAL = 0.05
_SEVERE_INTERVAL = 0.25
_WINDOW_SPREAD = 0.10


def protocol_rules(facts: Facts) -> Iterator[Finding]:
    if facts.truncated:
        yield invalid(
            "minima_not_reached",
            f"{', '.join(facts.truncated)} ended before the protocol's least queries and seconds",
            "raise protocol.max_seconds, or take a smaller model",
        )
    if facts.weakened:
        yield degraded(
            "protocol_weakened",
            f"{', '.join(facts.weakened)} were set below what protocol={facts.tier} asks for",
            "leave them as the tier has them, or take a shorter tier by its name",
        )
    if facts.tier == "smoke":
        yield degraded(
            "tier_smoke",
            "the smoke tier only proves that the run works",
            "measure with protocol=normal or protocol=strict",
        )
    if not facts.warmup_settled:
        yield degraded(
            "warmup_unsettled",
            "latency had not settled when the warm-up ended",
            "raise protocol.warmup.max_seconds, and stop what else runs on the target",
        )


def stability_rules(facts: Facts) -> Iterator[Finding]:
    if facts.latency_drift is not None and abs(facts.latency_drift) > _DRIFT:
        yield (
            _grade(abs(facts.latency_drift) > _SEVERE_DRIFT),
            Reason(
                code="latency_drift",
                message=f"the last half's median latency is {facts.latency_drift:+.1%} off the first half's",
                advice="cool the target, fix its clocks, or lengthen the warm-up (protocol.warmup.seconds)",
            ),
        )
    if facts.latency_interval_ms and facts.latency_ms:
        low, high = facts.latency_interval_ms
        width = (high - low) / facts.latency_ms
        if width > _INTERVAL:
            yield (
                _grade(width > _SEVERE_INTERVAL),
                Reason(
                    code="wide_confidence_interval",
                    message=f"the mean's 95 % interval, {low:.3g} to {high:.3g} ms, is {width:.0%} of the mean wide",
                    advice="take a longer tier (protocol=normal or strict), and stop what else runs on the target",
                ),
            )
    if facts.latency_window_spread is not None and facts.latency_window_spread > _WINDOW_SPREAD:
        yield degraded(
            "windows_disagree",
            f"the windows' mean latencies range over {facts.latency_window_spread:.0%} of the mean",
            "stop what else runs on the target, and fix its clocks",
        )


def _grade(severe: bool) -> VerdictState:
    return VerdictState.invalid if severe else VerdictState.degraded
