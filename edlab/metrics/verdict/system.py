"""Rules on the machine that was measured."""

from __future__ import annotations

from collections.abc import Iterator

from edlab.metrics.verdict.facts import Facts, Finding, degraded, invalid

_CLOCK_LOSS = 0.10
_BUSY = 0.10
_SLOW_GOVERNORS = ("powersave", "conservative")


def system_rules(facts: Facts) -> Iterator[Finding]:
    if facts.stand_in:
        yield degraded(
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
        yield degraded(
            "background_load",
            f"{facts.background_load:.0%} of the cores were busy before the measurement",
            "stop what else runs on the target",
        )
    if facts.power_mode_changed:
        yield invalid(
            "power_mode_changed",
            f"while it was measured someone changed {facts.power_mode_changed}",
            "let nobody else use the board, and run it again",
        )
    if facts.governor in _SLOW_GOVERNORS:
        yield degraded(
            "slow_governor",
            f"the clock governor is '{facts.governor}'",
            "sudo cpupower frequency-set --governor performance",
        )
    if facts.accelerated_fraction is not None and facts.accelerated_fraction < 1:
        yield degraded(
            "partly_on_cpu",
            f"{1 - facts.accelerated_fraction:.1%} of the operators run on the CPU, not on the accelerator",
            "result.json lists them with the reason of each: see the report of the artifact's last step",
        )


def _throttled(message: str) -> Finding:
    return degraded("throttled", message, "cool the target, or set a clock that it can hold")
