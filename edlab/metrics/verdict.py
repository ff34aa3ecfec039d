"""Whether a run's figures can be defended: from plain facts to VALID, DEGRADED or INVALID with reasons."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edlab.record import Reason, Verdict, VerdictState

_DRIFT = 0.05
_SEVERE_DRIFT = 0.20
_INTERVAL = 0.05
_SEVERE_INTERVAL = 0.25
_WINDOW_SPREAD = 0.10
_CLOCK_LOSS = 0.10
_BUSY = 0.10
_AGREEMENT = 0.5
_SLOW_GOVERNORS = ("powersave", "conservative")


@dataclass(frozen=True)
class Facts:
    """What a verdict rests on; None where a target does not say. Shares are 0..1."""

    tier: str  # the protocol's name
    stand_in: str = ""  # what ran in the device's place
    weakened: tuple[str, ...] = ()  # settings that were set below what the tier of this name asks for
    truncated: tuple[str, ...] = ()  # phases that hit their hard limit before their minima
    warmup_settled: bool = True
    latency_ms: float | None = None
    latency_interval_ms: tuple[float, float] | None = None  # 95 %
    latency_drift: float | None = None  # last half's median over the first half's, less 1
    latency_window_spread: float | None = None  # range of the windows' means over the mean
    clock_before_mhz: float | None = None  # under load: at the end of the warm-up
    clock_after_mhz: float | None = None  # and of the throughput window
    throttle_events: int | None = None  # that the processor counted while it was measured
    background_load: float | None = None  # share of the cores that were busy before anything was measured
    governor: str | None = None
    power_mode_changed: str = ""  # what of the target's power mode changed while it was measured
    trained: bool = True
    agreement_top1: float | None = None  # with the unconverted model
    accelerated_fraction: float | None = None  # of the model's operators; the others run on the CPU beside
    real_inputs: bool = True  # photographs or the like, not noise that stands in for them
    images_skipped: int = 0


def judge(facts: Facts) -> Verdict:
    """The worst of what the rules find; VALID where they find nothing.

    | code | state | rule | after |
    |---|---|---|---|
    | minima_not_reached | INVALID | a phase ended before its least queries and seconds | MLPerf LoadGen |
    | latency_drift | DEGRADED; INVALID beyond 20 % | the halves' medians differ by more than 5 % | |
    | wide_confidence_interval | DEGRADED; INVALID beyond 25 % | interval wider than 5 % of the mean | pyperf check |
    | windows_disagree | DEGRADED | the windows' means range over more than 10 % of the mean | pyperf check |
    | warmup_unsettled | DEGRADED | two half-windows never agreed within the tolerance | pyperf, trtexec |
    | throttled | DEGRADED | thermal events, or the clock fell by more than 10 % | |
    | background_load | DEGRADED | over 10 % of the cores were busy before the run | pyperf system |
    | power_mode_changed | INVALID | the target's power mode was another one when the measurement ended | |
    | slow_governor | DEGRADED | the governor is powersave or conservative | pyperf system |
    | protocol_weakened | DEGRADED | settings below what the tier of this name asks for | MLPerf Inference |
    | emulated | DEGRADED | something else stood in for the device: every figure is emulated_* | |
    | partly_on_cpu | DEGRADED | some of the model's operators run on the CPU, not on the accelerator | |
    | tier_smoke | DEGRADED | the smoke tier proves that a run works, not how fast it is | |
    | untrained_weights | DEGRADED | accuracy is withheld; speed holds for the architecture | |
    | synthetic_inputs | DEGRADED | the inputs were not real samples | MLPerf Inference rules |
    | images_skipped | DEGRADED | unreadable images: not the whole data set was scored | MLPerf Inference rules |
    | low_agreement | DEGRADED | a trained model agrees with its source on under half the images | |

    The last column names who has a rule of this kind; the thresholds are edlab's. (MLPerf's LoadGen calls a run that
    misses its minima INVALID; pyperf's `check` warns where the deviation exceeds 10 % of the mean.)

    What is only missing is no reason: a metric that could not be measured is absent and says why, and a power that
    was estimated says so in its name. The other figures are as good without it.
    """
    found = list(_rules(facts))
    invalid = any(state is VerdictState.invalid for state, _ in found)
    state = VerdictState.invalid if invalid else VerdictState.degraded if found else VerdictState.valid
    return Verdict(state=state, reasons=[reason for _, reason in found])


def _rules(facts: Facts) -> Iterator[tuple[VerdictState, Reason]]:
    yield from _protocol_rules(facts)
    yield from _stability_rules(facts)
    yield from _system_rules(facts)
    yield from _model_rules(facts)


def _protocol_rules(facts: Facts) -> Iterator[tuple[VerdictState, Reason]]:
    if facts.truncated:
        yield _invalid(
            "minima_not_reached",
            f"{', '.join(facts.truncated)} ended before the protocol's least queries and seconds",
            "raise protocol.max_seconds, or take a smaller model",
        )
    if facts.weakened:
        yield _degraded(
            "protocol_weakened",
            f"{', '.join(facts.weakened)} were set below what protocol={facts.tier} asks for",
            "leave them as the tier has them, or take a shorter tier by its name",
        )
    if facts.tier == "smoke":
        yield _degraded(
            "tier_smoke",
            "the smoke tier only proves that the run works",
            "measure with protocol=normal or protocol=strict",
        )
    if not facts.warmup_settled:
        yield _degraded(
            "warmup_unsettled",
            "latency had not settled when the warm-up ended",
            "raise protocol.warmup.max_seconds, and stop what else runs on the target",
        )


def _stability_rules(facts: Facts) -> Iterator[tuple[VerdictState, Reason]]:
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
        yield _degraded(
            "windows_disagree",
            f"the windows' mean latencies range over {facts.latency_window_spread:.0%} of the mean",
            "stop what else runs on the target, and fix its clocks",
        )


def _system_rules(facts: Facts) -> Iterator[tuple[VerdictState, Reason]]:
    if facts.stand_in:
        yield _degraded(
            "emulated",
            f"{facts.stand_in} stood in for the device: all figures are emulated_*",
            "measure on the device itself: device.execution=native, and device.host where it is a board",
        )
    if facts.throttle_events:
        yield _throttled(f"the processor counted {facts.throttle_events} thermal events")
    elif facts.clock_before_mhz and facts.clock_after_mhz:
        loss = 1 - facts.clock_after_mhz / facts.clock_before_mhz
        if loss > _CLOCK_LOSS:
            yield _throttled(f"the clock fell from {facts.clock_before_mhz:.0f} to {facts.clock_after_mhz:.0f} MHz")
    if facts.background_load is not None and facts.background_load > _BUSY:
        yield _degraded(
            "background_load",
            f"{facts.background_load:.0%} of the cores were busy before the measurement",
            "stop what else runs on the target",
        )
    if facts.power_mode_changed:
        yield _invalid(
            "power_mode_changed",
            f"while it was measured someone changed {facts.power_mode_changed}",
            "let nobody else use the board, and run it again",
        )
    if facts.governor in _SLOW_GOVERNORS:
        yield _degraded(
            "slow_governor",
            f"the clock governor is '{facts.governor}'",
            "sudo cpupower frequency-set --governor performance",
        )


def _model_rules(facts: Facts) -> Iterator[tuple[VerdictState, Reason]]:
    if not facts.trained:
        yield _degraded(
            "untrained_weights",
            "the weights are random: speed holds for the architecture, accuracy is withheld",
            "give model.weights=PATH of a state dict, or connect once so that model.weights=pretrained can fetch them",
        )
    elif facts.agreement_top1 is not None and facts.agreement_top1 < _AGREEMENT:
        yield _degraded(
            "low_agreement",
            f"only {facts.agreement_top1:.0%} of the checked images have the unconverted model's best class",
            "take more calibration images, per-channel scales, or leave sensitive nodes out (quantization.exclude)",
        )
    if facts.accelerated_fraction is not None and facts.accelerated_fraction < 1:
        yield _degraded(
            "partly_on_cpu",
            f"{1 - facts.accelerated_fraction:.1%} of the operators run on the CPU, not on the accelerator",
            "result.json lists them with the reason of each: see the report of the artifact's last step",
        )
    if not facts.real_inputs:
        yield _degraded(
            "synthetic_inputs",
            "the model was fed noise, not real samples",
            "give real images: dataset=image_folder dataset.path=FOLDER",
        )
    if facts.images_skipped:
        yield _degraded(
            "images_skipped",
            f"{facts.images_skipped} images could not be read and were not scored",
            "replace the files that result.json lists",
        )


def _throttled(message: str) -> tuple[VerdictState, Reason]:
    return _degraded("throttled", message, "cool the target, or set a clock that it can hold")


def _grade(severe: bool) -> VerdictState:
    return VerdictState.invalid if severe else VerdictState.degraded


def _degraded(code: str, message: str, advice: str) -> tuple[VerdictState, Reason]:
    return VerdictState.degraded, Reason(code=code, message=message, advice=advice)


def _invalid(code: str, message: str, advice: str) -> tuple[VerdictState, Reason]:
    return VerdictState.invalid, Reason(code=code, message=message, advice=advice)
